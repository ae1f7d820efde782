//! An adapter's decision rule and the predictions of rows → what the rule says about each, and
//! warnings where the rows do not look like those that it rests on.

use std::path::Path;

use super::options::AnswerOptions;
use super::report::answers_of;
use super::{AnswerError, DecisionWord, Prediction};
use crate::bundle::{Decision, DecisionPredictions, PredictWith, weights_hash};
use crate::data::{EncodedSet, Task};
use crate::decide::{Case, ConformalMartingale, Evidence, KolmogorovSmirnov, Verdict};
use crate::metrics::{LogProbabilities, log_softmax, mean_of_draws, uncertainties};
use crate::predict::SetProbabilities;
use crate::random::{Purpose, stream, uniform};
use crate::watch::{Event, Watch};

/// The probability, under exchangeability, of each of the two warnings.
const ALARM: f64 = 0.01;

/// The decision in an adapter's folder, if it can be applied with these options: with a warning,
/// it is left aside where they ask for other predictions than it is about.
///
/// # Errors
/// If it is malformed.
pub(super) fn decision(
    folder: &Path,
    task: &Task,
    options: &AnswerOptions,
    watch: Watch<'_>,
) -> Result<Option<Decision>, AnswerError> {
    let Some(decision) = Decision::read(folder)? else {
        return Ok(None);
    };
    let own = decision.predictions;
    let differs = match (options.samples, options.scale) {
        (Some(samples), _) if samples != own.samples => Some("number of draws"),
        (_, Some(scale)) if scale != own.scale => Some("τ"),
        _ if answers_of(task) != decision.answers => Some("task"),
        _ if decision.weights.is_some() && decision.weights != Some(weights_hash(folder)?) => {
            Some("state of the adapter's weights")
        }
        _ => None,
    };
    let Some(what) = differs else {
        watch(Event::Note(format!(
            "the adapter's decision: {}",
            decision.promise
        )));
        return Ok(Some(decision));
    };
    let warning = format!(
        "the adapter's decision is about another {what} and promises nothing for these predictions: no row is decided"
    );
    watch(Event::Warning(warning.into()));
    Ok(None)
}

/// What a rule sees of the rows of a set: their log-probabilities at the temperature, `[N][C]`, and
/// their mutual information, nats, `[N]`.
///
/// # Errors
/// If the draws do not belong together, or there are none where the rule averages over them.
pub fn evidence(
    evaluated: &SetProbabilities,
    how: &DecisionPredictions,
) -> Result<(LogProbabilities, Vec<f64>), AnswerError> {
    let SetProbabilities { mean, draws, .. } = evaluated;
    let averaged = match how.predict_with {
        PredictWith::Samples => Some(mean_of_draws(draws)?),
        PredictWith::Mean => None,
    };
    let rows = averaged.as_ref().unwrap_or(mean).iter();
    let scaled = rows.map(|row| log_softmax(row, how.temperature)).collect();
    let information = match draws.is_empty() {
        true => vec![0.0; mean.len()],
        false => uncertainties(draws)?
            .iter()
            .map(|row| row.mutual_information)
            .collect(),
    };
    Ok((scaled, information))
}

/// A row's own number in [0, 1): of its content and nothing else, so that it has the same set
/// wherever it is asked about. `key` is [`Encoded::key`](crate::data::Encoded).
pub fn own_uniform(seed: u64, key: u64) -> f64 {
    uniform(&mut stream(seed, Purpose::Decision, key, 0, "set"))
}

/// A rule's verdicts on a set.
pub(super) struct Deciding<'a> {
    decision: &'a Decision,
    verdicts: Vec<Verdict>,
    cases: Vec<Case>,
}

impl<'a> Deciding<'a> {
    /// The verdicts on a set, in its order.
    ///
    /// # Errors
    /// As [`evidence`].
    pub fn new(
        decision: &'a Decision,
        set: &EncodedSet,
        evaluated: &SetProbabilities,
    ) -> Result<Self, AnswerError> {
        let (rows, information) = evidence(evaluated, &decision.predictions)?;
        let costs = decision.costs.as_ref();
        let evidence = |row: usize| Evidence {
            log_probabilities: &rows[row],
            mutual_information: information[row],
        };
        let seed = decision.division.seed;
        let verdict = |row: usize| {
            let own = own_uniform(seed, set.examples[row].key);
            decision.rule.verdict(&evidence(row), costs, own)
        };
        let places = 0..rows.len();
        Ok(Self {
            verdicts: places.clone().map(verdict).collect(),
            cases: places
                .map(|row| evidence(row).case(decision.score, costs))
                .collect(),
            decision,
        })
    }

    /// Writes the verdicts into the predictions of the set.
    pub fn apply(&self, lines: &mut [Prediction]) {
        for (line, verdict) in lines.iter_mut().zip(&self.verdicts) {
            let probabilities = match line.answered_with {
                PredictWith::Samples => &line.probabilities,
                PredictWith::Mean => &line.probabilities_at_mean,
            };
            line.decision = Some(match verdict {
                Verdict::Answer(answer) => {
                    // Costs may prefer another answer than the most probable one.
                    if line.answer != line.choices[*answer] {
                        line.answer = line.choices[*answer].clone();
                        line.confidence = probabilities[*answer];
                        line.calibrated_confidence = None;
                    }
                    DecisionWord::Answer
                }
                Verdict::Defer => DecisionWord::Defer,
                Verdict::Set(members) => {
                    let words = members.iter().map(|&member| line.choices[member].clone());
                    line.set = Some(words.collect());
                    DecisionWord::Set
                }
            });
        }
    }

    /// Warnings where the rows are not exchangeable with those that the rule rests on; `name` is
    /// the rows'.
    pub fn warnings(&self, name: &str) -> Vec<String> {
        let Decision {
            certainties, score, ..
        } = self.decision;
        let score = score.name();
        let nothing = "the decision promises nothing for them";
        let batch: Vec<f64> = self.cases.iter().map(|case| case.certainty).collect();
        let test = KolmogorovSmirnov::of(certainties, &batch).filter(|test| test.p_value < ALARM);
        let as_a_batch = test.map(|KolmogorovSmirnov { distance, p_value }| {
            format!(
                "{name}: their {score} is not distributed as that of calibrate \
                 (Kolmogorov–Smirnov: D = {distance:.3}, p = {p_value:.1e}): {nothing}"
            )
        });
        let mut martingale = ConformalMartingale::after(certainties);
        let mut numbers = stream(self.decision.division.seed, Purpose::Decision, 0, 0, "bets");
        let mut capital = batch
            .iter()
            .map(|&certainty| martingale.take(certainty, uniform(&mut numbers)));
        let as_a_stream = capital.position(|ln| ln >= -ALARM.ln()).map(|place| {
            format!(
                "{name}: by row {} their {score} has changed from that of calibrate \
                 (conformal martingale above {}): {nothing}",
                place + 1,
                1.0 / ALARM
            )
        });
        as_a_batch.into_iter().chain(as_a_stream).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::{DECISION_FORMAT, Division};
    use crate::decide::{Cutoff, DecisionScore, Limit, Promise, Rule, ThresholdRule};

    fn threshold(certainties: Vec<f64>) -> Decision {
        let rule = Rule::Threshold(ThresholdRule {
            score: DecisionScore::Confidence,
            cutoffs: vec![Cutoff::Above(0.7)],
            limits: vec![Limit::Error(0.1)],
            promise: Promise::WithProbability(0.9),
            rows: certainties.len(),
            answered: 1,
        });
        Decision {
            format_version: DECISION_FORMAT,
            program_version: "0".into(),
            promise: rule.sentence(&[]),
            rule,
            costs: None,
            answers: Vec::new(),
            predictions: DecisionPredictions {
                predict_with: PredictWith::Mean,
                temperature: 1.0,
                samples: 0,
                scale: 1.0,
                seed: 0,
            },
            division: Division {
                rows: "calibrate".into(),
                seed: 4,
                share: 0.25,
                choosing: 1,
                ruling: certainties.len(),
            },
            score: DecisionScore::Confidence,
            certainties,
            weights: None,
        }
    }

    fn warnings(batch: impl Iterator<Item = f64>) -> Vec<String> {
        let decision = threshold((0..400).map(|i| f64::from(i) / 400.0).collect());
        let case = |certainty| Case {
            answer: 0,
            certainty,
        };
        Deciding {
            decision: &decision,
            verdicts: Vec::new(),
            cases: batch.map(case).collect(),
        }
        .warnings("mine.jsonl")
    }

    #[test]
    fn rows_like_those_of_calibrate_pass_in_silence_and_others_are_warned_of_by_both_tests() {
        let alike = (0..100).map(|i| f64::from(i * 37 % 100) / 100.0);
        assert_eq!(warnings(alike), [""; 0]);
        let found = warnings((0..60).map(|i| 0.2 + f64::from(i) / 1000.0));
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found[0].starts_with(
                "mine.jsonl: their confidence is not distributed as that of calibrate (Kolmogorov–Smirnov: D = 0.7"
            ),
            "{found:?}"
        );
        assert!(
            found[1].contains("conformal martingale above 100")
                && found[1].ends_with("the decision promises nothing for them"),
            "{found:?}"
        );
        // Too few to tell.
        assert_eq!(warnings([0.2; 5].into_iter()), [""; 0]);
    }

    #[test]
    fn a_row_has_its_own_number_and_another_row_another() {
        assert_eq!(own_uniform(1, 7), own_uniform(1, 7));
        assert!(own_uniform(1, 7) != own_uniform(1, 8) && own_uniform(1, 7) != own_uniform(2, 7));
    }
}

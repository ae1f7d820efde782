//! Log-probabilities of a labelled set → `evaluation.json`, `predictions.jsonl`, and what the
//! terminal shows.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::RunError;
use crate::bundle::{Calibration, PredictWith, Sidecar};
use crate::data::{Choices, Encoded, Example};
use crate::metrics::{
    Bootstrap, Finding, Predictions, Scores, at_temperature, class_findings, class_table,
    confusion_table, entropy, first_largest, log_softmax, majority_sentence, mean_of_draws,
    score_table, sentence_for_a_stranger, uncertainties,
};
use crate::predict::Evaluated;

/// Scores of one split at the mean and with 1 … S draws.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvaluationReport {
    /// Role of the rows: `test`, …; the file's name where a file was named.
    pub split: String,
    /// Where rows of a role come from: `carved from train.jsonl`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Number of examples.
    pub n: usize,
    /// The answer words in the order of the classes; empty where every row has its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<String>,
    /// Number of bins of the headline ECE.
    pub bins: usize,
    /// Names the draws.
    pub seed: u64,
    /// τ.
    pub scale: f64,
    /// The untuned base, where it was evaluated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<Scores>,
    /// At the mean.
    pub mean: Scores,
    /// Averaged over the first 1, 2, …, S draws.
    pub samples: Vec<Scores>,
    /// The same predictions at the temperatures that were chosen on calibrate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_temperature: Option<AtTemperature>,
    /// Which of both the run found better on calibrate.
    pub chosen: PredictWith,
}

/// What a run took: `cost.json`. A file of its own, since the scores of a repeated run are the same
/// to the byte and times are not.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// All steps of all members, without evaluations.
    pub training_seconds: f64,
    /// What the method did with the training examples after that.
    pub fitting_seconds: f64,
    /// Prediction of the evaluated split at the mean and under all draws.
    pub prediction_seconds: f64,
    /// What of it was at the mean; none where mean and draws come from one pass, as in the
    /// linearised model.
    pub mean_seconds: Option<f64>,
    /// Numbers that are stored beside the adapter's own.
    pub stored_numbers: usize,
}

/// Temperatures chosen on *calibrate*, by which log-probabilities are divided.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Temperatures {
    /// That of the mean.
    pub mean: f64,
    /// That of the average over draws.
    pub samples: f64,
    /// What they rest on; not known of adapters from before it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
}

impl Temperatures {
    /// Those of a sidecar; none where nothing was chosen.
    pub fn of(sidecar: &Sidecar) -> Option<Self> {
        let Sidecar {
            temperature: mean,
            temperature_of_samples: samples,
            calibration,
            ..
        } = *sidecar;
        (calibration.is_some() || mean != 1.0 || samples != 1.0).then_some(Self {
            mean,
            samples,
            calibration,
        })
    }

    /// How many rows they rest on, and how sure they are.
    pub fn sentence(&self) -> String {
        let Some(Calibration {
            rows,
            interval: [low, high],
            interval_of_samples,
        }) = self.calibration
        else {
            return "how many rows of calibrate the temperatures rest on is not known".into();
        };
        let samples = interval_of_samples.map_or_else(String::new, |[low, high]| {
            format!(", of the samples' {low:.2} to {high:.2}")
        });
        let (what, of_mean) = if samples.is_empty() {
            ("temperature rests", "")
        } else {
            ("temperatures rest", " of the mean's")
        };
        format!(
            "the {what} on {rows} rows of calibrate: 95 % interval{of_mean} {low:.2} to {high:.2}{samples}"
        )
    }
}

/// Scores of predictions that were scaled by temperature. Accuracy is what it was; NLL, Brier and
/// ECE are not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AtTemperature {
    /// The temperatures.
    pub temperatures: Temperatures,
    /// At the mean.
    pub mean: Scores,
    /// Averaged over all draws, where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<Scores>,
}

impl EvaluationReport {
    /// The report of predictions with labels.
    ///
    /// # Errors
    /// If an example has no label or a row is no distribution.
    pub fn new(
        split: &str,
        examples: &[Encoded],
        evaluated: &Evaluated,
        same_answers: bool,
        seed: u64,
        scale: f64,
        chosen: PredictWith,
    ) -> Result<Self, RunError> {
        let labels = labels(examples)?;
        let bootstrap = Bootstrap::default();
        let mean = Scores::of(
            &Predictions::new(evaluated.mean.clone(), labels.clone())?,
            same_answers,
            &bootstrap,
        );
        let samples = match evaluated.draws.is_empty() {
            true => Vec::new(),
            false => Scores::of_prefixes(&evaluated.draws, &labels, same_answers, &bootstrap)?,
        };
        Ok(Self {
            split: split.into(),
            source: None,
            n: examples.len(),
            answers: Vec::new(),
            bins: mean.num_bins,
            seed,
            scale,
            base: None,
            mean,
            samples,
            at_temperature: None,
            chosen,
        })
    }

    /// With the scores of the same predictions at these temperatures.
    ///
    /// # Errors
    /// If an example has no label.
    pub fn with_temperatures(
        mut self,
        examples: &[Encoded],
        evaluated: &Evaluated,
        same_answers: bool,
        temperatures: Temperatures,
    ) -> Result<Self, RunError> {
        let labels = labels(examples)?;
        let scores = |rows: &[Vec<f64>], temperature: f64| {
            let predictions = Predictions::new(at_temperature(rows, temperature), labels.clone())?;
            Ok::<_, RunError>(Scores::of(
                &predictions,
                same_answers,
                &Bootstrap::default(),
            ))
        };
        let samples = match evaluated.draws.is_empty() {
            true => None,
            false => Some(scores(
                &mean_of_draws(&evaluated.draws)?,
                temperatures.samples,
            )?),
        };
        self.at_temperature = Some(AtTemperature {
            temperatures,
            mean: scores(&evaluated.mean, temperatures.mean)?,
            samples,
        });
        Ok(self)
    }

    /// The scores that the run recommends.
    pub fn recommended(&self) -> &Scores {
        match self.chosen {
            PredictWith::Samples => self.samples.last().unwrap_or(&self.mean),
            PredictWith::Mean => &self.mean,
        }
    }

    /// The rows of the table: base, mean, all draws.
    pub fn rows(&self) -> Vec<(String, Vec<&Scores>)> {
        let mut rows = Vec::new();
        if let Some(base) = &self.base {
            rows.push(("base, untuned".to_string(), vec![base]));
        }
        rows.push(("mean".to_string(), vec![&self.mean]));
        if let Some(sampled) = self.samples.last() {
            rows.push((format!("{} samples", self.samples.len()), vec![sampled]));
        }
        if let Some(scaled) = &self.at_temperature {
            rows.push((
                format!("mean, T = {:.2}", scaled.temperatures.mean),
                vec![&scaled.mean],
            ));
            let samples = self.samples.len();
            rows.extend(scaled.samples.iter().map(|scores| {
                (
                    format!("{samples} samples, T = {:.2}", scaled.temperatures.samples),
                    vec![scores],
                )
            }));
        }
        rows
    }

    /// "leave the least certain 20 % to a human …".
    pub fn sentence(&self) -> String {
        let scores = self.recommended();
        let point = scores.selective.iter().find(|point| point.coverage <= 0.81);
        point.map_or(String::new(), |point| {
            sentence_for_a_stranger(*point, scores.accuracy)
        })
    }
}

impl EvaluationReport {
    /// `test (12 examples, carved from train.jsonl)`.
    pub fn rows_named(&self) -> String {
        let source = self
            .source
            .as_ref()
            .map_or_else(String::new, |source| format!(", {source}"));
        format!("{} ({} examples{source})", self.split, self.n)
    }

    /// What stands out in the scores that the run recommends.
    pub fn findings(&self) -> Vec<Finding> {
        class_findings(self.recommended(), &self.answers, &self.split)
    }

    /// Class by class scores of what the run recommends; empty where rows have answers of their
    /// own.
    fn classes(&self) -> String {
        let Some(classes) = &self.recommended().classes else {
            return String::new();
        };
        let matrix = confusion_table(classes, &self.answers)
            .map_or_else(String::new, |table| format!("\n{}", table.to_text()));
        let table = class_table(classes, &self.answers).to_text();
        format!(
            "\n{table}{matrix}{}\n",
            majority_sentence(classes, &self.answers)
        )
    }
}

impl EvaluationReport {
    /// Scores, what the temperatures rest on, and classes: all but findings and the sentence for a
    /// stranger.
    pub fn tables(&self) -> String {
        let [low, high] = self.recommended().intervals.ece;
        let named = match self.chosen {
            PredictWith::Mean => "the mean",
            PredictWith::Samples => "the samples",
        };
        let calibration = self
            .at_temperature
            .as_ref()
            .map_or_else(String::new, |scaled| scaled.temperatures.sentence() + "\n");
        format!(
            "{}\n{}ECE of {named}: 95 % interval {low:.3} to {high:.3}; a perfectly calibrated model of this size shows {:.3}\n\
             {calibration}{}",
            self.rows_named(),
            score_table(&self.rows()).to_text(),
            self.recommended().ece_floor,
            self.classes()
        )
    }
}

impl fmt::Display for EvaluationReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{}", self.tables())?;
        for finding in self.findings() {
            writeln!(
                formatter,
                "{}: {}; {}",
                finding.severity.name(),
                finding.what,
                finding.remedy
            )?;
        }
        write!(formatter, "{}", self.sentence())
    }
}

/// The labels of a set.
pub fn labels(examples: &[Encoded]) -> Result<Vec<usize>, RunError> {
    examples
        .iter()
        .map(|example| {
            example.label().ok_or_else(|| RunError::NoLabel {
                id: example.id.clone(),
            })
        })
        .collect()
}

/// One line of `predictions.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// The example's id.
    pub id: String,
    /// The right choice, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<usize>,
    /// The answer words.
    pub choices: Vec<String>,
    /// Their tokens: one each, or all of each answer.
    pub choice_tokens: Vec<Vec<u32>>,
    /// At the mean.
    pub probabilities_at_mean: Vec<f64>,
    /// Averaged over draws; as at the mean where there are none.
    pub probabilities: Vec<f64>,
    /// The word of the recommended distribution's top choice.
    pub answer: String,
    /// Its probability.
    pub confidence: f64,
    /// The confidence after temperature scaling, where a temperature was chosen on calibrate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibrated_confidence: Option<f64>,
    /// The number of rows of calibrate that it rests on, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibrated_on: Option<usize>,
    /// Which distribution answer and confidence come from.
    pub answered_with: PredictWith,
    /// Entropy of the averaged probabilities, nats.
    pub entropy: f64,
    /// How much of it is the weights' disagreement, nats; 0 without draws.
    pub mutual_information: f64,
    /// Share of draws with another answer; 0 without draws.
    pub disagreement: f64,
    /// Whether the prompt has lost text to fit.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    /// The prompt, where asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
}

/// The lines of a set, in its order. `texts` are the examples that were encoded, where prompts are
/// wanted.
pub(super) fn predictions(
    examples: &[Encoded],
    words: &[&Example],
    evaluated: &Evaluated,
    chosen: PredictWith,
    temperatures: Option<Temperatures>,
    include_text: bool,
) -> Result<Vec<Prediction>, RunError> {
    let averaged = match evaluated.draws.is_empty() {
        true => evaluated.mean.clone(),
        false => mean_of_draws(&evaluated.draws)?,
    };
    let uncertain = match evaluated.draws.is_empty() {
        true => None,
        false => Some(uncertainties(&evaluated.draws)?),
    };
    let line = |index: usize| {
        let (example, source) = (&examples[index], words[index]);
        let (mean, average) = (&evaluated.mean[index], &averaged[index]);
        let answered = if chosen == PredictWith::Samples {
            average
        } else {
            mean
        };
        let answer = first_largest(answered);
        let probabilities = |logs: &[f64]| logs.iter().map(|log| log.exp()).collect::<Vec<f64>>();
        let uncertainty = uncertain.as_ref().map(|all| all[index]);
        Prediction {
            id: example.id.clone(),
            label: example.label(),
            choices: source.answers.to_vec(),
            choice_tokens: match example.choices() {
                Choices::Tokens(tokens) => tokens.iter().map(|&token| vec![token]).collect(),
                Choices::Answers(answers) => answers.clone(),
            },
            probabilities_at_mean: probabilities(mean),
            probabilities: probabilities(average),
            answer: source.answers.get(answer).cloned().unwrap_or_default(),
            confidence: answered[answer].exp(),
            calibrated_confidence: temperatures.map(|found| {
                let temperature = if chosen == PredictWith::Samples {
                    found.samples
                } else {
                    found.mean
                };
                log_softmax(answered, temperature)[answer].exp()
            }),
            calibrated_on: temperatures.and_then(|found| Some(found.calibration?.rows)),
            answered_with: chosen,
            entropy: entropy(average),
            mutual_information: uncertainty.map_or(0.0, |u| u.mutual_information),
            disagreement: uncertainty.map_or(0.0, |u| u.disagreement),
            truncated: false,
            prompt: include_text.then(|| source.prompt.text()),
        }
    };
    Ok((0..examples.len()).map(line).collect())
}

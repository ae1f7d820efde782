//! The command `decide`: a rule that says when to answer, found on one part of calibrate while the
//! other part chooses how to predict, stored in the adapter, and tried on rows that had no part in it.

use std::collections::BTreeMap;

use super::StudyError;
use super::subject::{Subject, SubjectRequest};
use crate::report::{DecideReport, Realised};
use ivon_lora::answer::{ExampleSet, answers_of, evidence, own_uniform};
use ivon_lora::bundle::{
    DECISION_FILE, DECISION_FORMAT, Decision, DecisionPredictions, Division, PredictWith,
    weights_hash,
};
use ivon_lora::decide::{
    CostMatrix, DecisionScore, Demand, Evidence, LabelledCase, LabelledProbabilities, Limit,
    Nonconformity, Outcome, Promise, Rule, ScoreCases, SetDemand, expected_cost_rule,
};
use ivon_lora::metrics::{LogProbabilities, Predictions, fit_temperature, mean_of_draws};
use ivon_lora::predict::{EvaluationOptions, SetProbabilities};
use ivon_lora::random::{Purpose, stream, uniform};
use ivon_lora::settings::SettingError;
use ivon_lora::watch::{Event, Progress, Stage, Watch};

/// The inputs of `decide`.
#[derive(Clone, Debug)]
pub struct DecideRequest {
    /// Adapter, base, rows.
    pub subject: SubjectRequest,
    /// What the rule must promise.
    pub form: DecisionForm,
    /// The cost of each answer for each right one, by name; 0 where none is named.
    pub costs: Option<NamedCosts>,
    /// The share of calibrate that chooses temperature, mean or draws, and the thresholds that are
    /// tried.
    pub share: f64,
    /// Seed of the division of calibrate.
    pub seed: u64,
    /// Whether the rule is stored in the adapter.
    pub write: bool,
}

/// Costs by the right answer and the given one.
pub type NamedCosts = BTreeMap<String, BTreeMap<String, f64>>;

/// The form of a rule, and what it must promise.
#[derive(Clone, Debug, PartialEq)]
pub enum DecisionForm {
    /// A threshold, with probability `confidence`.
    Threshold {
        /// What it keeps.
        limits: Vec<Limit>,
        /// Further limits: the share of each named class that is answered rightly or deferred.
        recalls: Vec<(String, f64)>,
        /// 1 − δ.
        confidence: f64,
        /// The scores of which the best is taken.
        scores: Vec<DecisionScore>,
        /// Whether each answered class has a threshold of its own.
        per_class: bool,
    },
    /// A threshold whose mean cost per case is limited in expectation.
    ExpectedCost {
        /// The largest mean cost per case.
        at_most: f64,
        /// The score.
        score: DecisionScore,
    },
    /// Sets of answers.
    Sets {
        /// How unlikely answers are measured.
        nonconformity: Nonconformity,
        /// The share of rows whose set holds the right answer.
        coverage: f64,
        /// In which sense.
        promise: Promise,
        /// Whether each class is covered by itself.
        per_class: bool,
    },
}

impl DecisionForm {
    /// The score that rows are compared by where the rule has none of its own.
    fn score(&self) -> DecisionScore {
        match self {
            Self::Threshold { scores, .. } => scores.first().copied(),
            Self::ExpectedCost { score, .. } => Some(*score),
            Self::Sets { .. } => None,
        }
        .unwrap_or(DecisionScore::Confidence)
    }

    fn is_per_class(&self) -> bool {
        matches!(
            self,
            Self::Threshold {
                per_class: true,
                ..
            } | Self::Sets {
                per_class: true,
                ..
            }
        )
    }
}

/// Finds a rule, stores it if asked to, and tries it on the scored rows.
///
/// # Errors
/// Whatever is wrong with base, adapter, rows or the request; if there are no rows of calibrate
/// besides the scored ones.
pub fn decide(request: &DecideRequest, watch: Watch<'_>) -> Result<DecideReport, StudyError> {
    let subject = Subject::open(&request.subject, watch)?;
    if subject.answerer.task().is_text() {
        return Err(StudyError::Texts);
    }
    let calibrate = subject.calibrate.as_ref();
    let calibrate = calibrate.ok_or(StudyError::NothingToDecideOn)?;
    let classes = answers_of(subject.answerer.task());
    let terms = Terms::of(request, &classes)?;
    warn_of_chosen(&subject, watch);
    let options = options(&subject, request, watch);
    let parts = Parts::of(calibrate, request);
    let evaluated = evaluate(&subject, calibrate, &options, watch)?;
    let predictions = chosen(&evaluated, &calibrate.labels()?, &parts.choosing, &options)?;
    let rows = ScoredRows::new(calibrate, &evaluated, &predictions, request.seed)?;
    let (decision, shortfall) = match terms.rule(&rows, &parts)? {
        Outcome::Rule(rule) => {
            let decision = Decision {
                weights: Some(weights_hash(&subject.adapter)?),
                ..terms.decision(rule, &rows, &parts, predictions)
            };
            (Some(decision), None)
        }
        Outcome::Impossible(shortfall) => (None, Some(shortfall)),
    };
    let mut realised = Vec::new();
    if let Some(decision) = &decision {
        let set = &subject.scored;
        let scored = evaluate(&subject, set, &options, watch)?;
        let scored = ScoredRows::new(set, &scored, &predictions, request.seed)?;
        realised = terms.realised(&decision.rule, &scored);
        if request.write {
            decision.write(&subject.adapter)?;
            watch(Event::Saved(&subject.adapter.join(DECISION_FILE)));
        }
    }
    Ok(DecideReport {
        decision,
        shortfall,
        predictions,
        division: parts.division,
        split: subject.scored.name.clone(),
        n: subject.scored.len(),
        realised,
    })
}

/// Warns of a posterior that was fitted by the rows of calibrate, which no division can undo.
fn warn_of_chosen(subject: &Subject, watch: Watch<'_>) {
    let facts = &subject.answerer.bundle().facts;
    let is_chosen = facts
        .get("prior_precision_by")
        .is_some_and(|by| by.starts_with("rows"));
    if is_chosen && subject.run.is_some() {
        watch(Event::Warning(
            "the prior precision of this posterior was chosen by all rows of calibrate: the promise holds only nearly, name other rows for an exact one"
                .into(),
        ));
    }
}

/// Draws and τ of the rule's predictions. An adapter's own τ was chosen on calibrate if it is not
/// 1, so that it cannot serve here.
fn options(subject: &Subject, request: &DecideRequest, watch: Watch<'_>) -> EvaluationOptions {
    let own = *subject.answerer.options();
    if request.subject.options.scale.is_some() || own.scale == 1.0 {
        return own;
    }
    watch(Event::Note(format!(
        "the rule's predictions have τ = 1: the adapter's own, {}, may have been chosen on the same rows",
        own.scale
    )));
    EvaluationOptions { scale: 1.0, ..own }
}

/// Log-probabilities of a set at the mean and under the draws.
fn evaluate(
    subject: &Subject,
    set: &ExampleSet,
    options: &EvaluationOptions,
    watch: Watch<'_>,
) -> Result<SetProbabilities, StudyError> {
    let passes = 1 + options.samples;
    let mut progress = Progress::new(Stage::Evaluating, set.len() * passes, watch);
    let answerer = &subject.answerer;
    Ok(answerer.log_probabilities_with(&set.encoded, options, &mut progress)?)
}

/// The two parts of calibrate, as places of its rows.
struct Parts {
    /// Rows that choose how to predict, and which thresholds are tried.
    choosing: Vec<usize>,
    /// Rows that the rule alone rests on.
    ruling: Vec<usize>,
    /// How they were divided.
    division: Division,
}

impl Parts {
    /// Each row falls into a part by its id, its content and the seed, wherever it stands.
    fn of(set: &ExampleSet, request: &DecideRequest) -> Self {
        let DecideRequest { share, seed, .. } = *request;
        let is_choosing = |&row: &usize| {
            let key = set.encoded.examples[row].key;
            uniform(&mut stream(seed, Purpose::Decision, key, 0, "division")) < share
        };
        let (choosing, ruling): (Vec<usize>, Vec<usize>) = (0..set.len()).partition(is_choosing);
        let division = Division {
            rows: set.name.clone(),
            seed,
            share,
            choosing: choosing.len(),
            ruling: ruling.len(),
        };
        Self {
            choosing,
            ruling,
            division,
        }
    }
}

/// Mean or draws, and the temperature, as the choosing rows prefer; the mean and 1 where they are
/// too few.
fn chosen(
    evaluated: &SetProbabilities,
    labels: &[usize],
    choosing: &[usize],
    options: &EvaluationOptions,
) -> Result<DecisionPredictions, StudyError> {
    let own = DecisionPredictions {
        predict_with: PredictWith::Mean,
        temperature: 1.0,
        samples: options.samples,
        scale: options.scale,
        seed: options.seed,
    };
    if choosing.is_empty() {
        return Ok(own);
    }
    let part = |rows: &LogProbabilities| {
        let rows: LogProbabilities = choosing.iter().map(|&row| rows[row].clone()).collect();
        Predictions::new(rows, choosing.iter().map(|&row| labels[row]).collect())
    };
    let mean = part(&evaluated.mean)?;
    let sampled = match evaluated.draws.is_empty() {
        true => None,
        false => Some(part(&mean_of_draws(&evaluated.draws)?)?),
    };
    let predict_with = PredictWith::preferred_by(&mean, sampled.as_ref());
    let taken = match (predict_with, &sampled) {
        (PredictWith::Samples, Some(sampled)) => sampled,
        _ => &mean,
    };
    let fitted = fit_temperature(taken);
    Ok(DecisionPredictions {
        predict_with,
        temperature: fitted.map_or(1.0, |fitted| fitted.value),
        ..own
    })
}

/// The rows of a set as rules see them.
struct ScoredRows {
    log_probabilities: LogProbabilities,
    mutual_information: Vec<f64>,
    labels: Vec<usize>,
    uniforms: Vec<f64>,
}

impl ScoredRows {
    fn new(
        set: &ExampleSet,
        evaluated: &SetProbabilities,
        predictions: &DecisionPredictions,
        seed: u64,
    ) -> Result<Self, StudyError> {
        let (log_probabilities, mutual_information) = evidence(evaluated, predictions)?;
        let keys = set.encoded.examples.iter().map(|example| example.key);
        Ok(Self {
            log_probabilities,
            mutual_information,
            labels: set.labels()?,
            uniforms: keys.map(|key| own_uniform(seed, key)).collect(),
        })
    }

    fn evidence(&self, row: usize) -> Evidence<'_> {
        Evidence {
            log_probabilities: &self.log_probabilities[row],
            mutual_information: self.mutual_information[row],
        }
    }

    fn case(&self, row: usize, score: DecisionScore, costs: Option<&CostMatrix>) -> LabelledCase {
        LabelledCase {
            case: self.evidence(row).case(score, costs),
            label: self.labels[row],
        }
    }

    fn probabilities(&self, row: usize) -> LabelledProbabilities {
        LabelledProbabilities {
            probabilities: self.evidence(row).probabilities(),
            label: self.labels[row],
            uniform: self.uniforms[row],
        }
    }

    fn places(&self) -> std::ops::Range<usize> {
        0..self.labels.len()
    }
}

/// What is asked of a rule, with classes by number.
struct Terms<'a> {
    form: &'a DecisionForm,
    classes: &'a [String],
    costs: Option<CostMatrix>,
    recalls: Vec<Limit>,
}

impl<'a> Terms<'a> {
    /// The terms of a request for a task with these classes.
    ///
    /// # Errors
    /// If it speaks of classes and every row has answers of its own, or of a class that is none.
    fn of(request: &'a DecideRequest, classes: &'a [String]) -> Result<Self, StudyError> {
        const SAME: &str = "a task whose answers are the same in every row";
        let form = &request.form;
        let own_answers = |key| SettingError::new(key, "given", SAME);
        if classes.is_empty() && form.is_per_class() {
            return Err(own_answers("per_class").into());
        }
        if classes.is_empty() && request.costs.is_some() {
            return Err(own_answers("costs").into());
        }
        let place = |key: &'static str, name: &str| {
            let found = classes.iter().position(|class| class == name);
            found.ok_or_else(|| SettingError::value(key, name, "an answer of the task"))
        };
        let named: &[(String, f64)] = match form {
            DecisionForm::Threshold { recalls, .. } => recalls,
            _ => &[],
        };
        let recall = |(name, at_least): &(String, f64)| {
            let at_least = *at_least;
            let class = place("min_recall", name)?;
            Ok::<_, SettingError>(Limit::Recall { class, at_least })
        };
        let recalls = named.iter().map(recall).collect::<Result<_, _>>()?;
        let costs = match &request.costs {
            None => None,
            Some(named) => {
                let mut costs = vec![vec![0.0; classes.len()]; classes.len()];
                for (right, answers) in named {
                    for (answer, &cost) in answers {
                        costs[place("costs", right)?][place("costs", answer)?] = cost;
                    }
                }
                Some(CostMatrix::new(costs)?)
            }
        };
        Ok(Self {
            form,
            classes,
            costs,
            recalls,
        })
    }

    fn costs(&self) -> Option<&CostMatrix> {
        self.costs.as_ref()
    }

    /// The number of classes, if each has a threshold or a quantile of its own.
    fn by_class(&self) -> Option<usize> {
        self.form.is_per_class().then_some(self.classes.len())
    }

    /// The rule of the ruling rows.
    fn rule(&self, rows: &ScoredRows, parts: &Parts) -> Result<Outcome<Rule>, StudyError> {
        let cases = |score: DecisionScore, places: &[usize]| -> Vec<LabelledCase> {
            let places = places.iter();
            places
                .map(|&row| rows.case(row, score, self.costs()))
                .collect()
        };
        Ok(match self.form {
            DecisionForm::Threshold {
                limits,
                confidence,
                scores,
                ..
            } => {
                let demand = Demand {
                    limits: limits.iter().chain(&self.recalls).copied().collect(),
                    confidence: *confidence,
                    by_class: self.by_class(),
                    costs: self.costs.clone(),
                };
                let of = |&score: &DecisionScore| ScoreCases {
                    score,
                    reference: cases(score, &parts.choosing)
                        .iter()
                        .map(|row| row.case)
                        .collect(),
                    tested: cases(score, &parts.ruling),
                };
                demand
                    .rule(&scores.iter().map(of).collect::<Vec<_>>())?
                    .map(Rule::Threshold)
            }
            DecisionForm::ExpectedCost { at_most, score } => {
                let cases = cases(*score, &parts.ruling);
                expected_cost_rule(*score, &cases, self.costs(), *at_most)?.map(Rule::Threshold)
            }
            DecisionForm::Sets {
                nonconformity,
                coverage,
                promise,
                ..
            } => {
                let demand = SetDemand {
                    nonconformity: *nonconformity,
                    coverage: *coverage,
                    promise: *promise,
                    by_class: self.by_class(),
                };
                let ruling = parts.ruling.iter();
                let ruling: Vec<_> = ruling.map(|&row| rows.probabilities(row)).collect();
                demand.rule(&ruling)?.map(Rule::Sets)
            }
        })
    }

    /// The rule with what it rests on.
    fn decision(
        &self,
        rule: Rule,
        rows: &ScoredRows,
        parts: &Parts,
        predictions: DecisionPredictions,
    ) -> Decision {
        let score = match &rule {
            Rule::Threshold(rule) => rule.score,
            Rule::Sets(_) => self.form.score(),
        };
        let certainty = |&row: &usize| rows.case(row, score, self.costs()).case.certainty;
        let mut certainties: Vec<f64> = parts.ruling.iter().map(certainty).collect();
        certainties.sort_by(f64::total_cmp);
        Decision {
            format_version: DECISION_FORMAT,
            program_version: env!("CARGO_PKG_VERSION").into(),
            promise: rule.sentence(self.classes),
            rule,
            costs: self.costs.clone(),
            answers: self.classes.to_vec(),
            predictions,
            division: parts.division.clone(),
            score,
            certainties,
            weights: None,
        }
    }

    /// What a rule does on rows that had no part in it.
    fn realised(&self, rule: &Rule, rows: &ScoredRows) -> Vec<Realised> {
        match rule {
            Rule::Threshold(rule) => {
                let case = |row| rows.case(row, rule.score, self.costs());
                let cases: Vec<_> = rows.places().map(case).collect();
                Realised::of_threshold(rule, &cases, self.costs(), self.classes)
            }
            Rule::Sets(rule) => {
                let rows: Vec<_> = rows.places().map(|row| rows.probabilities(row)).collect();
                Realised::of_sets(rule, &rows, self.classes)
            }
        }
    }
}

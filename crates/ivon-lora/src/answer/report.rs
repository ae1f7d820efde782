//! Log-probabilities of a labelled set → its scores, in `evaluation.json` and on the terminal.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::AnswerError;
use crate::bundle::{Calibration, PredictWith, Sidecar};
use crate::data::{Encoded, Form, Task};
use crate::metrics::{
    Bootstrap, Finding, Predictions, Scores, at_temperature, class_findings, class_table,
    confusion_table, majority_sentence, mean_of_draws, score_table, sentence_for_a_stranger,
};
use crate::predict::{EvaluationOptions, SetProbabilities};

/// The file with the scores.
pub const EVALUATION_FILE: &str = "evaluation.json";

/// The scores of one split, at the mean and with 1 … S draws.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvaluationReport {
    /// The role of the rows, such as `test`; the name of the file if one was given.
    pub split: String,
    /// Where the rows of a role come from: `carved from train.jsonl`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Number of examples.
    pub n: usize,
    /// The answer words in the order of the classes; empty if every row has its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<String>,
    /// Number of bins of the headline ECE.
    pub bins: usize,
    /// Seed of the draws.
    pub seed: u64,
    /// τ.
    pub scale: f64,
    /// The scores of the untuned base, if it was evaluated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<Scores>,
    /// The scores at the mean.
    pub mean: Scores,
    /// The scores of the average over the first 1, 2, …, S draws.
    pub samples: Vec<Scores>,
    /// The scores at the temperatures that were chosen on calibrate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_temperature: Option<AtTemperature>,
    /// Which of the two was better on calibrate.
    pub chosen: PredictWith,
}

/// Temperatures chosen on *calibrate*, by which log-probabilities are divided.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Temperatures {
    /// The mean's temperature.
    pub mean: f64,
    /// The temperature of the average over draws.
    pub samples: f64,
    /// The evidence for them; absent in older adapters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
}

impl Temperatures {
    /// The temperatures of a sidecar; none if none were chosen.
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

    /// How many rows they rest on, and how certain they are, in a sentence.
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

/// How log-probabilities become an answer: from the mean or from the average over draws, and with
/// which temperatures.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct AnswerRule {
    /// Which of the two answers.
    pub predict_with: PredictWith,
    /// The temperatures of both; none if none were chosen.
    pub temperatures: Option<Temperatures>,
}

impl AnswerRule {
    /// The temperature of the distribution that answers.
    pub fn temperature(&self) -> Option<f64> {
        let temperatures = self.temperatures?;
        Some(match self.predict_with {
            PredictWith::Samples => temperatures.samples,
            PredictWith::Mean => temperatures.mean,
        })
    }
}

/// The scores of predictions scaled by temperature, which changes NLL, Brier and ECE but not
/// accuracy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AtTemperature {
    /// The temperatures.
    pub temperatures: Temperatures,
    /// The scores at the mean.
    pub mean: Scores,
    /// The scores of the average over all draws, if there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<Scores>,
}

impl AtTemperature {
    fn new(
        temperatures: Temperatures,
        evaluated: &SetProbabilities,
        labels: &[usize],
        same_answers: bool,
    ) -> Result<Self, AnswerError> {
        let scores = |rows: &[Vec<f64>], temperature: f64| {
            let rows = at_temperature(rows, temperature);
            let predictions = Predictions::new(rows, labels.to_vec())?;
            let bootstrap = Bootstrap::default();
            Ok::<_, AnswerError>(Scores::of(&predictions, same_answers, &bootstrap))
        };
        let samples = match evaluated.draws.is_empty() {
            true => None,
            false => Some(scores(
                &mean_of_draws(&evaluated.draws)?,
                temperatures.samples,
            )?),
        };
        Ok(Self {
            temperatures,
            mean: scores(&evaluated.mean, temperatures.mean)?,
            samples,
        })
    }
}

impl EvaluationReport {
    /// The report of labelled predictions, without the name of their split, see [`of`](Self::of).
    ///
    /// # Errors
    /// If an example has no label or a row is not a distribution.
    pub(crate) fn new(
        task: &Task,
        examples: &[Encoded],
        evaluated: &SetProbabilities,
        options: &EvaluationOptions,
        rule: &AnswerRule,
    ) -> Result<Self, AnswerError> {
        let labels = labels(examples)?;
        let same_answers = same_answers(task);
        let bootstrap = Bootstrap::default();
        let samples = match evaluated.draws.is_empty() {
            true => Vec::new(),
            false => Scores::of_prefixes(&evaluated.draws, &labels, same_answers, &bootstrap)?,
        };
        let at_temperature = match rule.temperatures {
            Some(found) => Some(AtTemperature::new(found, evaluated, &labels, same_answers)?),
            None => None,
        };
        let mean = Predictions::new(evaluated.mean.clone(), labels)?;
        let mean = Scores::of(&mean, same_answers, &bootstrap);
        Ok(Self {
            split: String::new(),
            source: None,
            n: examples.len(),
            answers: answers_of(task),
            bins: mean.num_bins,
            seed: options.seed,
            scale: options.scale,
            base: None,
            mean,
            samples,
            at_temperature,
            chosen: rule.predict_with,
        })
    }

    /// The report under the name of its split, with where its rows come from: `carved from
    /// train.jsonl`.
    pub(crate) fn of(self, split: &str, source: Option<String>) -> Self {
        Self {
            split: split.into(),
            source,
            ..self
        }
    }

    /// The scores of the recommended distribution.
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

    /// What is notable in the recommended scores.
    pub fn findings(&self) -> Vec<Finding> {
        class_findings(self.recommended(), &self.answers, &self.split)
    }

    /// The recommended scores of each class; empty if rows have answers of their own.
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
    /// Scores, the evidence for the temperatures, and classes: everything but the findings and the
    /// closing sentence.
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

/// The labels of examples.
///
/// # Errors
/// [`AnswerError::NoLabel`] for the first that has none.
pub(crate) fn labels(examples: &[Encoded]) -> Result<Vec<usize>, AnswerError> {
    examples
        .iter()
        .map(|example| {
            example.label().ok_or_else(|| AnswerError::NoLabel {
                id: example.id.clone(),
            })
        })
        .collect()
}

/// The answer words of a task; none if every row has its own.
pub fn answers_of(task: &Task) -> Vec<String> {
    match &task.form {
        Form::Template { answers, .. } => answers.clone(),
        _ => Vec::new(),
    }
}

/// Whether a choice means the same word in every row of a task.
pub(crate) fn same_answers(task: &Task) -> bool {
    matches!(task.form, Form::Template { .. })
}

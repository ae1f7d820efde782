//! Log-probabilities of a labelled set → its scores: `evaluation.json`, and what the terminal shows.

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

/// The scores.
pub const EVALUATION_FILE: &str = "evaluation.json";

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

/// How an answer is taken from log-probabilities: from the mean or from the average over draws, and
/// at which temperatures its confidence is calibrated.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct AnswerRule {
    /// Which of both answers.
    pub predict_with: PredictWith,
    /// The temperatures of both; none where none was chosen.
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
    /// The report of predictions with labels. It names no split yet, see [`of`](Self::of).
    ///
    /// # Errors
    /// If an example has no label or a row is no distribution.
    pub fn new(
        task: &Task,
        examples: &[Encoded],
        evaluated: &SetProbabilities,
        options: &EvaluationOptions,
        rule: &AnswerRule,
    ) -> Result<Self, AnswerError> {
        let labels = labels(examples)?;
        let same_answers = same_answers(task);
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
        let at_temperature = rule
            .temperatures
            .map(|temperatures| AtTemperature::new(temperatures, evaluated, &labels, same_answers))
            .transpose()?;
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

    /// The report of the rows of this name, which may come from elsewhere: `carved from
    /// train.jsonl`.
    pub fn of(self, split: &str, source: Option<String>) -> Self {
        Self {
            split: split.into(),
            source,
            ..self
        }
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

/// The words of the classes of a task; none where every row brings its own choices.
pub(crate) fn answers_of(task: &Task) -> Vec<String> {
    match &task.form {
        Form::Template { answers, .. } => answers.clone(),
        _ => Vec::new(),
    }
}

/// Whether choice c means the same word in every row of a task.
pub(crate) fn same_answers(task: &Task) -> bool {
    matches!(task.form, Form::Template { .. })
}

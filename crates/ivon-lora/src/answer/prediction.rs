//! Log-probabilities of a question → its answer, a line of `predictions.jsonl`.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::AnswerError;
use super::report::AnswerRule;
use crate::bundle::PredictWith;
use crate::data::{Choices, Encoded, EncodedSet, Example};
use crate::files::{self, FileError};
use crate::metrics::{entropy, first_largest, log_softmax, mean_of_draws, uncertainties};
use crate::predict::SetProbabilities;

/// The file with a line for each evaluated example.
pub const PREDICTIONS_FILE: &str = "predictions.jsonl";
const LARGEST_PREDICTIONS: u64 = 1 << 30;

/// What an adapter's decision rule says about a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DecisionWord {
    /// The answer can be taken.
    Answer,
    /// Someone else shall answer.
    Defer,
    /// One of a set of answers is right.
    Set,
}

/// One line of `predictions.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// The example's id.
    pub id: String,
    /// The right choice, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<usize>,
    /// The answer words.
    pub choices: Vec<String>,
    /// Their tokens: one for each, or all of each answer.
    pub choice_tokens: Vec<Vec<u32>>,
    /// Probabilities at the mean.
    pub probabilities_at_mean: Vec<f64>,
    /// Probabilities averaged over draws; those at the mean if there are none.
    pub probabilities: Vec<f64>,
    /// Probabilities under each draw, `[S][C]`, if they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probabilities_of_draws: Option<Vec<Vec<f64>>>,
    /// The answer word that the recommended distribution prefers.
    pub answer: String,
    /// Its probability.
    pub confidence: f64,
    /// The confidence after temperature scaling, if a temperature was chosen on calibrate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibrated_confidence: Option<f64>,
    /// The number of rows of calibrate behind that temperature, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibrated_on: Option<usize>,
    /// The distribution that answer and confidence come from.
    pub answered_with: PredictWith,
    /// Entropy of the averaged probabilities, nats.
    pub entropy: f64,
    /// The part of it that comes from uncertain weights, nats; 0 without draws.
    pub mutual_information: f64,
    /// Share of draws with another answer; 0 without draws.
    pub disagreement: f64,
    /// What the adapter's decision rule says, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<DecisionWord>,
    /// The answers of the set that it gives; may be none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<Vec<String>>,
    /// Whether the prompt was shortened to fit.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    /// The prompt, if it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
}

/// What a prediction tells beside the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Details {
    /// The prompt.
    pub text: bool,
    /// The probabilities under each draw.
    pub draws: bool,
}

/// The predictions of a set, in its order. `examples` are the ones that it was encoded from.
///
/// # Errors
/// If the draws do not belong together.
pub(crate) fn predictions(
    set: &EncodedSet,
    examples: &[Example],
    evaluated: &SetProbabilities,
    rule: &AnswerRule,
    details: Details,
) -> Result<Vec<Prediction>, AnswerError> {
    let SetProbabilities { mean, draws, .. } = evaluated;
    let (averaged, uncertain) = match draws.is_empty() {
        true => (mean.clone(), None),
        false => (mean_of_draws(draws)?, Some(uncertainties(draws)?)),
    };
    let of_draws = |index: usize| {
        draws
            .iter()
            .map(|draw| probabilities(&draw[index]))
            .collect()
    };
    let line = |index: usize| {
        let source = &examples[set.kept[index]];
        let uncertainty = uncertain.as_ref().map(|all| all[index]);
        Prediction {
            choices: source.answers.to_vec(),
            mutual_information: uncertainty.map_or(0.0, |u| u.mutual_information),
            disagreement: uncertainty.map_or(0.0, |u| u.disagreement),
            truncated: set.shortened[index],
            probabilities_of_draws: details.draws.then(|| of_draws(index)),
            prompt: details.text.then(|| source.prompt.text()),
            ..rule.prediction(
                &set.examples[index],
                source,
                [&mean[index], &averaged[index]],
            )
        }
    };
    Ok((0..set.examples.len()).map(line).collect())
}

impl AnswerRule {
    /// The prediction from log-probabilities `[mean, average]`, at the mean and averaged over draws.
    fn prediction(
        &self,
        example: &Encoded,
        source: &Example,
        [mean, average]: [&[f64]; 2],
    ) -> Prediction {
        let answered = match self.predict_with {
            PredictWith::Samples => average,
            PredictWith::Mean => mean,
        };
        let answer = first_largest(answered);
        let calibrated = |temperature: f64| log_softmax(answered, temperature)[answer].exp();
        let calibration = self.temperatures.and_then(|found| found.calibration);
        Prediction {
            id: example.id.clone(),
            label: example.label(),
            choices: Vec::new(),
            choice_tokens: example.choices().map(tokens_of).unwrap_or_default(),
            probabilities_at_mean: probabilities(mean),
            probabilities: probabilities(average),
            probabilities_of_draws: None,
            answer: source.answers.get(answer).cloned().unwrap_or_default(),
            confidence: answered[answer].exp(),
            calibrated_confidence: self.temperature().map(calibrated),
            calibrated_on: calibration.map(|calibration| calibration.rows),
            answered_with: self.predict_with,
            entropy: entropy(average),
            mutual_information: 0.0,
            disagreement: 0.0,
            decision: None,
            set: None,
            truncated: false,
            prompt: None,
        }
    }
}

fn probabilities(logs: &[f64]) -> Vec<f64> {
    logs.iter().map(|log| log.exp()).collect()
}

/// The tokens of each choice.
pub(crate) fn tokens_of(choices: &Choices) -> Vec<Vec<u32>> {
    match choices {
        Choices::Tokens(tokens) => tokens.iter().map(|&token| vec![token]).collect(),
        Choices::Answers(answers) => answers.clone(),
    }
}

/// Writes a line of JSON for each prediction.
///
/// # Errors
/// If the file cannot be written.
pub(crate) fn write_predictions(path: &Path, lines: &[impl Serialize]) -> Result<(), FileError> {
    files::write_with(path, |file| {
        for line in lines {
            serde_json::to_writer(&mut *file, line)?;
            std::io::Write::write_all(file, b"\n")?;
        }
        Ok(())
    })
}

/// Reads the lines of `predictions.jsonl`.
///
/// # Errors
/// If the file cannot be read or a line is not a prediction.
pub fn read_predictions(path: &Path) -> Result<Vec<Prediction>, AnswerError> {
    read_lines(path)
}

/// Reads the lines of JSON of a file of predictions.
pub(super) fn read_lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, AnswerError> {
    let text = files::read_text(path, LARGEST_PREDICTIONS)?;
    let malformed = |line: usize, error: serde_json::Error| AnswerError::Malformed {
        path: path.into(),
        reason: format!("line {line}: {error}"),
    };
    let lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(index, line)| {
            serde_json::from_str(line).map_err(|error| malformed(index + 1, error))
        })
        .collect()
}

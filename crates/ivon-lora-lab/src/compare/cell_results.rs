//! What the table takes from a finished cell: its settings, its predictions on the test rows, and what
//! it took.

use serde::{Deserialize, Serialize};

use super::CompareError;
use super::detection::SetUncertainty;
use super::form::Form;
use super::predicted::Predicted;
use super::scores::RowScores;
use ivon_lora::metrics::{Predictions, TokenSums, at_temperature};

/// One finished cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CellResults {
    pub method: String,
    pub seed: u64,
    pub optimizer: String,
    /// Its `run.toml`.
    pub settings: String,
    /// Seconds of training.
    pub seconds: f64,
    /// How many of the labels it calibrated on, where these are not the task's own rows beside them.
    pub calibrate_labels: usize,
    /// At the mean, where that is its own, and averaged over draws, where it has some.
    pub rows: Vec<RowResults>,
    /// How uncertain it is of sets that the task is not about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_sets: Vec<SetUncertainty>,
}

/// A cell's predictions in one form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RowResults {
    pub form: Form,
    /// Stands before the row.
    pub name: String,
    /// Of each test example over its choices `[N][C]`; none of texts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub probabilities: Vec<Vec<f64>>,
    /// Of each test text sums over its tokens; none of questions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<TokenSums>,
    pub scores: RowScores,
    /// What the run chose on calibrate, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_temperature: Option<ScoresAtTemperature>,
    /// Seconds of prediction, where they were measured.
    pub seconds: Option<f64>,
    /// Numbers stored beside the adapter; none where unknown.
    pub extra: Option<u64>,
}

/// The scores of the same predictions at a temperature.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScoresAtTemperature {
    pub temperature: f64,
    pub scores: RowScores,
}

impl RowResults {
    /// The predictions.
    ///
    /// # Errors
    /// If probabilities are no distributions over the labels' choices.
    pub fn predicted(&self, labels: &[usize]) -> Result<Predicted, CompareError> {
        predicted(&self.probabilities, &self.tokens, labels)
    }
}

/// The predictions of texts, if there are sums over their tokens, or else of questions with `labels`.
///
/// # Errors
/// If probabilities are no distributions over the labels' choices.
pub(super) fn predicted(
    probabilities: &[Vec<f64>],
    tokens: &[TokenSums],
    labels: &[usize],
) -> Result<Predicted, CompareError> {
    if !tokens.is_empty() {
        return Ok(Predicted::Texts(tokens.to_vec()));
    }
    let predictions = Predictions::from_probabilities(probabilities.to_vec(), labels.to_vec())?;
    Ok(Predicted::Choices(predictions))
}

/// The same predictions at a temperature.
pub(super) fn scaled(
    predictions: &Predictions,
    temperature: f64,
) -> Result<Predictions, CompareError> {
    let rows = at_temperature(predictions.log_probabilities(), temperature);
    Ok(Predictions::new(rows, predictions.labels().to_vec())?)
}

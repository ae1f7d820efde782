//! What a run took.

use serde::{Deserialize, Serialize};

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

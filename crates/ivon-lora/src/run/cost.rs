//! The cost of a run.

use serde::{Deserialize, Serialize};

/// The cost of a run, in `cost.json`: not among the scores, which are the same to the byte if a run is
/// repeated.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Time of all steps of all members, without evaluations.
    pub training_seconds: f64,
    /// Time of what the method computes after training.
    pub fitting_seconds: f64,
    /// Time of predicting the test rows, at the mean and under all draws.
    pub prediction_seconds: f64,
    /// The part of it at the mean; none if mean and draws come from one pass, as in the linearised
    /// model.
    pub mean_seconds: Option<f64>,
    /// How many numbers are stored besides the adapter's own.
    pub stored_numbers: usize,
}

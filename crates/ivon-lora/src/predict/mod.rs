//! Batch → probabilities of the choices: at the mean, and averaged over draws.

mod choice;
mod average;
mod linear;
mod scale;
mod error;

pub use average::{
    Evaluated, EvaluationOptions, EvaluationSeconds, evaluate, evaluate_timed, log_probabilities,
};
pub(crate) use choice::common_prefix;
pub use choice::{Questions, choice_log_probabilities, log_probabilities_at};
pub use error::PredictError;
pub use linear::{Linearisation, watch_curvature};
pub use scale::{SCALES, ScaleTrial, best_scale, linearised_predictions, scale_trials};

//! Batch → probabilities of the choices: at the mean, and averaged over draws.

mod choice;
mod predictor;
mod linear;
mod scale;
mod error;

pub(crate) use choice::common_prefix;
pub use choice::{Questions, choice_log_probabilities, log_probabilities_at};
pub use error::PredictError;
pub use linear::{Linearisation, watch_curvature};
pub use predictor::{
    Evaluated, EvaluationOptions, EvaluationSeconds, Predictor, log_probabilities,
};
pub use scale::{SCALES, ScaleTrial, best_scale, linearised_predictions};

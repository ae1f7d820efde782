//! Examples → probabilities of their choices: at the mean, and averaged over draws.

mod error;
mod choice;
mod batches;
mod normal_logits;
mod linear;
mod last_layer;
mod predictor;
mod scale;
mod text;
mod written;
mod truth;

pub(crate) use choice::common_prefix;
pub use choice::{NoisyLogits, Questions, choice_log_probabilities, log_probabilities_at};
pub use error::PredictError;
pub use linear::{Linearisation, watch_curvature};
pub(crate) use predictor::draws_logits;
pub use predictor::{
    EvaluationOptions, EvaluationSeconds, Predictor, SetProbabilities, log_probabilities,
};
pub use scale::{SCALES, ScaleTrial};
pub(crate) use scale::{best_scale, linearised_predictions};
pub use text::{SetTokens, Texts, predicted_documents};
pub use truth::{LETTERS, REPLY, truth_probability, truth_question};
pub use written::{WrittenAnswer, WrittenScores, written_answer};

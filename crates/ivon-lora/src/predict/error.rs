//! What can go wrong in a prediction.

use crate::metrics::MetricsError;
use crate::posterior::PosteriorError;
use crate::ranks::RankError;
use crate::sentence::{Sentence, sentence, setting, setting_to};
use crate::watch::Stopped;

/// A prediction failed.
#[derive(Debug, thiserror::Error)]
pub enum PredictError {
    /// A draw could not be made.
    #[error(transparent)]
    Posterior(#[from] PosteriorError),
    /// Draws do not belong together.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The device did not return its data.
    #[error("the device gave no probabilities back: {reason}")]
    Device {
        /// What Burn said.
        reason: String,
    },
    /// A probability is not a number.
    #[error("the probabilities of example `{id}` are not finite")]
    NotFinite {
        /// The example.
        id: String,
    },
    /// An example has no label where one is needed.
    #[error("example `{id}` has no label to score against")]
    NoLabel {
        /// The example.
        id: String,
    },
    /// A text where a question with choices is needed.
    #[error("example `{id}` is a text, which has no choices to answer with")]
    NoChoices {
        /// The example.
        id: String,
    },
    /// A posterior of the logits of choices, asked about a text.
    #[error("a posterior that draws the logits of choices cannot predict the tokens of a text")]
    Text,
    /// The backward pass would have to be observed, which only the CPU operation allows.
    #[error("Kronecker factors are computed on the CPU alone, but the base is on {device}")]
    OnlyCpu {
        /// Where the base is.
        device: String,
    },
    /// A whole answer is scored by several rows of the output layer at several tokens.
    #[error(
        "noise on the output layer needs choices that one token scores, but an answer here is scored whole"
    )]
    WholeAnswers,
    /// The logits are not linear in the rows of the output layer.
    #[error(
        "noise on the output layer needs logits that are linear in its rows, but this model limits them to ±{limit}"
    )]
    LimitedLogits {
        /// Its `final_logit_softcapping`.
        limit: f64,
    },
    /// The ranks of a run could not predict together.
    #[error(transparent)]
    Ranks(#[from] RankError),
    /// The watcher said stop.
    #[error("the evaluation was stopped after {done} of {total} examples")]
    Stopped {
        /// Examples predicted.
        done: usize,
        /// Examples to predict, over all draws.
        total: usize,
    },
}

impl From<Stopped> for PredictError {
    fn from(Stopped { done, total }: Stopped) -> Self {
        Self::Stopped { done, total }
    }
}

impl PredictError {
    /// What the user can do about it, in one sentence.
    pub fn hint(&self) -> Option<Sentence> {
        match self {
            Self::Posterior(error) => error.hint(),
            Self::Metrics(error) => error.hint(),
            Self::Device { .. } => Some(sentence!(
                "is the device's memory full? try `{}`",
                setting_to("device", "cpu")
            )),
            Self::NotFinite { .. } => Some(
                "the adapter's weights have run away: train with a smaller learning rate".into(),
            ),
            Self::NoLabel { .. } => {
                Some("label the rows of the calibration set, or leave them away".into())
            }
            Self::NoChoices { .. } => Some(sentence!(
                "name a task of questions with `{}`",
                setting("task")
            )),
            Self::Text => Some(sentence!(
                "train with another `{}`, such as `ivon`",
                setting("optimizer")
            )),
            Self::OnlyCpu { .. } => Some(sentence!(
                "use `{}`, or `laplace_structure = \"diagonal\"`",
                setting_to("device", "cpu")
            )),
            Self::WholeAnswers => Some(sentence!(
                "`{}` scores answers by their first token where that tells them apart; where it does \
                 not, use another `{}`",
                setting_to("scoring", "token"),
                setting("optimizer")
            )),
            Self::LimitedLogits { .. } => Some(sentence!("use another `{}`", setting("optimizer"))),
            Self::Stopped { .. } | Self::Ranks(_) => None,
        }
    }
}

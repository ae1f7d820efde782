//! What can go wrong in training.

use std::path::PathBuf;

use crate::files::FileError;
use crate::lora::LoraError;
use crate::posterior::PosteriorError;
use crate::predict::PredictError;
use crate::ranks::RankError;
use crate::sentence::{Sentence, command, sentence, setting};
use crate::settings::SettingError;
use crate::watch::RecordError;

/// Training failed.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A setting is out of range.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// The learning rate never reaches its full value.
    #[error("the learning rate warms up for {warmup} steps in a run of {steps}, expected fewer")]
    LongWarmup {
        /// Steps of the warm-up.
        warmup: u64,
        /// Steps of the run.
        steps: u64,
    },
    /// The loss of a step is infinite or not a number.
    #[error("the loss of step {step} is {loss}{}", last_good(*good))]
    NonFiniteLoss {
        /// The step, counted from 1.
        step: u64,
        /// The loss.
        loss: f64,
        /// The step of the newest checkpoint.
        good: Option<u64>,
    },
    /// The optimizer refused a step.
    #[error("step {step} failed: {reason}{}", last_good(*good))]
    Step {
        /// The step, counted from 1.
        step: u64,
        /// What the optimizer said.
        reason: String,
        /// The step of the newest checkpoint.
        good: Option<u64>,
    },
    /// The optimizer cannot have these settings, or this state.
    #[error("the optimizer cannot be set up: {reason}")]
    Optimizer {
        /// Why not.
        reason: String,
    },
    /// The device did not return its data.
    #[error("the device gave no numbers back: {reason}")]
    Device {
        /// What Burn said.
        reason: String,
    },
    /// A row that cannot be learned from or scored.
    #[error("row `{id}` of {role} has no label")]
    NoLabel {
        /// The role of the row.
        role: &'static str,
        /// The row's id.
        id: String,
    },
    /// A row without a token to predict.
    #[error("row `{id}` of {role} has no text to learn")]
    NothingToLearn {
        /// The role of the row.
        role: &'static str,
        /// The row's id.
        id: String,
    },
    /// A record cannot be written as JSON.
    #[error("a record for `{}` cannot be written as JSON: {reason}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A checkpoint cannot be used.
    #[error("checkpoint `{}` cannot be used: {reason}", path.display())]
    Checkpoint {
        /// Its folder.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// There is nothing to resume.
    #[error("`{}` holds no complete checkpoint", path.display())]
    NothingToResume {
        /// The folder of checkpoints.
        path: PathBuf,
    },
    /// The ranks of a run could not take a step together.
    #[error(transparent)]
    Ranks(#[from] RankError),
    /// An evaluation failed.
    #[error(transparent)]
    Predict(#[from] PredictError),
    /// A posterior could not be made.
    #[error(transparent)]
    Posterior(#[from] PosteriorError),
    /// The adapter could not be read or written.
    #[error(transparent)]
    Lora(#[from] LoraError),
    /// The records of the run could not be read.
    #[error(transparent)]
    Records(#[from] RecordError),
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
}

fn last_good(step: Option<u64>) -> String {
    match step {
        Some(step) => format!("; the last good checkpoint is step {step}"),
        None => "; no checkpoint was written yet".into(),
    }
}

impl TrainError {
    /// What the user can do about it, in one sentence.
    pub fn hint(&self) -> Option<Sentence> {
        match self {
            Self::Setting { .. } => Some(sentence!(
                "`{}` writes a file with every setting and its default",
                command("init")
            )),
            Self::LongWarmup { .. } => Some(sentence!(
                "lower `{}`, or train longer with `{}` or `{}`",
                setting("warmup"),
                setting("steps"),
                setting("epochs")
            )),
            Self::NonFiniteLoss { .. } | Self::Step { .. } => Some(sentence!(
                "start anew with a lower `{}` in another folder, named by `{}`; \
                     `{}` would go on with the rate that led here",
                setting("learning_rate"),
                setting("out"),
                setting("resume")
            )),
            Self::Optimizer { .. } | Self::Record { .. } | Self::Ranks(_) => None,
            Self::NoLabel { .. } => Some("label the row, or leave it out".into()),
            Self::NothingToLearn { .. } => {
                Some("write a text into the row, or leave it out".into())
            }
            Self::Device { .. } => Some(sentence!(
                "is the device's memory full? try a smaller `{}`",
                setting("batch_size")
            )),
            Self::Checkpoint { .. } => {
                Some("remove that folder to resume from the one before it".into())
            }
            Self::NothingToResume { .. } => Some(sentence!(
                "start the run without `{}`, in another folder named by `{}`",
                setting("resume"),
                setting("out")
            )),
            Self::Predict(error) => error.hint(),
            Self::Posterior(error) => error.hint(),
            Self::Lora(error) => error.hint(),
            Self::Records(error) => error.hint(),
            Self::File(error) => error.hint(),
        }
    }

    /// Adds the newest checkpoint to an error that stops a run.
    pub(super) fn with_checkpoint(self, newest: Option<u64>) -> Self {
        match self {
            Self::NonFiniteLoss { step, loss, .. } => Self::NonFiniteLoss {
                step,
                loss,
                good: newest,
            },
            Self::Step { step, reason, .. } => Self::Step {
                step,
                reason,
                good: newest,
            },
            other => other,
        }
    }
}

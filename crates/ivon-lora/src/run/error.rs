//! Everything that can end a run, and what to do about it.

use std::path::PathBuf;

use crate::answer::AnswerError;
use crate::bundle::BundleError;
use crate::data::{DataError, TokenizerError};
use crate::files::FileError;
use crate::lora::LoraError;
use crate::method::Method;
use crate::metrics::MetricsError;
use crate::model::ModelError;
use crate::posterior::PosteriorError;
use crate::predict::PredictError;
use crate::ranks::RankError;
use crate::sentence::{Sentence, command, sentence, setting, setting_to};
use crate::settings::SettingError;
use crate::train::TrainError;
use crate::watch::RecordError;
use crate::words::joined;

/// A run failed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum RunError {
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Lora(#[from] LoraError),
    #[error(transparent)]
    Posterior(#[from] PosteriorError),
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error(transparent)]
    Answer(Box<AnswerError>),
    #[error(transparent)]
    Predict(#[from] PredictError),
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    #[error(transparent)]
    Train(#[from] TrainError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Records(#[from] RecordError),
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The ranks of the run could not talk to each other, or another one failed.
    #[error(transparent)]
    Ranks(#[from] RankError),
    /// Ranks were started with different settings, data or models.
    #[error("rank {rank} has another {what} than rank 0: {found}, expected {expected}")]
    RanksDiffer {
        rank: usize,
        what: String,
        found: String,
        expected: String,
    },
    /// A setting is missing or out of range.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// No steps are to be taken, but the run needs some.
    #[error("`steps` is 0 and {why}, expected at least 1")]
    NoSteps { why: String },
    /// The method has no place for DoRA's magnitudes.
    #[error("`{method}` does not train the magnitudes of an adapter (`use_dora`), expected {}", joined(&Method::names_where(|settings| settings.trains_magnitudes()), "or"))]
    Magnitudes { method: &'static str },
    /// The method has no place for the tables over the vocabulary.
    #[error("`{method}` does not train `embed_tokens` and `lm_head`, neither as `target_modules` nor as `modules_to_save`, expected {}", joined(&Method::names_where(|settings| settings.trains_tables()), "or"))]
    Tables { method: &'static str },
    /// The folder holds another run.
    #[error("`{}` already holds a run", folder.display())]
    FolderHoldsRun { folder: PathBuf },
    /// Another process is writing the folder.
    #[error("`{}` is in use by another run", folder.display())]
    FolderInUse { folder: PathBuf },
    /// The run was interrupted under other settings.
    #[error("`{}` was started with other settings: {}", folder.display(), differences.join(", "))]
    OtherSettings {
        folder: PathBuf,
        differences: Vec<String>,
    },
    /// The data have changed since the run was started.
    #[error("`{}` was started with other data: {}", folder.display(), differences.join(", "))]
    OtherData {
        folder: PathBuf,
        differences: Vec<String>,
    },
    /// The rows of a run cannot have the roles that they had.
    #[error("the rows of `{}` cannot play the roles that its splits.json gives them: {reason}", folder.display())]
    OtherRoles { folder: PathBuf, reason: String },
    /// A file that this program writes cannot be read back.
    #[error("`{}` cannot be used: {reason}", path.display())]
    Malformed { path: PathBuf, reason: String },
    /// The run would not fit into memory.
    #[error("the run needs about {needed:.1} GB of memory and {available:.1} GB are free")]
    Memory { needed: f64, available: f64 },
}

impl From<AnswerError> for RunError {
    fn from(error: AnswerError) -> Self {
        Self::Answer(Box::new(error))
    }
}

impl RunError {
    /// Whether the watcher said stop.
    pub fn is_stop(&self) -> bool {
        match self {
            Self::Answer(error) => error.is_stop(),
            Self::Model(ModelError::Stopped { .. })
            | Self::Predict(PredictError::Stopped { .. })
            | Self::Train(TrainError::Predict(PredictError::Stopped { .. })) => true,
            _ => false,
        }
    }

    /// What the user can do about it, in one sentence.
    pub fn hint(&self) -> Option<Sentence> {
        match self {
            Self::Data(error) => error.hint(),
            Self::Model(error) => error.hint(),
            Self::Lora(error) => error.hint(),
            Self::Posterior(error) => error.hint(),
            Self::Bundle(error) => error.hint(),
            Self::Answer(error) => error.hint(),
            Self::Predict(error) => error.hint(),
            Self::Metrics(error) => error.hint(),
            Self::Train(error) => error.hint(),
            Self::File(error) => error.hint(),
            Self::Records(error) => error.hint(),
            Self::Tokenizer(_) => None,
            Self::Setting { .. } => Some(sentence!(
                "`{}` writes a file with every setting and its default",
                command("init")
            )),
            Self::NoSteps { .. } => {
                let methods = Method::fitted_afterwards();
                let quoted: Vec<String> = methods.iter().map(|name| format!("`{name}`")).collect();
                Some(sentence!(
                    "without a step {} are fitted to the adapter of another run, named \
                         by `{}`",
                    joined(&quoted, "and"),
                    setting("adapter")
                ))
            }
            Self::RanksDiffer { .. } => {
                Some("start all ranks by one command, on machines with the same files".into())
            }
            Self::Ranks(RankError::Lost { .. }) => Some(sentence!(
                "go on from the newest checkpoint with `{}`, on any number of ranks",
                setting("resume")
            )),
            Self::Ranks(_) | Self::Magnitudes { .. } | Self::Tables { .. } => None,
            Self::FolderHoldsRun { .. }
            | Self::FolderInUse { .. }
            | Self::OtherSettings { .. }
            | Self::OtherData { .. }
            | Self::OtherRoles { .. } => self.hint_on_the_folder(),
            Self::Malformed { .. } => Some("was it edited? every run writes its own".into()),
            Self::Memory { .. } => Some(sentence!(
                "keep the base as it is with `{}`, add `{}`, or lower `{}` or `{}`",
                setting_to("base_precision", "as-is"),
                setting("recompute"),
                setting("batch_size"),
                setting("max_length")
            )),
        }
    }

    /// The hint for a folder that holds another run, or the same run with other settings or data.
    fn hint_on_the_folder(&self) -> Option<Sentence> {
        match self {
            Self::FolderHoldsRun { .. } => Some(sentence!(
                "go on with `{}`, or name another folder with `{}`",
                setting("resume"),
                setting("out")
            )),
            Self::FolderInUse { .. } => Some(sentence!(
                "wait for it to end, or name another folder with `{}`",
                setting("out")
            )),
            Self::OtherSettings { .. } => Some(sentence!(
                "resume with the settings that the run was started with, or start \
                     anew in another folder named by `{}`",
                setting("out")
            )),
            Self::OtherData { .. } => Some(sentence!(
                "put the files back as they were; what the new data come to is \
                     another run, in another folder named by `{}`, and a cell of a \
                     comparison is made anew where its folder is removed",
                setting("out")
            )),
            Self::OtherRoles { .. } => Some(sentence!(
                "start a run anew in another folder named by `{}`; a cell of a \
                     comparison is made anew where its folder is removed",
                setting("out")
            )),
            _ => None,
        }
    }
}

//! What can be wrong with an adapter folder.

use std::path::PathBuf;

use crate::files::FileError;
use crate::lora::LoraError;
use crate::model::ModelError;
use crate::posterior::PosteriorError;
use crate::sentence::{Sentence, sentence, setting};

/// An adapter folder could not be found, read or written.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The posterior was learned around another mean.
    #[error("`{}` belongs to an adapter with SHA-256 {expected}, but the adapter beside it has {found}", path.display())]
    OtherMean {
        /// The posterior's file.
        path: PathBuf,
        /// The hash in its metadata.
        expected: String,
        /// The hash of the adapter's file.
        found: String,
    },
    /// A sidecar that cannot be parsed.
    #[error("`{}` is not what this program writes: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        reason: String,
    },
    /// The adapter was trained on another base.
    #[error("the adapter was trained on a base with {key} {expected}, but this one has {found}")]
    OtherBase {
        /// What differs.
        key: &'static str,
        /// The adapter's.
        expected: String,
        /// The base's.
        found: String,
    },
    /// A folder that names no task.
    #[error("`{}` has no `ivon_lora.json` that names its task", adapter.display())]
    NoTask {
        /// The folder.
        adapter: PathBuf,
    },
    /// A draw from the posterior is not another A and B.
    #[error("draws of this posterior are no adapters: {reason}")]
    NoPlainDraws {
        /// Why.
        reason: &'static str,
    },
    /// The posterior.
    #[error(transparent)]
    Posterior(#[from] PosteriorError),
    /// The adapter itself.
    #[error(transparent)]
    Lora(#[from] LoraError),
    /// An adapter of the hub could not be fetched.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
}

impl BundleError {
    /// What the user can do about it, in one sentence.
    pub fn hint(&self) -> Option<Sentence> {
        let hint = match self {
            Self::OtherMean { .. } => {
                "take both files from one run; without `posterior.safetensors` the \
                     adapter works as a point estimate"
            }
            Self::Malformed { .. } => "was the file edited or cut short?",
            Self::NoPlainDraws { .. } => "the mean is an adapter as it stands",
            Self::OtherBase { .. } => "name the base that the adapter's README.md names",
            Self::NoTask { .. } => {
                return Some(sentence!(
                    "it is an adapter of another program: name what it was trained for \
                         with `{}` or `{}`",
                    setting("task"),
                    setting("prompt")
                ));
            }
            Self::Posterior(error) => return error.hint(),
            Self::Lora(error) => return error.hint(),
            Self::Model(error) => return error.hint(),
            Self::File(error) => return error.hint(),
        };
        Some(hint.into())
    }
}

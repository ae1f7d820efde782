//! What can be wrong with a posterior.

use std::path::PathBuf;

use crate::lora::LoraError;
use crate::sentence::Sentence;

/// A posterior could not be made or drawn from.
#[derive(Debug, thiserror::Error)]
pub enum PosteriorError {
    /// A setting that cannot work.
    #[error("`{setting}` must be {expected}, found `{found}`")]
    Setting {
        /// The setting's name.
        setting: &'static str,
        /// What it may be.
        expected: &'static str,
        /// What it is.
        found: f64,
    },
    /// An adapter does not have the parameters of the mean.
    #[error("{what} has {found}, but the mean has {expected}")]
    Parameters {
        /// What the adapter is: the variance, a member, …
        what: &'static str,
        /// A parameter of the mean, with its shape.
        expected: String,
        /// What the other has in its place.
        found: String,
    },
    /// A variance that is negative or not finite.
    #[error("the variance of `{path}` holds {found}, expected finite numbers of at least 0")]
    Variance {
        /// The parameter.
        path: String,
        /// The number.
        found: f32,
    },
    /// A kind that cannot be pruned.
    #[error(
        "the posterior is of a kind that cannot be pruned: no weight of it can be fixed by itself"
    )]
    NotPruned,
    /// The list of kept weights does not have an entry for each weight.
    #[error("{found} weights are said to be kept or pruned, but the adapter has {expected}")]
    Kept {
        /// Weights of the adapter.
        expected: usize,
        /// Entries of the list.
        found: usize,
    },
    /// The columns of a rotation are not orthonormal.
    #[error("the rotation of `{path}` is off an orthogonal matrix by {found}")]
    Rotation {
        /// The parameter.
        path: String,
        /// The largest entry of |QᵀQ − 1|.
        found: f64,
    },
    /// An eigenvalue of a curvature that is negative or not finite.
    #[error("an eigenvalue of `{path}` is {found}, expected a finite number of at least 0")]
    Eigenvalue {
        /// The parameter.
        path: String,
        /// The number.
        found: f32,
    },
    /// A logit of a mask out of its range.
    #[error("a logit of the masks on `{path}` is {found}, expected a number from -18 to 18")]
    Logit {
        /// The matrix.
        path: String,
        /// The number.
        found: f32,
    },
    /// Noise on a row of the output layer that is not for this base.
    #[error(
        "the noise on the output row of token {token} has {found} numbers, but the row has {expected}"
    )]
    OutputRow {
        /// The token that the row scores.
        token: u32,
        /// Numbers of the row.
        expected: usize,
        /// Numbers of the noise.
        found: usize,
    },
    /// A fact of a file that is missing or malformed.
    #[error("`{}` has {found} as `{key}`, expected {expected}", path.display())]
    Metadata {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// The adapter itself.
    #[error(transparent)]
    Lora(#[from] LoraError),
}

impl PosteriorError {
    /// What the user can do about it, in one sentence.
    pub fn hint(&self) -> Option<Sentence> {
        let hint = match self {
            Self::Setting { .. } | Self::Kept { .. } => return None,
            Self::NotPruned => {
                "without an output folder the scores at each share are shown all the same"
            }
            Self::Parameters { .. } => "do the adapter and its posterior come from one run?",
            Self::OutputRow { .. } => "was the posterior made for this base?",
            Self::Eigenvalue { .. } | Self::Rotation { .. } | Self::Logit { .. } => {
                "was the file edited?"
            }
            Self::Variance { .. } => "the training run diverged: use an earlier checkpoint",
            Self::Metadata {
                key: "format_version",
                ..
            } => "a newer version of this program may have written it",
            Self::Metadata { .. } => "was the file written by this program?",
            Self::Lora(error) => return error.hint(),
        };
        Some(hint.into())
    }
}

//! The built-in kinds of posteriors: the tag of each in its file, and what it is in words.

use super::{contextual, gaussian, kronecker, laplace, masks, members, rows, swag};

/// A built-in kind of posterior.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// [`Gaussian`](super::Gaussian).
    Gaussian,
    /// [`Masks`](super::Masks).
    Masks,
    /// [`Members`](super::Members).
    Members,
    /// [`Laplace`](super::Laplace).
    Laplace,
    /// [`KroneckerLaplace`](super::KroneckerLaplace).
    KroneckerLaplace,
    /// [`Rows`](super::Rows).
    Rows,
    /// [`Swag`](super::Swag).
    Swag,
    /// [`Contextual`](super::Contextual).
    Contextual,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Gaussian,
        Self::Masks,
        Self::Members,
        Self::Laplace,
        Self::KroneckerLaplace,
        Self::Rows,
        Self::Swag,
        Self::Contextual,
    ];

    /// The kind with this tag; none for that of another program.
    pub fn of(tag: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.tag() == tag)
    }

    /// What `content` says in its file.
    pub fn tag(self) -> &'static str {
        match self {
            Self::Gaussian => gaussian::CONTENT,
            Self::Masks => masks::CONTENT,
            Self::Members => members::CONTENT,
            Self::Laplace => laplace::CONTENT,
            Self::KroneckerLaplace => kronecker::CONTENT,
            Self::Rows => rows::CONTENT,
            Self::Swag => swag::CONTENT,
            Self::Contextual => contextual::CONTENT,
        }
    }

    /// What it is, to go on after "the posterior is".
    pub fn words(self) -> &'static str {
        match self {
            Self::Gaussian => "a normal distribution, each weight by itself",
            Self::Masks => "Monte-Carlo dropout: a draw is a mask on the inputs of A",
            Self::Members => {
                "an ensemble: each member is a draw, and the first of them is shown here"
            }
            Self::Laplace => {
                "Laplace's approximation, each weight by itself; it predicts in the linearised model"
            }
            Self::KroneckerLaplace => {
                "Laplace's approximation with Kronecker factors: the weights of a matrix vary together"
            }
            Self::Rows => "a normal distribution with one number for each row of A",
            Self::Swag => {
                "SWAG's normal distribution: a variance of each weight, and directions in which all move together"
            }
            Self::Contextual => {
                "contextual: a small network between A and B predicts it for each token"
            }
        }
    }

    /// Whether its file has the variance of every weight, under the weight's own name.
    pub fn has_variances(self) -> bool {
        matches!(self, Self::Gaussian | Self::Laplace)
    }
}

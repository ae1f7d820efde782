//! The built-in kinds of posteriors: the tag of each in its file, and what it is in words.

use super::{clora, ensemble, gaussian, kronecker, laplace, mc_dropout, scalabl, swag};

/// A built-in kind of posterior.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// [`Gaussian`](super::Gaussian).
    Gaussian,
    /// [`McDropout`](super::McDropout).
    McDropout,
    /// [`Ensemble`](super::Ensemble).
    Ensemble,
    /// [`Laplace`](super::Laplace).
    Laplace,
    /// [`KroneckerLaplace`](super::KroneckerLaplace).
    KroneckerLaplace,
    /// [`Scalabl`](super::Scalabl).
    Scalabl,
    /// [`Swag`](super::Swag).
    Swag,
    /// [`Clora`](super::Clora).
    Clora,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Gaussian,
        Self::McDropout,
        Self::Ensemble,
        Self::Laplace,
        Self::KroneckerLaplace,
        Self::Scalabl,
        Self::Swag,
        Self::Clora,
    ];

    /// The kind with this tag; none for that of another program.
    pub fn of(tag: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.tag() == tag)
    }

    /// What `content` says in its file.
    pub fn tag(self) -> &'static str {
        match self {
            Self::Gaussian => gaussian::CONTENT,
            Self::McDropout => mc_dropout::CONTENT,
            Self::Ensemble => ensemble::CONTENT,
            Self::Laplace => laplace::CONTENT,
            Self::KroneckerLaplace => kronecker::CONTENT,
            Self::Scalabl => scalabl::CONTENT,
            Self::Swag => swag::CONTENT,
            Self::Clora => clora::CONTENT,
        }
    }

    /// What it is, to go on after "the posterior is".
    pub fn words(self) -> &'static str {
        match self {
            Self::Gaussian => "a normal distribution, each weight by itself",
            Self::McDropout => "Monte-Carlo dropout: a draw is a mask on the inputs of A",
            Self::Ensemble => {
                "an ensemble: each member is a draw, and the first of them is shown here"
            }
            Self::Laplace => {
                "Laplace's approximation, each weight by itself; it predicts in the linearised model"
            }
            Self::KroneckerLaplace => {
                "Laplace's approximation with Kronecker factors: the weights of a matrix vary together"
            }
            Self::Scalabl => "a normal distribution with one number for each row of A",
            Self::Swag => {
                "SWAG's normal distribution: a variance of each weight, and directions in which all move together"
            }
            Self::Clora => "contextual: a small network between A and B predicts it for each token",
        }
    }

    /// Whether its file has the variance of every weight, under the weight's own name.
    pub fn has_variances(self) -> bool {
        matches!(self, Self::Gaussian | Self::Laplace)
    }
}

#[cfg(test)]
mod tests;

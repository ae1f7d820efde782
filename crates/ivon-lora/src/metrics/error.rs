//! What can be wrong with probabilities and labels.

use crate::sentence::Sentence;

/// Scores cannot be computed from these predictions.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum MetricsError {
    /// There is nothing to score.
    #[error("there are no examples to score")]
    Empty,
    /// Two lists that should be of the same length are not.
    #[error("there are {found} {what}, expected {expected}")]
    Length {
        /// What is counted.
        what: &'static str,
        /// How many there should be.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// A label beyond the choices.
    #[error("example {example} has label {label}, expected below its {choices} choices")]
    Label {
        /// Its place, from 0.
        example: usize,
        /// Its label.
        label: usize,
        /// The number of its choices.
        choices: usize,
    },
    /// Numbers that are not a distribution.
    #[error(
        "example {example} has {found}, expected finite log-probabilities whose probabilities sum to 1"
    )]
    NotADistribution {
        /// Its place, from 0.
        example: usize,
        /// What was found.
        found: String,
    },
}

impl MetricsError {
    /// What the user can do about it, in one sentence.
    pub fn hint(&self) -> Option<Sentence> {
        match self {
            Self::Empty => Some("does the split hold rows with labels?".into()),
            Self::NotADistribution { .. } => Some(
                "the logits are not finite: the training run diverged, or the draws are too wide"
                    .into(),
            ),
            Self::Length { .. } | Self::Label { .. } => None,
        }
    }
}

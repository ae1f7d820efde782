//! What can be wrong with a wish for a decision rule.

use crate::sentence::Sentence;

/// A rule cannot be searched for, or a stored one not be read.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum DecideError {
    /// A number out of range.
    #[error("{what} is {found}, expected {expected}")]
    OutOfRange {
        /// What it is.
        what: &'static str,
        /// What was found.
        found: f64,
        /// What was expected.
        expected: &'static str,
    },
    /// A class that no row can have.
    #[error("class {class} is not one of the {classes} classes")]
    Class {
        /// The class, from 0.
        class: usize,
        /// How many there are.
        classes: usize,
    },
    /// Costs that do not fit the classes, or are negative or not finite.
    #[error(
        "the cost of answering class {answer} when class {label} is right is {found}, expected a finite number, at least 0"
    )]
    Cost {
        /// The right class, from 0.
        label: usize,
        /// The answered one, from 0.
        answer: usize,
        /// The cost.
        found: f64,
    },
    /// Costs of another number of classes.
    #[error("the costs are of {found} classes, expected {expected}")]
    Costs {
        /// The number of classes of the task.
        expected: usize,
        /// The number of classes of the costs.
        found: usize,
    },
    /// Two wishes that no rule can meet together.
    #[error("{one} cannot be promised together with {other}")]
    Together {
        /// The one.
        one: &'static str,
        /// The other.
        other: &'static str,
    },
}

impl DecideError {
    /// What the user can do about it, in one sentence.
    pub fn hint(&self) -> Option<Sentence> {
        match self {
            Self::Cost { .. } | Self::Costs { .. } => Some(
                "a file of costs has, for each right answer, the cost of each other answer".into(),
            ),
            Self::Together { .. } => Some("ask for two rules, one after the other".into()),
            Self::OutOfRange { .. } | Self::Class { .. } => None,
        }
    }
}

/// Checks that a number is strictly between 0 and 1.
pub(super) fn check_share(what: &'static str, found: f64) -> Result<(), DecideError> {
    if found > 0.0 && found < 1.0 {
        return Ok(());
    }
    Err(DecideError::OutOfRange {
        what,
        found,
        expected: "a number between 0 and 1",
    })
}

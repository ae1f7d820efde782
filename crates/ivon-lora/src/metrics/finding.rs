//! Something notable in scores or records: how much it matters, and what to do about it.

use crate::sentence::Sentence;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Good to know.
    Note,
    /// It probably makes the outcome worse.
    Warning,
    /// The run did not work.
    Problem,
}

impl Severity {
    /// In one word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// Something that explains a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// What was found, with its numbers.
    pub what: String,
    /// What to change.
    pub remedy: Sentence,
}

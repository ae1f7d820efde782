//! What a run tells whoever watches it.

use std::path::Path;

use crate::report::{EvaluationRecord, StepRecord};

/// One thing that happened. The library never prints; the binary draws these.
#[derive(Clone, Debug)]
pub enum RunEvent<'a> {
    /// Something worth knowing, one sentence.
    Note(String),
    /// Something that may be wrong, one sentence with what to do.
    Warning(String),
    /// A step of so many was taken.
    Step(&'a StepRecord, u64),
    /// Scores on tune.
    Evaluation(&'a EvaluationRecord),
    /// A checkpoint, an adapter or a file of results was written.
    Saved(&'a Path),
    /// A longer piece of work has done so much of so much.
    Progress {
        /// What: `evaluating tune`, `predicting`, …
        what: &'static str,
        /// Done so far.
        done: usize,
        /// In all.
        total: usize,
    },
}

//! One thing that happened.

use std::path::Path;

use super::{EvaluationRecord, Stage, StepRecord};
use crate::sentence::Sentence;

/// Hears what happens and says whether to go on.
pub type Watch<'w> = &'w mut dyn FnMut(Event<'_>) -> bool;

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// Something worth knowing, one sentence.
    Note(String),
    /// Something that may be wrong, one sentence with what to do.
    Warning(Sentence),
    /// Bytes of a file have come from the hub.
    Received {
        /// The file's name in the repository.
        file: &'a str,
        /// Bytes that are there.
        received: u64,
        /// Bytes of the whole file; 0 where the server does not say.
        total: u64,
    },
    /// A member of so many, counted from 1, is trained from here on.
    Member(usize, usize),
    /// A step of so many was taken.
    Step(&'a StepRecord, u64),
    /// Scores on tune.
    Evaluation(&'a EvaluationRecord),
    /// A checkpoint, an adapter or a file of results was written.
    Saved(&'a Path),
    /// A longer piece of work has done so much of so much.
    Progress {
        /// Which.
        what: Stage,
        /// Done so far.
        done: usize,
        /// In all.
        total: usize,
    },
}

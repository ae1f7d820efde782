//! The events of a long operation.

use std::path::Path;

use super::{EvaluationRecord, Stage, StepRecord};
use crate::sentence::Sentence;

/// A callback that receives events and returns whether to go on.
pub type Watch<'w> = &'w mut dyn FnMut(Event<'_>) -> bool;

/// An event.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// Information, one sentence.
    Note(String),
    /// A possible problem and what to do about it.
    Warning(Sentence),
    /// Bytes of a file were downloaded.
    Received {
        /// The file's name in the repository.
        file: &'a str,
        /// Bytes downloaded so far.
        received: u64,
        /// Size of the file in bytes; 0 if the server does not say.
        total: u64,
    },
    /// Training of an ensemble member starts: its number, from 1, and how many there are.
    Member(usize, usize),
    /// A step was taken: its record, and the number of steps of the run.
    Step(&'a StepRecord, u64),
    /// Scores on tune.
    Evaluation(&'a EvaluationRecord),
    /// A checkpoint, an adapter or a results file was written.
    Saved(&'a Path),
    /// Progress of a longer stage.
    Progress {
        /// The stage.
        what: Stage,
        /// Done so far.
        done: usize,
        /// Total.
        total: usize,
    },
}

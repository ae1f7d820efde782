//! What a template may cost, and the error of one that asks for more or for what is not there.

use minijinja::{Error, ErrorKind, State};

/// An error of the template, in a sentence.
pub(super) fn refused(reason: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, reason.into())
}

/// Pays for a text of this length, at 64 bytes a step.
pub(super) fn charge(state: &State, bytes: usize) -> Result<(), Error> {
    state.consume_fuel(bytes as u64 / 64)
}

//! The limits on what a template may cost, and the error of a template that exceeds them.

use minijinja::{Error, ErrorKind, State};

/// A template error with this message.
pub(super) fn refused(reason: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, reason.into())
}

/// Charges for a string of this length, one step for 64 bytes.
pub(super) fn charge(state: &State, bytes: usize) -> Result<(), Error> {
    state.consume_fuel(bytes as u64 / 64)
}

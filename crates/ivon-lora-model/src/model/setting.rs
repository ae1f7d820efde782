//! Errors for model settings that are out of range.

use super::error::ModelError;

/// An error that names the field, unless `holds`.
pub(super) fn ensure(
    file: &str,
    field: &str,
    found: impl std::fmt::Display,
    holds: bool,
    expected: impl std::fmt::Display,
) -> Result<(), ModelError> {
    if holds {
        Ok(())
    } else {
        Err(setting(file, field, format!("`{found}`"), expected))
    }
}

/// The error for a field; `found` is printed as it is.
pub(super) fn setting(
    file: &str,
    field: &str,
    found: impl std::fmt::Display,
    expected: impl std::fmt::Display,
) -> ModelError {
    ModelError::Setting {
        file: file.into(),
        field: field.into(),
        found: found.to_string(),
        expected: expected.to_string(),
    }
}

/// Checks that a number is between 1 and `most`.
pub(super) fn count(file: &str, field: &str, value: usize, most: usize) -> Result<(), ModelError> {
    let holds = (1..=most).contains(&value);
    ensure(file, field, value, holds, format_args!("1 to {most}"))
}

//! Calls into libraries that parse untrusted files: a panic in one of them becomes an error that
//! names it.
//!
//! A parser that panics on a malformed file has a bug, and the user should see an error and not a
//! crash. Values borrowed by the call are in an unknown state afterwards and must be dropped.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A library panicked.
#[derive(Debug, thiserror::Error)]
#[error("the library `{component}` cannot read it: {message}")]
pub(crate) struct Panicked {
    /// The library's name, as on crates.io.
    pub component: &'static str,
    /// The message of the panic, on one line.
    pub message: String,
}

/// Runs a call into a library.
///
/// # Errors
/// [`Panicked`] if it panicked.
pub(crate) fn guard<T>(component: &'static str, step: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(step)).map_err(|panic| Panicked {
        component,
        message: message(&*panic),
    })
}

/// [`guard`] for a call that returns a `Result`; both kinds of failure become text.
///
/// # Errors
/// The call's own error, or [`Panicked`], as text.
pub(crate) fn guard_result<T, E: std::fmt::Display>(
    component: &'static str,
    step: impl FnOnce() -> Result<T, E>,
) -> Result<T, String> {
    guard(component, step)
        .map_err(|panicked| panicked.to_string())?
        .map_err(|error| error.to_string())
}

/// The message of a panic: `panic!` makes it a `&str` or a `String`.
fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| text.to_string());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "it panicked".into())
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_sentence_that_names_the_library() {
        let numbers: Vec<u32> = Vec::new();
        let panicked = guard("tables", || numbers[3]).unwrap_err();
        assert_eq!(panicked.component, "tables");
        let text = panicked.to_string();
        assert!(
            text.starts_with("the library `tables` cannot read it: index out of bounds"),
            "{text}"
        );
        let lines = guard("tables", || -> () { panic!("one\n  two {}", 3) })
            .unwrap_err()
            .to_string();
        assert!(lines.ends_with("one two 3"), "{lines}");
    }

    #[test]
    fn what_does_not_panic_is_handed_on() {
        assert_eq!(guard("tables", || 7).unwrap(), 7);
        assert_eq!(guard_result("tables", || "7".parse::<u8>()), Ok(7));
        assert!(
            guard_result("tables", || "x".parse::<u8>())
                .unwrap_err()
                .contains("invalid digit")
        );
        let panics = || -> Result<u8, std::fmt::Error> { panic!("no") };
        assert!(
            guard_result("tables", panics)
                .unwrap_err()
                .contains("`tables`")
        );
    }
}

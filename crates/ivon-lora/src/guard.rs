//! Code of others that may panic on a stranger's file: a panic becomes an error that names it.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    /// How many guards are around what this thread does.
    static GUARDED: Cell<usize> = const { Cell::new(0) };
}

/// A component panicked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{component} failed on it ({reason})")]
pub struct Panicked {
    /// Which component.
    pub component: &'static str,
    /// What it said.
    pub reason: String,
}

/// What `work` gives. Its panic is caught, and printed nowhere.
///
/// # Errors
/// [`Panicked`], if it panics.
pub fn guard<T>(component: &'static str, work: impl FnOnce() -> T) -> Result<T, Panicked> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |information| {
            if GUARDED.with(Cell::get) == 0 {
                before(information);
            }
        }));
    });
    GUARDED.with(|guarded| guarded.set(guarded.get() + 1));
    let result = catch_unwind(AssertUnwindSafe(work));
    GUARDED.with(|guarded| guarded.set(guarded.get() - 1));
    result.map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(ToString::to_string);
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        let line = text.as_deref().and_then(|text| text.lines().next()).unwrap_or("it panicked");
        Panicked { component, reason: line.chars().take(200).collect() }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_that_names_the_component() {
        assert_eq!(guard("the parser", || 7), Ok(7));
        let error = guard("the parser", || panic!("index {} is out of range", 3)).unwrap_err();
        assert_eq!(error.to_string(), "the parser failed on it (index 3 is out of range)");
    }
}

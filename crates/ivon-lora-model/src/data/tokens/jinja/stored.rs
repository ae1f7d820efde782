//! Limits on the value of a variable, so that no operation on it takes long.

use minijinja::value::ValueKind;
use minijinja::{Error, State, Value};

use super::limits::refused;
use super::objects::{Generator, Range};

/// The maximum number of values in a variable, nested values counted at each occurrence: this
/// limits the cost of printing and comparing it.
const MOST_STORED: usize = 1000;
/// The values for each message, where that is more: a template may store the messages.
const VALUES_PER_MESSAGE: usize = 10;
/// The maximum length in bytes of the strings in a variable, beyond the length of the inputs.
const LONGEST_STORED: usize = 1 << 20;
/// The maximum nesting of values.
const DEEPEST_STORED: usize = 64;

/// The variables with the number of messages and the bytes of their contents.
pub(super) const GIVEN_MESSAGES: &str = "__messages";
pub(super) const GIVEN_BYTES: &str = "__bytes";

/// Passes a value that is to be stored in a variable, unless it exceeds the limits.
pub(super) fn stored(state: &State, value: Value) -> Result<Value, Error> {
    bounded(state, &value, true)?;
    Ok(value)
}

/// [`stored`] for a value in a namespace, which may not contain a namespace: it could contain
/// itself.
pub(super) fn attribute(state: &State, value: Value) -> Result<Value, Error> {
    bounded(state, &value, false)?;
    Ok(value)
}

fn bounded(state: &State, value: &Value, namespaces: bool) -> Result<(), Error> {
    let given = |name| state.lookup(name).and_then(|given| given.as_usize());
    let messages = given(GIVEN_MESSAGES).unwrap_or(1);
    let most = MOST_STORED.max(VALUES_PER_MESSAGE * messages);
    let mut left = Budget {
        most,
        values: most,
        bytes: LONGEST_STORED + 2 * given(GIVEN_BYTES).unwrap_or(0),
        namespaces,
    };
    left.take(value, 0)?;
    state.consume_fuel((most - left.values) as u64)
}

/// What remains of the limits.
struct Budget {
    most: usize,
    values: usize,
    bytes: usize,
    namespaces: bool,
}

impl Budget {
    fn spend(&mut self, value: &Value) -> Result<(), Error> {
        let values = self.values.checked_sub(1);
        self.values =
            values.ok_or_else(|| too_large(&format!("more than {} values", self.most)))?;
        if let Some(text) = value.as_str() {
            let bytes = self.bytes.checked_sub(text.len());
            self.bytes = bytes
                .ok_or_else(|| too_large(&format!("more than {LONGEST_STORED} bytes of text")))?;
        }
        Ok(())
    }

    fn take(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > DEEPEST_STORED {
            return Err(too_large(&format!(
                "values nested more than {DEEPEST_STORED} deep"
            )));
        }
        self.spend(value)?;
        // A range is computed, and a generator is empty after it has been read.
        let is_lazy = value.downcast_object_ref::<Range>().is_some()
            || value.downcast_object_ref::<Generator>().is_some();
        let Some(object) = value.as_object().filter(|_| !is_lazy) else {
            return Ok(());
        };
        if !self.namespaces && object.type_name().ends_with("::Namespace") {
            return Err(too_large("a namespace inside a namespace"));
        }
        match value.kind() {
            ValueKind::Map => {
                for (key, value) in object.try_iter_pairs().into_iter().flatten() {
                    self.take(&key, depth + 1)?;
                    self.take(&value, depth + 1)?;
                }
            }
            ValueKind::Seq | ValueKind::Iterable => {
                for item in value.try_iter()? {
                    self.take(&item, depth + 1)?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn too_large(what: &str) -> Error {
    refused(format!("a variable holds {what}"))
}

//! What a template may keep in a variable: so much that nothing it does with it takes long.

use minijinja::value::ValueKind;
use minijinja::{Error, State, Value};

use super::limits::refused;
use super::objects::{Generator, Range};

/// The most values that a variable holds, those inside others counted each time they are met: this
/// bounds what printing and comparing it can cost.
const MOST_STORED: usize = 1000;
/// The most bytes of text that a variable holds besides what the template is given.
const LONGEST_STORED: usize = 1 << 20;
/// Values inside values.
const DEEPEST_STORED: usize = 64;

/// A value on its way into a variable, refused where it has grown beyond bounds.
pub(super) fn stored(state: &State, value: Value) -> Result<Value, Error> {
    bounded(state, &value, true)?;
    Ok(value)
}

/// As [`stored`], on its way into a namespace, which may then not hold another: it could hold
/// itself.
pub(super) fn attribute(state: &State, value: Value) -> Result<Value, Error> {
    bounded(state, &value, false)?;
    Ok(value)
}

fn bounded(state: &State, value: &Value, namespaces: bool) -> Result<(), Error> {
    let given = state.lookup("messages").map_or(0, |messages| {
        let content = messages
            .get_item_by_index(0)
            .and_then(|first| first.get_attr("content"));
        content
            .ok()
            .and_then(|content| content.as_str().map(str::len))
            .unwrap_or(0)
    });
    let mut left = Budget {
        values: MOST_STORED,
        bytes: LONGEST_STORED + 2 * given,
        namespaces,
    };
    left.take(value, 0)?;
    state.consume_fuel((MOST_STORED - left.values) as u64)
}

/// What a value may still hold.
struct Budget {
    values: usize,
    bytes: usize,
    namespaces: bool,
}

impl Budget {
    fn take(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        let too_large = |what: &str| refused(format!("a variable holds {what}"));
        if depth > DEEPEST_STORED {
            return Err(too_large(&format!(
                "values nested more than {DEEPEST_STORED} deep"
            )));
        }
        self.values = self
            .values
            .checked_sub(1)
            .ok_or_else(|| too_large(&format!("more than {MOST_STORED} values")))?;
        if let Some(text) = value.as_str() {
            self.bytes = self
                .bytes
                .checked_sub(text.len())
                .ok_or_else(|| too_large(&format!("more than {LONGEST_STORED} bytes of text")))?;
        }
        // A range is computed, and a generator, once read, is empty.
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

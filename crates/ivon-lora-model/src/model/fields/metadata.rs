//! The metadata of a GGUF file under its architecture's name, and the shapes of its tensors, with
//! type checks: what a family's GGUF files are read from.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::model::error::ModelError;
use crate::model::setting::setting;

/// The metadata of a GGUF file under its architecture's name; keys are without that name, errors
/// have the whole key.
pub(in crate::model) struct Metadata<'a> {
    /// The file's name in errors.
    pub file: &'a str,
    /// `general.architecture`.
    pub architecture: &'a str,
    /// By key; null for what is neither a number, a flag, a text nor a short list of numbers.
    pub values: Map<String, Value>,
    /// The shapes of all tensors, by their names in GGUF, rows first.
    pub shapes: BTreeMap<&'a str, &'a [usize]>,
    /// The divisors of rotary frequencies, by the name of their tensor.
    pub divisors: BTreeMap<&'static str, Vec<f32>>,
}

impl Metadata<'_> {
    /// The whole key.
    pub fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    /// The error for a key.
    pub fn wrong(
        &self,
        key: &str,
        found: impl std::fmt::Display,
        expected: impl std::fmt::Display,
    ) -> ModelError {
        setting(self.file, &self.key(key), found, expected)
    }

    fn read<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, ModelError> {
        let Some(value) = self.values.get(key) else {
            return Ok(None);
        };
        let wrong = || self.wrong(key, "something else", expected);
        read(value).map(Some).ok_or_else(wrong)
    }

    /// A whole number.
    pub fn count(&self, key: &str) -> Result<Option<usize>, ModelError> {
        self.read(key, "a whole number, not negative", count)
    }

    /// A whole number that must be there.
    pub fn needed(&self, key: &str) -> Result<usize, ModelError> {
        let missing = || self.wrong(key, "missing", "a whole number");
        self.count(key)?.ok_or_else(missing)
    }

    /// A number.
    pub fn number(&self, key: &str) -> Result<Option<f64>, ModelError> {
        self.read(key, "a number", Value::as_f64)
    }

    /// A flag.
    pub fn flag(&self, key: &str) -> Result<Option<bool>, ModelError> {
        self.read(key, "`true` or `false`", Value::as_bool)
    }

    /// A text.
    pub fn text(&self, key: &str) -> Result<Option<&str>, ModelError> {
        let text = |value: &Value| value.as_str().map(String::from);
        self.read(key, "a text", text)?;
        Ok(self.values.get(key).and_then(Value::as_str))
    }

    /// A whole number of each layer: a list, or one number for all.
    pub fn counts(&self, key: &str, layers: usize) -> Result<Option<Vec<usize>>, ModelError> {
        let expected = format!("a whole number, or a list of {layers}");
        let read = |value: &Value| match value {
            Value::Array(list) if list.len() == layers => list.iter().map(count).collect(),
            Value::Array(_) => None,
            one => Some(vec![count(one)?; layers]),
        };
        self.read(key, &expected, read)
    }

    /// Whether each layer has an attention window: by `attention.sliding_window_pattern`, a flag
    /// for each layer, or the interval of those without; else all but every `interval`-th.
    pub fn slides(&self, layers: usize, interval: usize) -> Result<Vec<bool>, ModelError> {
        let key = "attention.sliding_window_pattern";
        let interval = match self.values.get(key) {
            Some(Value::Array(_)) => {
                let flags = self.counts(key, layers)?.unwrap_or_default();
                return Ok(flags.into_iter().map(|flag| flag != 0).collect());
            }
            Some(_) => self.needed(key)?,
            None => interval,
        };
        let slides = |layer: usize| interval == 0 || !(layer + 1).is_multiple_of(interval);
        Ok((0..layers).map(slides).collect())
    }
}

/// A whole number; lists of flags have 0 and 1.
fn count(value: &Value) -> Option<usize> {
    usize::try_from(value.as_u64()?).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn metadata(values: Value) -> Metadata<'static> {
        let Value::Object(values) = values else {
            panic!("an object");
        };
        Metadata {
            file: "m.gguf",
            architecture: "gemma3",
            values,
            shapes: BTreeMap::new(),
            divisors: BTreeMap::new(),
        }
    }

    #[test]
    fn windows_go_by_a_list_by_an_interval_or_by_that_of_the_family() {
        let key = "attention.sliding_window_pattern";
        let slides = |pattern| metadata(json!({ key: pattern })).slides(4, 3);
        let [yes, no] = [true, false];
        assert_eq!(slides(json!([1, 1, 0, 1])).unwrap(), [yes, yes, no, yes]);
        assert_eq!(slides(json!(2)).unwrap(), [yes, no, yes, no]);
        assert_eq!(slides(json!(1)).unwrap(), [no; 4]);
        let none = metadata(json!({})).slides(4, 3).unwrap();
        assert_eq!(none, [yes, yes, no, yes]);
        assert_eq!(
            slides(json!([1, 0])).unwrap_err().to_string(),
            "`gemma3.attention.sliding_window_pattern` in `m.gguf` is something else, expected a whole number, or a list of 4"
        );
    }

    #[test]
    fn a_number_for_all_layers_is_that_of_each() {
        let metadata = metadata(json!({ "one": 2, "each": [1, 2], "text": "2" }));
        assert_eq!(metadata.counts("one", 2).unwrap(), Some(vec![2, 2]));
        assert_eq!(metadata.counts("each", 2).unwrap(), Some(vec![1, 2]));
        assert_eq!(metadata.counts("none", 2).unwrap(), None);
        assert!(metadata.counts("text", 2).is_err() && metadata.count("each").is_err());
    }
}

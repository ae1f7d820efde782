//! The keys of a `config.json`, with type checks: what all families read the same way.

pub(super) mod keys;
pub(super) mod metadata;
pub(super) mod rope;
pub(super) mod translation;

use serde_json::{Map, Value};

use super::error::ModelError;
use super::setting::setting;

/// The keys of an object, with type checks.
pub(in crate::model) struct Fields<'a> {
    pub object: &'a Map<String, Value>,
    pub file: &'a str,
}

impl<'a> Fields<'a> {
    pub fn missing(&self, field: &str) -> ModelError {
        setting(self.file, field, "missing", "a value")
    }

    pub fn wrong(&self, field: &str, found: &Value, expected: &str) -> ModelError {
        setting(
            self.file,
            field,
            format!(
                "`{}`",
                found.to_string().chars().take(60).collect::<String>()
            ),
            expected,
        )
    }

    /// The value of a key, `None` if it is absent or null.
    pub fn get(&self, field: &str) -> Option<&'a Value> {
        self.object.get(field).filter(|value| !value.is_null())
    }

    pub fn count(&self, field: &str) -> Result<Option<usize>, ModelError> {
        let read = |value: &Value| {
            value
                .as_u64()
                .and_then(|n| usize::try_from(n).ok())
                .ok_or_else(|| self.wrong(field, value, "a whole number, not negative"))
        };
        self.get(field).map(read).transpose()
    }

    pub fn needed_count(&self, field: &str) -> Result<usize, ModelError> {
        self.count(field)?.ok_or_else(|| self.missing(field))
    }

    pub fn number(&self, field: &str) -> Result<Option<f64>, ModelError> {
        self.get(field)
            .map(|value| {
                value
                    .as_f64()
                    .ok_or_else(|| self.wrong(field, value, "a number"))
            })
            .transpose()
    }

    pub fn flag(&self, field: &str) -> Result<Option<bool>, ModelError> {
        self.get(field)
            .map(|value| {
                value
                    .as_bool()
                    .ok_or_else(|| self.wrong(field, value, "`true` or `false`"))
            })
            .transpose()
    }

    pub fn text(&self, field: &str) -> Result<Option<&'a str>, ModelError> {
        self.get(field)
            .map(|value| {
                value
                    .as_str()
                    .ok_or_else(|| self.wrong(field, value, "a text"))
            })
            .transpose()
    }

    /// The kinds of the layers, each one of `known`.
    pub fn layer_types(&self, known: &[&str]) -> Result<Option<Vec<&'a str>>, ModelError> {
        if self.get("layer_types").is_none() {
            return Ok(None);
        }
        let names = self.list_of_texts("layer_types")?;
        // The older names in transformers.
        let names: Vec<&str> = names
            .into_iter()
            .map(|name| match name {
                "attention" => "full_attention",
                "mamba" => "linear_attention",
                name => name,
            })
            .collect();
        if let Some(layers) = self
            .count("num_hidden_layers")?
            .filter(|n| *n != names.len())
        {
            let found = format!("a list of {}", names.len());
            let expected = format!("one for each of {layers} layers");
            return Err(setting(self.file, "layer_types", found, expected));
        }
        match names.iter().find(|name| !known.contains(name)) {
            Some(other) => {
                let expected = format!("`{}`", known.join("` or `"));
                Err(setting(
                    self.file,
                    "layer_types",
                    format!("`{other}`"),
                    expected,
                ))
            }
            None => Ok(Some(names)),
        }
    }

    /// A list of texts; empty if there is none.
    pub fn list_of_texts(&self, field: &str) -> Result<Vec<&'a str>, ModelError> {
        let Some(value) = self.get(field) else {
            return Ok(Vec::new());
        };
        let texts = value
            .as_array()
            .and_then(|list| list.iter().map(Value::as_str).collect::<Option<Vec<_>>>());
        texts.ok_or_else(|| self.wrong(field, value, "a list of names"))
    }

    /// A list of numbers.
    pub fn numbers(&self, field: &str) -> Result<Option<Vec<f64>>, ModelError> {
        let Some(value) = self.get(field) else {
            return Ok(None);
        };
        let numbers = value
            .as_array()
            .and_then(|list| list.iter().map(Value::as_f64).collect::<Option<Vec<_>>>());
        let wrong = || self.wrong(field, value, "a list of numbers");
        numbers.map(Some).ok_or_else(wrong)
    }

    /// An object, if it is not empty.
    pub fn object(&self, field: &str) -> Result<Option<Fields<'a>>, ModelError> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::Object(object)) => Ok((!object.is_empty()).then_some(Fields {
                object,
                file: self.file,
            })),
            Some(other) => Err(self.wrong(field, other, "an object")),
        }
    }

    /// Refuses `true`.
    pub fn refuse_flag(&self, field: &str) -> Result<(), ModelError> {
        match self.flag(field)?.unwrap_or(false) {
            true => Err(setting(self.file, field, "`true`", "`false`")),
            false => Ok(()),
        }
    }

    /// Refuses any value except null, 0 and an empty object.
    pub fn refuse_unless_empty(&self, field: &str, expected: &str) -> Result<(), ModelError> {
        let is_empty = |found: &Value| {
            found.as_object().is_some_and(Map::is_empty) || found.as_u64() == Some(0)
        };
        match self.get(field) {
            Some(found) if !is_empty(found) => Err(setting(self.file, field, "there", expected)),
            _ => Ok(()),
        }
    }
}

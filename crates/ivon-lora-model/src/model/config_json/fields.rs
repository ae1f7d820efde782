//! The keys of a `config.json`, with type checks.

use serde_json::{Map, Value};

use crate::model::error::ModelError;
use crate::model::setting::setting;

/// The keys of an object, with type checks.
pub(super) struct Fields<'a> {
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

    pub fn layer_types(&self) -> Result<Option<Vec<&'a str>>, ModelError> {
        let Some(value) = self.get("layer_types") else {
            return Ok(None);
        };
        let names = value
            .as_array()
            .and_then(|list| list.iter().map(Value::as_str).collect::<Option<Vec<_>>>());
        let names = names.ok_or_else(|| self.wrong("layer_types", value, "a list of names"))?;
        // The older name in transformers.
        let names: Vec<&str> = names
            .into_iter()
            .map(|name| match name {
                "attention" => "full_attention",
                name => name,
            })
            .collect();
        let known = ["full_attention", "sliding_attention"];
        match names.iter().find(|name| !known.contains(name)) {
            Some(other) => Err(setting(
                self.file,
                "layer_types",
                format!("`{other}`"),
                "`full_attention` or `sliding_attention`",
            )),
            None => Ok(Some(names)),
        }
    }
}

//! One row of a file: its fields and its place.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::json;
use crate::data::error::DataError;
use crate::data::place::Place;

/// One row of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The fields by name, in the order of the file.
    pub fields: Map<String, Value>,
    /// The row's file and line.
    pub place: Place,
}

impl Row {
    /// Reads a row from one line of JSON.
    ///
    /// # Errors
    /// If the line is not a JSON object, has a duplicate key, or has too many values.
    pub fn from_json(line: &str, place: Place) -> Result<Self, DataError> {
        match json::object(line) {
            Ok(fields) => Ok(Self { fields, place }),
            Err(reason) => Err(DataError::MalformedLine { at: place, reason }),
        }
    }

    /// Rows in memory; `name` is their file in messages.
    pub fn in_memory(
        name: &str,
        rows: Vec<Map<String, Value>>,
    ) -> impl Iterator<Item = Self> + use<> {
        let name: Arc<str> = name.into();
        let row = move |(index, fields)| Self {
            fields,
            place: Place::new(Arc::clone(&name), index + 1),
        };
        rows.into_iter().enumerate().map(row)
    }

    /// The names of the row's fields.
    pub fn names(&self) -> Vec<String> {
        self.fields.keys().cloned().collect()
    }

    /// A required field.
    ///
    /// # Errors
    /// [`DataError::MissingField`] with the fields of the row; [`DataError::WrongType`] if it is
    /// null.
    pub fn field(&self, name: &str) -> Result<&Value, DataError> {
        match self.fields.get(name) {
            None => Err(DataError::MissingField {
                at: self.place.clone(),
                field: name.into(),
                found: self.names(),
            }),
            Some(Value::Null) => Err(self.wrong_type(name, "a value", &Value::Null)),
            Some(value) => Ok(value),
        }
    }

    /// A field as text, possibly empty; numbers and booleans are formatted.
    ///
    /// # Errors
    /// If the field is missing, null, a list or an object.
    pub fn text(&self, name: &str) -> Result<String, DataError> {
        match self.field(name)? {
            Value::String(text) => Ok(text.clone()),
            Value::Number(number) => Ok(number.to_string()),
            Value::Bool(truth) => Ok(truth.to_string()),
            other => Err(self.wrong_type(name, "text", other)),
        }
    }

    /// The error for a field of the wrong type.
    pub(crate) fn wrong_type(
        &self,
        field: &str,
        expected: &'static str,
        found: &Value,
    ) -> DataError {
        DataError::WrongType {
            at: self.place.clone(),
            field: field.into(),
            expected,
            found: json::kind(found).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_field_a_null_and_a_list_where_text_is_needed_are_errors_that_differ() {
        let row = Row::from_json(
            "{\"a\": [1], \"n\": null, \"i\": 3, \"e\": \"\"}",
            Place::new("f", 9),
        )
        .unwrap();
        assert!(matches!(row.text("b"), Err(DataError::MissingField { .. })));
        assert_eq!(
            row.text("n").unwrap_err().to_string(),
            "`f` line 9: field `n` is null, expected a value"
        );
        assert_eq!(
            row.text("a").unwrap_err().to_string(),
            "`f` line 9: field `a` is a list, expected text"
        );
        assert_eq!(
            (
                row.text("i").unwrap().as_str(),
                row.text("e").unwrap().as_str()
            ),
            ("3", "")
        );
    }
}

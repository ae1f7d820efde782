//! One line of JSON → the fields of an object. A duplicate key is refused, because it is unclear
//! which of its values is meant.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// The maximum number of values in a line, over all levels: a short value takes many times its
/// length in memory.
const MOST_VALUES: usize = 1 << 20;

/// The fields of the object in a line, or what is wrong with the line, in words.
pub(crate) fn object(line: &str) -> Result<Map<String, Value>, String> {
    match value(line) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(other) => Err(format!("it is {}, expected an object", kind(&other))),
        Err(error) => Err(reason(line, &error)),
    }
}

/// Parses JSON without duplicate keys; serde_json limits the nesting.
pub(crate) fn value(text: &str) -> serde_json::Result<Value> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let left = Cell::new(MOST_VALUES);
    let value = BoundedValue { left: &left }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// Serde sees a single line, so of its position only the column is of use.
fn reason(line: &str, error: &serde_json::Error) -> String {
    let said = error.to_string();
    let said = said.split(" at line ").next().unwrap_or(&said);
    let rest = line
        .get(error.column().saturating_sub(1)..)
        .unwrap_or_default();
    if ["NaN", "Infinity", "-Infinity"]
        .iter()
        .any(|word| rest.starts_with(word))
        || line.contains(": NaN") && said.starts_with("expected")
    {
        return format!(
            "JSON has no NaN and no Infinity, write null in their place; {said} at column {}",
            error.column()
        );
    }
    if error.is_eof() && matches!(line.trim(), "[" | "{") {
        return "it begins a list or an object that goes on in the next line, expected a whole object on each line".into();
    }
    format!("{said} at column {}", error.column())
}

/// Builds a value; all levels share the number of values that may still be built.
#[derive(Clone, Copy)]
struct BoundedValue<'a> {
    left: &'a Cell<usize>,
}

impl<'de> DeserializeSeed<'de> for BoundedValue<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        match self.left.get().checked_sub(1) {
            Some(left) => self.left.set(left),
            None => {
                return Err(D::Error::custom(format!(
                    "it has more than {MOST_VALUES} values"
                )));
            }
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for BoundedValue<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.into()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(self)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(key) = object.next_key::<String>()? {
            let value = object.next_value_seed(self)?;
            if let Some(first) = fields.get(&key) {
                let shown = |value: &Value| value.to_string().chars().take(40).collect::<String>();
                let (first, second) = (shown(first), shown(&value));
                return Err(A::Error::custom(format!(
                    "the key `{key}` occurs twice, as `{first}` and as `{second}`; the second ends"
                )));
            }
            fields.insert(key, value);
        }
        Ok(Value::Object(fields))
    }
}

/// The type of a JSON value, in words.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_key_that_occurs_twice_is_refused_with_both_values_at_any_depth() {
        let message = object(r#"{"label": 0, "text": "a", "label": 1}"#).unwrap_err();
        assert!(
            message.starts_with(
                "the key `label` occurs twice, as `0` and as `1`; the second ends at column "
            ),
            "{message}"
        );
        assert!(
            object(r#"{"question": {"stem": "a", "stem": "b"}}"#)
                .unwrap_err()
                .contains("`stem` occurs twice")
        );
        assert_eq!(
            object(r#"{"a": {"x": 1}, "b": {"x": 1}}"#).unwrap().len(),
            2
        );
    }

    #[test]
    fn a_line_of_other_things_is_named_for_what_it_is() {
        assert_eq!(
            object("[1]").unwrap_err(),
            "it is a list, expected an object"
        );
        assert_eq!(
            object("{\"a\": }").unwrap_err(),
            "expected value at column 7"
        );
        assert!(
            object("{\"a\": NaN}")
                .unwrap_err()
                .starts_with("JSON has no NaN")
        );
        assert!(object("[").unwrap_err().starts_with("it begins a list"));
        assert!(
            object("{} {}")
                .unwrap_err()
                .starts_with("trailing characters")
        );
    }

    #[test]
    fn nesting_and_the_number_of_values_have_an_end() {
        let deep = format!("{{\"a\": {}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(
            object(&deep)
                .unwrap_err()
                .starts_with("recursion limit exceeded")
        );
        let wide = format!("{{\"a\": [0{}]}}", ",0".repeat(MOST_VALUES));
        assert!(
            object(&wide)
                .unwrap_err()
                .starts_with("it has more than 1048576 values")
        );
    }

    proptest! {
        /// The reference: serde_json itself, wherever there is no duplicate key.
        #[test]
        fn values_are_those_of_serde_json(number in any::<f64>(), whole in any::<i64>(), text in ".{0,9}", truth in any::<bool>()) {
            let written = serde_json::json!({"n": number, "w": whole, "t": text, "l": [truth, null, {"k": text}], "o": {}}).to_string();
            prop_assert_eq!(value(&written).unwrap(), serde_json::from_str::<Value>(&written).unwrap());
        }
    }
}

//! Python's methods of dicts and lists.

use minijinja::value::{DynObject, Tuple, from_args};
use minijinja::{Error, ErrorKind, State, Value};

use super::limits::{charge, refused};
use super::objects::{DictView, Range};

pub(super) fn of_dict(value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    let object = value
        .as_object()
        .ok_or_else(|| Error::from(ErrorKind::UnknownMethod))?;
    let name = object.type_name();
    if ["::Namespace", "::Loop", "::Macro"]
        .iter()
        .any(|other| name.ends_with(other))
    {
        return Err(Error::from(ErrorKind::UnknownMethod));
    }
    match method {
        "get" => {
            let (key, default): (&Value, Option<Value>) = from_args(args)?;
            Ok(object
                .get_value(key)
                .or(default)
                .unwrap_or_else(|| Value::from(())))
        }
        "items" | "keys" | "values" => {
            let () = from_args(args)?;
            Ok(Value::from_object(dict_view(object, method)))
        }
        "copy" => {
            let () = from_args(args)?;
            Ok(value.clone())
        }
        "clear" | "pop" | "popitem" | "setdefault" | "update" => Err(unsafe_method(method)),
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

fn unsafe_method(method: &str) -> Error {
    refused(format!(
        "`{method}` would change a value, which the sandbox of transformers forbids"
    ))
}

/// `items()`, `keys()` or `values()` of a dict.
fn dict_view(dict: &DynObject, method: &str) -> DictView {
    let pairs = dict.try_iter_pairs().into_iter().flatten();
    let (name, items) = match method {
        "items" => {
            let pair = |(key, value)| Value::from(Tuple::from([key, value]));
            ("dict_items", pairs.map(pair).collect())
        }
        "keys" => ("dict_keys", pairs.map(|(key, _)| key).collect()),
        _ => ("dict_values", pairs.map(|(_, value)| value).collect()),
    };
    DictView { name, items }
}

pub(super) fn of_list(
    state: &State,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    charge(state, value.len().unwrap_or(0).saturating_mul(32))?;
    match method {
        "count" => {
            let (what,): (&Value,) = from_args(args)?;
            let mut count = 0;
            for item in value.try_iter()?.checked() {
                count += i64::from(item? == *what);
            }
            Ok(Value::from(count))
        }
        "index" => {
            let (what,): (&Value,) = from_args(args)?;
            let position = value.try_iter()?.position(|item| item == *what);
            position
                .map(Value::from)
                .ok_or_else(|| refused("`index` finds no such item"))
        }
        "copy" if !value.is_tuple() && value.downcast_object_ref::<Range>().is_none() => {
            let () = from_args(args)?;
            Ok(value.clone())
        }
        "append" | "clear" | "extend" | "insert" | "pop" | "remove" | "reverse" | "sort" => {
            Err(unsafe_method(method))
        }
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

//! The functions to which a rewritten template maps `+`, `~`, `%` and `set`.

use minijinja::value::{Kwargs, Rest, Tuple, ValueKind};
use minijinja::{Error, State, Value};

use super::limits::{charge, refused};
use super::numbers::{float, integer, whole};
use super::objects::{Dict, DictView, Generator, Range};
use super::printf::{WIDEST, printf};
use super::text::{JsonStyle, json, text};

/// `a ~ b ~ …`: string concatenation.
pub(super) fn concatenated(state: &State, values: Rest<Value>) -> Result<Value, Error> {
    let mut joined = String::new();
    for value in values.iter() {
        let part = text(value)?;
        charge(state, joined.len().saturating_add(part.len()))?;
        joined += &part;
    }
    Ok(Value::from(joined))
}

/// `a + b + …`, left-associative.
pub(super) fn sum(state: &State, values: Rest<Value>) -> Result<Value, Error> {
    let mut values = values.iter();
    let first = values.next().cloned().unwrap_or_default();
    values.try_fold(first, |sum, value| added(state, &sum, value))
}

fn added(state: &State, left: &Value, right: &Value) -> Result<Value, Error> {
    if let (Some(one), Some(other)) = (left.as_str(), right.as_str()) {
        charge(state, one.len().saturating_add(other.len()))?;
        return Ok(match (left.is_safe(), right.is_safe()) {
            (false, false) => Value::from(format!("{one}{other}")),
            (true, true) => Value::from_safe_string(format!("{one}{other}")),
            (true, false) => Value::from_safe_string(format!("{one}{}", escaped(other))),
            (false, true) => Value::from_safe_string(format!("{}{other}", escaped(one))),
        });
    }
    if let (Some(one), Some(other)) = (integer(left), integer(right)) {
        return one
            .checked_add(other)
            .map(whole)
            .ok_or_else(|| refused("a sum is too large"));
    }
    if let (Some(one), Some(other)) = (float(left), float(right)) {
        return Ok(Value::from(one + other));
    }
    if is_list(left) && is_list(right) && left.is_tuple() == right.is_tuple() {
        let length = left
            .len()
            .unwrap_or(0)
            .saturating_add(right.len().unwrap_or(0));
        charge(state, length.saturating_mul(32))?;
        let items = left.try_iter()?.chain(right.try_iter()?).collect();
        return Ok(list_like(left, items));
    }
    Err(wrong_operands("+", left, right))
}

/// The items as a tuple or a list, whichever `like` is.
fn list_like(like: &Value, items: Vec<Value>) -> Value {
    if like.is_tuple() {
        Tuple::from(items).into()
    } else {
        items.into()
    }
}

fn wrong_operands(operator: &str, left: &Value, right: &Value) -> Error {
    let (left, right) = (left.kind(), right.kind());
    refused(format!("`{operator}` is given {left} and {right}"))
}

fn is_list(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable)
        && value.downcast_object_ref::<Generator>().is_none()
        && value.downcast_object_ref::<DictView>().is_none()
        && value.downcast_object_ref::<Range>().is_none()
}

/// `a * b * …`, left-associative.
pub(super) fn product(state: &State, values: Rest<Value>) -> Result<Value, Error> {
    let mut values = values.iter();
    let first = values.next().cloned().unwrap_or_default();
    values.try_fold(first, |product, value| multiplied(state, &product, value))
}

fn multiplied(state: &State, left: &Value, right: &Value) -> Result<Value, Error> {
    if let (Some(one), Some(other)) = (integer(left), integer(right)) {
        let product = one.checked_mul(other);
        return product
            .map(whole)
            .ok_or_else(|| refused("a product is too large"));
    }
    if let (Some(one), Some(other)) = (float(left), float(right)) {
        return Ok(Value::from(one * other));
    }
    let (repeated, count) = if integer(left).is_some() {
        (right, left)
    } else {
        (left, right)
    };
    let Some(count) = integer(count).filter(|_| repeated.as_str().is_some() || is_list(repeated))
    else {
        return Err(wrong_operands("*", left, right));
    };
    let count = usize::try_from(count.max(0)).unwrap_or(usize::MAX);
    repeat(state, repeated, count)
}

/// A string or a list repeated.
fn repeat(state: &State, value: &Value, count: usize) -> Result<Value, Error> {
    if let Some(text) = value.as_str() {
        charge(state, text.len().saturating_mul(count))?;
        let text = text.repeat(count);
        return Ok(if value.is_safe() {
            Value::from_safe_string(text)
        } else {
            text.into()
        });
    }
    let items: Vec<Value> = value.try_iter()?.collect();
    let total = items.len().saturating_mul(count);
    charge(state, total.saturating_mul(32))?;
    let items = items.iter().cloned().cycle().take(total).collect();
    Ok(list_like(value, items))
}

/// `dict(pairs or mapping, name=value, …)`.
pub(super) fn dict(value: Option<Value>, kwargs: Kwargs) -> Result<Value, Error> {
    let mut pairs = match &value {
        Some(value) => pairs_of(value)?,
        None => Vec::new(),
    };
    let names: Vec<&str> = kwargs.args().collect();
    if names.len() > 1 {
        return Err(refused(
            "`dict` is given several names, whose order is not known; write `{…}`",
        ));
    }
    for name in names {
        pairs.push((Value::from(name), kwargs.get(name)?));
    }
    Ok(Dict::of(pairs))
}

/// The pairs of a dict, or of a list of pairs.
fn pairs_of(value: &Value) -> Result<Vec<(Value, Value)>, Error> {
    let mut pairs = Vec::new();
    if value.kind() == ValueKind::Map {
        for key in value.try_iter()? {
            let value = value.get_item(&key)?;
            pairs.push((key, value));
        }
        return Ok(pairs);
    }
    for pair in value.try_iter()?.checked() {
        let parts: Vec<Value> = pair?.try_iter()?.collect();
        match <[Value; 2]>::try_from(parts) {
            Ok([key, value]) => pairs.push((key, value)),
            Err(_) => return Err(refused("`dict` is given what are not pairs")),
        }
    }
    Ok(pairs)
}

/// `{key: value, …}`: alternating keys and values.
pub(super) fn literal(state: &State, parts: Rest<Value>) -> Result<Value, Error> {
    charge(state, parts.len().saturating_mul(64))?;
    Ok(Dict::of(
        parts
            .chunks_exact(2)
            .map(|pair| (pair[0].clone(), pair[1].clone())),
    ))
}

/// The result of `markupsafe.escape`.
pub(super) fn escaped(text: &str) -> String {
    let replaced = text
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    replaced.replace('\'', "&#39;").replace('"', "&#34;")
}

/// `a % b % …`, left-associative: the remainder of numbers, or a formatted string.
pub(super) fn remainder(values: Rest<Value>) -> Result<Value, Error> {
    let mut values = values.iter();
    let first = values.next().cloned().unwrap_or_default();
    values.try_fold(first, |left, right| match left.as_str() {
        Some(_) if left.is_safe() => Err(refused("`%` is given a text that is marked safe")),
        Some(pattern) => printf(pattern, right).map(Value::from),
        None => modulo(&left, right),
    })
}

fn modulo(left: &Value, right: &Value) -> Result<Value, Error> {
    if let (Some(one), Some(other)) = (integer(left), integer(right)) {
        let rest = one
            .checked_rem(other)
            .ok_or_else(|| refused("`%` divides by 0"))?;
        let other_sign = rest != 0 && (rest < 0) != (other < 0);
        return Ok(whole(if other_sign { rest + other } else { rest }));
    }
    let (Some(one), Some(other)) = (float(left), float(right)) else {
        return Err(refused(format!(
            "`%` is given {} and {}",
            left.kind(),
            right.kind()
        )));
    };
    if other == 0.0 {
        return Err(refused("`%` divides by 0"));
    }
    let rest = one % other;
    Ok(Value::from(match rest {
        0.0 => 0.0_f64.copysign(other),
        rest if (rest < 0.0) != (other < 0.0) => rest + other,
        rest => rest,
    }))
}

/// `raise_exception(message)`.
pub(super) fn raise_exception(message: &Value) -> Result<Value, Error> {
    Err(refused(text(message)?))
}

/// `strftime_now(format)`: a fixed date, because a prompt that depends on the date of the run
/// cannot be reproduced; it is the default date of Llama 3's own template.
pub(super) fn strftime_now(format: &str) -> Result<String, Error> {
    let mut written = String::new();
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            written.push(letter);
            continue;
        }
        written.push_str(match letters.next() {
            Some('d') => "26",
            Some('b' | 'h') => "Jul",
            Some('B') => "July",
            Some('Y') => "2024",
            Some('y') => "24",
            Some('m') => "07",
            Some('a') => "Fri",
            Some('A') => "Friday",
            Some('j') => "208",
            Some('H' | 'I') => "12",
            Some('M' | 'S') => "00",
            Some('p') => "PM",
            Some('F') => "2024-07-26",
            Some('T') => "12:00:00",
            Some('%') => "%",
            Some('-') => match letters.next() {
                Some('d') => "26",
                Some('m') => "7",
                Some('H' | 'I') => "12",
                _ => return Err(refused(format!("`strftime_now` does not read `{format}`"))),
            },
            _ => return Err(refused(format!("`strftime_now` does not read `{format}`"))),
        });
    }
    Ok(written)
}

/// `tojson` with the arguments of transformers.
pub(super) fn tojson(
    value: &Value,
    ensure_ascii: Option<bool>,
    kwargs: Kwargs,
) -> Result<Value, Error> {
    let mut style = JsonStyle::default();
    let ensure_ascii = match ensure_ascii {
        Some(given) => Some(given),
        None => kwargs.get("ensure_ascii")?,
    };
    style.ensure_ascii = ensure_ascii.unwrap_or(false);
    let indent: Option<Value> = kwargs.get("indent")?;
    let indent = indent.filter(|indent| !indent.is_none());
    style.indent = indent.as_ref().map(indentation).transpose()?;
    let separators: Option<Value> = kwargs.get("separators")?;
    if let Some(pair) = separators.filter(|pair| !pair.is_none()) {
        let parts: Vec<Value> = pair.try_iter()?.collect();
        style.separators = match &parts[..] {
            [between, colon] if between.as_str().is_some() && colon.as_str().is_some() => {
                Some((text(between)?, text(colon)?))
            }
            _ => return Err(refused("`separators` of `tojson` are two texts")),
        };
    }
    style.sort_keys = kwargs.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    kwargs.assert_all_used()?;
    json(value, &style).map(Value::from)
}

/// The `indent` of `tojson`: a string, or a number of spaces.
fn indentation(indent: &Value) -> Result<String, Error> {
    match (indent.as_str(), integer(indent)) {
        (Some(text), _) => Ok(text.to_string()),
        (None, Some(count)) if count <= WIDEST as i128 => {
            Ok(" ".repeat(usize::try_from(count).unwrap_or(0)))
        }
        _ => Err(refused(format!(
            "`tojson` indents by at most {WIDEST} blanks"
        ))),
    }
}

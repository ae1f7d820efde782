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
        let items: Vec<Value> = left.try_iter()?.chain(right.try_iter()?).collect();
        return Ok(if left.is_tuple() {
            Tuple::from(items).into()
        } else {
            items.into()
        });
    }
    Err(refused(format!(
        "`+` is given {} and {}",
        left.kind(),
        right.kind()
    )))
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
    let count = integer(count).map(|count| usize::try_from(count.max(0)).unwrap_or(usize::MAX));
    match (count, repeated.as_str()) {
        (Some(count), Some(text)) => {
            charge(state, text.len().saturating_mul(count))?;
            let text = text.repeat(count);
            Ok(if repeated.is_safe() {
                Value::from_safe_string(text)
            } else {
                text.into()
            })
        }
        (Some(count), None) if is_list(repeated) => {
            let items: Vec<Value> = repeated.try_iter()?.collect();
            charge(state, items.len().saturating_mul(count).saturating_mul(32))?;
            let total = items.len().saturating_mul(count);
            let items: Vec<Value> = items.iter().cloned().cycle().take(total).collect();
            Ok(if repeated.is_tuple() {
                Tuple::from(items).into()
            } else {
                items.into()
            })
        }
        _ => Err(refused(format!(
            "`*` is given {} and {}",
            left.kind(),
            right.kind()
        ))),
    }
}

/// `dict(pairs or mapping, name=value, …)`.
pub(super) fn dict(value: Option<Value>, kwargs: Kwargs) -> Result<Value, Error> {
    let mut pairs = Vec::new();
    match value.as_ref().map(|value| (value.kind(), value)) {
        None => {}
        Some((ValueKind::Map, map)) => {
            for key in map.try_iter()? {
                let value = map.get_item(&key)?;
                pairs.push((key, value));
            }
        }
        Some((_, list)) => {
            for pair in list.try_iter()?.checked() {
                let parts: Vec<Value> = pair?.try_iter()?.collect();
                match <[Value; 2]>::try_from(parts) {
                    Ok([key, value]) => pairs.push((key, value)),
                    Err(_) => return Err(refused("`dict` is given what are not pairs")),
                }
            }
        }
    }
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
    style.indent = match indent.filter(|indent| !indent.is_none()) {
        None => None,
        Some(indent) => Some(match (indent.as_str(), integer(&indent)) {
            (Some(text), _) => text.to_string(),
            (None, Some(count)) if count <= WIDEST as i128 => {
                " ".repeat(usize::try_from(count).unwrap_or(0))
            }
            _ => {
                return Err(refused(format!(
                    "`tojson` indents by at most {WIDEST} blanks"
                )));
            }
        }),
    };
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

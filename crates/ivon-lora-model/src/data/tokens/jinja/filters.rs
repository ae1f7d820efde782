//! Filters and tests for which minijinja's own differ from Jinja2's.

use std::borrow::Cow;

use minijinja::value::{Kwargs, Rest, StringInput, Tuple, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, State, Value, filters};

use super::functions::{escaped, tojson};
use super::limits::{charge, refused};
use super::methods::{lines, replaced, stripped};
use super::numbers::{integer, whole};
use super::objects::{DictView, Generator, Range};
use super::printf::printf;
use super::text::text;

/// Filters that Jinja2 does not have; and `attr`, which in Jinja2 finds methods but not keys.
const FOREIGN: [&str; 7] = ["split", "lines", "bool", "chain", "zip", "pprint", "attr"];

/// Adds the filters and tests to an environment.
pub(super) fn add(environment: &mut Environment<'static>) {
    FOREIGN
        .iter()
        .for_each(|name| environment.remove_filter(name));
    environment.remove_global("debug");
    environment.add_filter("tojson", tojson);
    add_texts(environment);
    add_generators(environment);
    environment.add_test("iterable", is_iterable);
    environment.add_test("sequence", is_sequence);
    environment.add_test("mapping", |value: &Value| {
        let object = value.as_object().filter(|_| value.kind() == ValueKind::Map);
        object.is_some_and(|object| !object.type_name().ends_with("::Namespace"))
    });
    environment.add_test("callable", |value: &Value| {
        let names = ["Macro", "BoxedFunction"];
        let object = value.as_object();
        object.is_some_and(|object| names.iter().any(|name| object.type_name().ends_with(name)))
    });
}

/// Filters that work on `str(value)`.
fn add_texts(environment: &mut Environment<'static>) {
    environment.add_filter("string", string);
    environment.add_filter("safe", |value: &Value| {
        text(value).map(Value::from_safe_string)
    });
    for name in ["escape", "e"] {
        environment.add_filter(name, |value: Value| match value.is_safe() {
            true => Ok(value),
            false => force_escape(&value),
        });
    }
    environment.add_filter("forceescape", force_escape);
    environment.add_filter("upper", |value: &Value| {
        text(value).map(|text| alike(value, text.to_uppercase()))
    });
    environment.add_filter("lower", |value: &Value| {
        text(value).map(|text| alike(value, text.to_lowercase()))
    });
    environment.add_filter("title", |value: &Value| {
        text(value).map(|text| filters::title(Cow::Owned(text)))
    });
    environment.add_filter("capitalize", capitalize);
    environment.add_filter("trim", trim);
    for name in ["default", "d"] {
        environment.add_filter(name, default);
    }
    environment.add_filter("replace", replace);
    environment.add_filter("join", join);
    environment.add_filter("indent", indent);
    environment.add_filter("truncate", truncate);
    environment.add_filter("wordcount", wordcount);
    environment.add_filter("format", format);
    environment.add_filter("int", int);
    environment.add_filter("float", float);
}

fn string(value: Value) -> Result<Value, Error> {
    match value.as_str() {
        Some(_) => Ok(value),
        None => text(&value).map(Value::from),
    }
}

fn force_escape(value: &Value) -> Result<Value, Error> {
    text(value).map(|text| Value::from_safe_string(escaped(&text)))
}

fn capitalize(state: &State, value: &Value) -> Result<Value, Error> {
    let whole = Value::from(text(value)?);
    let capital = filters::capitalize(StringInput::new(state, &whole)?);
    Ok(alike(value, text(&capital)?))
}

fn trim(value: &Value, letters: Option<&str>, kwargs: Kwargs) -> Result<Value, Error> {
    let letters = letters.or(kwargs.get("chars")?);
    kwargs.assert_all_used()?;
    let text = text(value)?;
    Ok(alike(value, stripped(&text, letters, true, true).into()))
}

fn wordcount(value: &Value) -> Result<usize, Error> {
    let text = text(value)?;
    let words = text.split(|letter: char| letter != '_' && !letter.is_alphanumeric());
    Ok(words.filter(|word| !word.is_empty()).count())
}

/// `%` with the values, or with a mapping of the names.
fn format(pattern: &Value, values: Rest<Value>, kwargs: Kwargs) -> Result<String, Error> {
    let named: Vec<&str> = kwargs.args().collect();
    let arguments = if named.is_empty() {
        Value::from(Tuple::from(values.0))
    } else {
        let pair = |name: &&str| Ok((name.to_string(), kwargs.get::<Value>(name)?));
        Value::from_pairs(named.iter().map(pair).collect::<Result<Vec<_>, Error>>()?)
    };
    printf(&text(pattern)?, &arguments)
}

fn float(value: &Value, default: Option<Value>, kwargs: Kwargs) -> Result<Value, Error> {
    let default = default.map_or_else(|| kwargs.get("default"), |given| Ok(Some(given)))?;
    kwargs.assert_all_used()?;
    Ok(match parsed_float(value)? {
        Some(float) => Value::from(float),
        None => default.unwrap_or_else(|| Value::from(0.0)),
    })
}

/// A string, marked safe if `like` is.
fn alike(like: &Value, text: String) -> Value {
    if like.is_safe() {
        Value::from_safe_string(text)
    } else {
        Value::from(text)
    }
}

/// Filters that return a generator in Jinja2 but a list in minijinja.
fn add_generators(environment: &mut Environment<'static>) {
    type Arguments = Rest<ValueOrKwargs>;
    type Test<'a> = Option<Cow<'a, str>>;
    environment.add_filter("map", |state: &mut State, value: Value, rest: Arguments| {
        filters::map(state, value, rest).map(Generator::of)
    });
    environment.add_filter(
        "select",
        |state: &mut State, value: Value, test: Test<'_>, rest: Arguments| {
            filters::select(state, value, test, rest).map(Generator::of)
        },
    );
    environment.add_filter(
        "reject",
        |state: &mut State, value: Value, test: Test<'_>, rest: Arguments| {
            filters::reject(state, value, test, rest).map(Generator::of)
        },
    );
    environment.add_filter(
        "selectattr",
        |state: &mut State, value: Value, name: Cow<'_, str>, test: Test<'_>, rest: Arguments| {
            filters::selectattr(state, value, name, test, rest).map(Generator::of)
        },
    );
    environment.add_filter(
        "rejectattr",
        |state: &mut State, value: Value, name: Cow<'_, str>, test: Test<'_>, rest: Arguments| {
            filters::rejectattr(state, value, name, test, rest).map(Generator::of)
        },
    );
    environment.add_filter("unique", |state: &State, value: Value, kwargs: Kwargs| {
        let list = filters::unique(state, value, kwargs)?;
        Ok::<_, Error>(Generator::of(list.try_iter()?.collect()))
    });
    environment.add_filter("items", |value: &Value| {
        let list = filters::items(value)?;
        Ok::<_, Error>(Generator::of(list.try_iter()?.collect()))
    });
    environment.add_filter("reverse", |state: &State, value: &Value| {
        let reversed = filters::reverse(value)?;
        if value.as_str().is_some() {
            return Ok(reversed);
        }
        charge(state, value.len().unwrap_or(0).saturating_mul(64))?;
        Ok::<_, Error>(Generator::of(reversed.try_iter()?.collect()))
    });
}

/// `default(default_value, boolean)`.
fn default(
    value: Value,
    default: Option<Value>,
    boolean: Option<bool>,
    kwargs: Kwargs,
) -> Result<Value, Error> {
    let default = default.map_or_else(|| kwargs.get("default_value"), |given| Ok(Some(given)))?;
    let boolean = boolean.map_or_else(|| kwargs.get("boolean"), |given| Ok(Some(given)))?;
    kwargs.assert_all_used()?;
    let absent = value.is_undefined() || boolean.unwrap_or(false) && !value.is_true();
    Ok(if absent {
        default.unwrap_or_else(|| Value::from(""))
    } else {
        value
    })
}

fn replace(
    state: &State,
    value: &Value,
    old: &Value,
    new: &Value,
    count: Option<i64>,
) -> Result<String, Error> {
    replaced(
        state,
        &text(value)?,
        &text(old)?,
        &text(new)?,
        count.unwrap_or(-1),
    )
}

/// `join(d, attribute)`: the items as strings.
fn join(
    state: &State,
    value: &Value,
    between: Option<Value>,
    attribute: Option<Value>,
    kwargs: Kwargs,
) -> Result<String, Error> {
    let between = between.map_or_else(|| kwargs.get("d"), |given| Ok(Some(given)))?;
    let attribute = attribute.map_or_else(|| kwargs.get("attribute"), |given| Ok(Some(given)))?;
    kwargs.assert_all_used()?;
    let between = between.map_or_else(|| Ok(String::new()), |between| text(&between))?;
    let mut joined = String::new();
    for (index, item) in letters_or_items(value)?.enumerate() {
        let item = match &attribute {
            Some(path) => at_path(&item, path)?,
            None => item,
        };
        let part = text(&item)?;
        charge(state, between.len() + part.len() + 64)?;
        if index > 0 {
            joined += &between;
        }
        joined += &part;
    }
    Ok(joined)
}

/// Iterates as Python does, including over the characters of a string.
fn letters_or_items(value: &Value) -> Result<Box<dyn Iterator<Item = Value>>, Error> {
    match value.as_str() {
        Some(text) => {
            let letters: Vec<Value> = text.chars().map(Value::from).collect();
            Ok(Box::new(letters.into_iter()))
        }
        None if value.is_none() => Err(refused("None is not iterable")),
        None => Ok(Box::new(value.try_iter()?)),
    }
}

/// An attribute by a dotted path, or an index.
fn at_path(value: &Value, path: &Value) -> Result<Value, Error> {
    let Some(text) = path.as_str() else {
        return value.get_item(path);
    };
    text.split('.')
        .try_fold(value.clone(), |value, part| match part.parse::<usize>() {
            Ok(index) => value.get_item_by_index(index),
            Err(_) => value.get_attr(part),
        })
}

/// `indent(width, first, blank)`.
fn indent(
    state: &State,
    value: &Value,
    width: Option<Value>,
    first: Option<bool>,
    kwargs: Kwargs,
) -> Result<String, Error> {
    let width = width.map_or_else(|| kwargs.get("width"), |given| Ok(Some(given)))?;
    let first = first.map_or_else(|| kwargs.get("first"), |given| Ok(Some(given)))?;
    let blank: Option<bool> = kwargs.get("blank")?;
    kwargs.assert_all_used()?;
    let by = indentation(width.as_ref())?;
    let whole = text(value)? + "\n";
    let mut written = if first.unwrap_or(false) {
        by.clone()
    } else {
        String::new()
    };
    for (index, line) in lines(&whole, false).iter().enumerate() {
        charge(state, by.len() + line.len() + 64)?;
        if index > 0 {
            written.push('\n');
            written += if blank.unwrap_or(false) || !line.is_empty() {
                &by
            } else {
                ""
            };
        }
        written += line;
    }
    Ok(written)
}

/// The `width` of `indent`: a string, or a number of spaces, by default four.
fn indentation(width: Option<&Value>) -> Result<String, Error> {
    match width.map(|width| (width.as_str(), integer(width))) {
        None => Ok(" ".repeat(4)),
        Some((Some(text), _)) => Ok(text.to_string()),
        Some((None, Some(count))) if count <= 1000 => {
            Ok(" ".repeat(usize::try_from(count).unwrap_or(0)))
        }
        Some(_) => Err(refused("`indent` is given no width of at most 1000")),
    }
}

/// `truncate(length, killwords, end, leeway)`.
fn truncate(
    value: &Value,
    length: Option<usize>,
    killwords: Option<bool>,
    end: Option<String>,
    kwargs: Kwargs,
) -> Result<String, Error> {
    let length = length.map_or_else(|| kwargs.get("length"), |given| Ok(Some(given)))?;
    let killwords = killwords.map_or_else(|| kwargs.get("killwords"), |given| Ok(Some(given)))?;
    let end = end.map_or_else(|| kwargs.get("end"), |given| Ok(Some(given)))?;
    let leeway: Option<usize> = kwargs.get("leeway")?;
    kwargs.assert_all_used()?;
    let (length, end) = (length.unwrap_or(255), end.unwrap_or_else(|| "...".into()));
    let (whole, leeway) = (text(value)?, leeway.unwrap_or(5));
    if whole.chars().count() <= length.saturating_add(leeway) {
        return Ok(whole);
    }
    let kept = length.checked_sub(end.chars().count());
    let kept = kept.ok_or_else(|| refused("`truncate` is given an end longer than its length"))?;
    let cut: String = whole.chars().take(kept).collect();
    let cut = match cut.rsplit_once(' ') {
        Some((words, _)) if !killwords.unwrap_or(false) => words.to_string(),
        _ => cut,
    };
    Ok(cut + &end)
}

/// `int(default, base)`.
fn int(
    value: &Value,
    default: Option<Value>,
    base: Option<u32>,
    kwargs: Kwargs,
) -> Result<Value, Error> {
    let default = default.map_or_else(|| kwargs.get("default"), |given| Ok(Some(given)))?;
    let base = base
        .map_or_else(|| kwargs.get("base"), |given| Ok(Some(given)))?
        .unwrap_or(10);
    kwargs.assert_all_used()?;
    if let Some(found) = integer(value) {
        return Ok(whole(found));
    }
    if let Some(text) = value.as_str()
        && let Some(found) = parsed_int(text, base)?
    {
        return Ok(whole(found));
    }
    match parsed_float(value)? {
        Some(float) if float.is_finite() && float.abs() < 1e38 => Ok(whole(float as i128)),
        _ => Ok(default.unwrap_or_else(|| Value::from(0))),
    }
}

/// `int(text, base)`; none if Python raises an error that the filters catch.
fn parsed_int(text: &str, base: u32) -> Result<Option<i128>, Error> {
    let trimmed = stripped(text, None, true, true).replace('_', "");
    let prefix = match base {
        16 => "0x",
        8 => "0o",
        2 => "0b",
        10 => "",
        _ => return Err(refused(format!("`int` is given the base {base}"))),
    };
    let (sign, digits) = match trimmed.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", trimmed.strip_prefix('+').unwrap_or(&trimmed)),
    };
    let digits = digits.strip_prefix(prefix).unwrap_or(digits);
    if digits.starts_with(['+', '-']) {
        return Ok(None);
    }
    Ok(i128::from_str_radix(&format!("{sign}{digits}"), base).ok())
}

/// `float(value)`; none if Python raises an error that the filters catch.
fn parsed_float(value: &Value) -> Result<Option<f64>, Error> {
    match value.kind() {
        ValueKind::Undefined => Err(refused("a number is made of an undefined value")),
        ValueKind::Bool | ValueKind::Number => {
            let of_bool = || integer(value).map(|whole| whole as f64);
            Ok(f64::try_from(value.clone()).ok().or_else(of_bool))
        }
        ValueKind::String => {
            let text = value.as_str().unwrap_or_default();
            Ok(stripped(text, None, true, true)
                .replace('_', "")
                .parse()
                .ok())
        }
        _ => Ok(None),
    }
}

/// Whether `iter(value)` works: also for strings and undefined values, not for None.
fn is_iterable(value: &Value) -> bool {
    match value.kind() {
        ValueKind::None | ValueKind::Bool | ValueKind::Number => false,
        ValueKind::Undefined | ValueKind::String | ValueKind::Seq | ValueKind::Iterable => true,
        ValueKind::Map => value
            .as_object()
            .is_some_and(|object| !object.type_name().ends_with("::Namespace")),
        _ => value.try_iter().is_ok(),
    }
}

/// Whether a value has a length and can be indexed: also strings, dicts and undefined values.
fn is_sequence(value: &Value) -> bool {
    let is_view = value.downcast_object_ref::<DictView>().is_some();
    let is_generator = value.downcast_object_ref::<Generator>().is_some();
    let is_range = value.downcast_object_ref::<Range>().is_some();
    is_range || is_iterable(value) && !is_view && !is_generator
}

//! Values as strings in Python: `str`, `repr` and `json.dumps`, within limits.

use std::fmt::Write;

use minijinja::value::{DynObject, ObjectRepr, ValueKind};
use minijinja::{Error, Value};

use super::limits::refused;
use super::objects::{DictView, Generator, Range};

/// The maximum length of the result in bytes.
const LONGEST: usize = 16 << 20;
/// The maximum nesting of lists.
const DEEPEST: usize = 100;

/// `str(value)`.
///
/// # Errors
/// If Python's string has no counterpart (a generator's contains an address), or is too long.
pub(super) fn text(value: &Value) -> Result<String, Error> {
    match value.as_str() {
        Some(text) => Ok(text.to_string()),
        None if value.is_undefined() => Ok(String::new()),
        None => {
            let mut written = String::new();
            write_repr(&mut written, value, 0)?;
            Ok(written)
        }
    }
}

/// Refuses a result beyond the limits.
fn check(written: &str, depth: usize) -> Result<(), Error> {
    match (written.len(), depth) {
        (length, _) if length > LONGEST => {
            Err(refused(format!("a text grows beyond {LONGEST} bytes")))
        }
        (_, depth) if depth > DEEPEST => {
            Err(refused(format!("a value nests more than {DEEPEST} deep")))
        }
        _ => Ok(()),
    }
}

fn write_repr(out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
    check(out, depth)?;
    match value.kind() {
        ValueKind::Undefined => out.push_str("Undefined"),
        ValueKind::None => out.push_str("None"),
        ValueKind::Bool => out.push_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::Number => out.push_str(&number(value)),
        ValueKind::String if value.is_safe() => {
            out.push_str("Markup(");
            write_quoted(out, value.as_str().unwrap_or_default());
            out.push(')');
        }
        ValueKind::String => write_quoted(out, value.as_str().unwrap_or_default()),
        _ => write_object(out, value, depth)?,
    }
    check(out, depth)
}

fn write_object(out: &mut String, value: &Value, depth: usize) -> Result<(), Error> {
    let object = value
        .as_object()
        .ok_or_else(|| refused("a value has no text"))?;
    if let Some(range) = value.downcast_object_ref::<Range>() {
        out.push_str(&range.text());
        return Ok(());
    }
    if value.downcast_object_ref::<Generator>().is_some() {
        return Err(refused(
            "a generator is printed; put `|list` or `|join` behind it",
        ));
    }
    if let Some(view) = value.downcast_object_ref::<DictView>() {
        out.push_str(view.name);
        return write_items(out, "([", view.items.iter().cloned(), "])", depth);
    }
    match object.repr() {
        ObjectRepr::Map => write_map(out, object, depth),
        ObjectRepr::Seq | ObjectRepr::Iterable if object.enumerator_len().is_some() => {
            let items = || object.try_iter().into_iter().flatten();
            match (value.is_tuple(), object.enumerator_len()) {
                (true, Some(1)) => write_items(out, "(", items(), ",)", depth),
                (true, _) => write_items(out, "(", items(), ")", depth),
                _ => write_items(out, "[", items(), "]", depth),
            }
        }
        _ => Err(refused("something without a text of its own is printed")),
    }
}

fn write_map(out: &mut String, object: &DynObject, depth: usize) -> Result<(), Error> {
    let type_name = object.type_name();
    if type_name.ends_with("::Loop") || type_name.ends_with("::Macro") {
        return Err(refused("a loop or a macro is printed"));
    }
    let is_namespace = type_name.ends_with("::Namespace");
    if is_namespace && object.enumerator_len() > Some(1) {
        return Err(refused(
            "a namespace is printed, the order of whose names is not known",
        ));
    }
    out.push_str(if is_namespace { "<Namespace {" } else { "{" });
    for (index, (key, value)) in object.try_iter_pairs().into_iter().flatten().enumerate() {
        out.push_str(if index == 0 { "" } else { ", " });
        write_repr(out, &key, depth + 1)?;
        out.push_str(": ");
        write_repr(out, &value, depth + 1)?;
    }
    out.push_str(if is_namespace { "}>" } else { "}" });
    Ok(())
}

fn write_items(
    out: &mut String,
    open: &str,
    items: impl Iterator<Item = Value>,
    close: &str,
    depth: usize,
) -> Result<(), Error> {
    out.push_str(open);
    for (index, item) in items.enumerate() {
        out.push_str(if index == 0 { "" } else { ", " });
        write_repr(out, &item, depth + 1)?;
    }
    out.push_str(close);
    Ok(())
}

/// `repr` of a string: in single quotes unless it contains some and no double ones.
fn write_quoted(out: &mut String, text: &str) {
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    out.push(quote);
    for letter in text.chars() {
        match letter {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            letter if letter == quote => out.extend(['\\', letter]),
            letter if is_printable(letter) => out.push(letter),
            letter => {
                let code = letter as u32;
                let _ = match code {
                    0..=0xff => write!(out, "\\x{code:02x}"),
                    0x100..=0xffff => write!(out, "\\u{code:04x}"),
                    _ => write!(out, "\\U{code:08x}"),
                };
            }
        }
    }
    out.push(quote);
}

/// Python's `isprintable`, except for unassigned characters: no control, format or private-use
/// characters, and of white space only the space.
fn is_printable(letter: char) -> bool {
    let unseen = matches!(letter, '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}'
        | '\u{70f}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{e000}'..='\u{f8ff}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}' | '\u{f0000}'..);
    letter == ' ' || !(letter.is_control() || letter.is_whitespace() || unseen)
}

/// A number: integers in full, floats with their shortest digits, as in `float.__repr__`.
pub(super) fn number(value: &Value) -> String {
    match f64::try_from(value.clone()) {
        Ok(float) if !value.is_integer() => float_text(float),
        _ => value.to_string(),
    }
}

fn float_text(value: f64) -> String {
    if value.is_nan() {
        return "nan".into();
    }
    if value.is_infinite() {
        return if value > 0.0 {
            "inf".into()
        } else {
            "-inf".into()
        };
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = value.to_string();
        return if plain.contains('.') {
            plain
        } else {
            plain + ".0"
        };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// The arguments of transformers' `tojson`.
#[derive(Default)]
pub(super) struct JsonStyle {
    pub ensure_ascii: bool,
    /// The indentation of one level; none for a single line.
    pub indent: Option<String>,
    /// The separators between items, and between key and value.
    pub separators: Option<(String, String)>,
    pub sort_keys: bool,
}

/// `json.dumps(value, …)`.
///
/// For values that Python's `json` refuses, and strings that are too long.
pub(super) fn json(value: &Value, style: &JsonStyle) -> Result<String, Error> {
    let mut written = String::new();
    write_json(&mut written, value, style, 0)?;
    Ok(written)
}

fn write_json(
    out: &mut String,
    value: &Value,
    style: &JsonStyle,
    depth: usize,
) -> Result<(), Error> {
    check(out, depth)?;
    match value.kind() {
        ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => out.push_str(&json_number(value)),
        ValueKind::String => {
            write_json_text(out, value.as_str().unwrap_or_default(), style.ensure_ascii);
        }
        ValueKind::Map if is_plain(value) => return write_json_map(out, value, style, depth),
        ValueKind::Seq | ValueKind::Iterable if is_plain(value) => {
            let items: Vec<Value> = value.try_iter()?.collect();
            let mut items = items.iter();
            return write_members(out, ['[', ']'], style, depth, &mut || {
                let item = items.next()?;
                Some(Box::new(move |out: &mut String| {
                    write_json(out, item, style, depth + 1)
                }))
            });
        }
        kind => return Err(refused(format!("`tojson` is given a value of type {kind}"))),
    }
    check(out, depth)
}

/// Whether the counterpart in Python is a dict, a list or a tuple.
fn is_plain(value: &Value) -> bool {
    let names = ["::Namespace", "::Loop", "::Macro"];
    value.downcast_object_ref::<Range>().is_none()
        && value.downcast_object_ref::<DictView>().is_none()
        && value.downcast_object_ref::<Generator>().is_none()
        && value.as_object().is_some_and(|object| {
            let name = object.type_name();
            !names.iter().any(|other| name.ends_with(other))
        })
}

fn json_number(value: &Value) -> String {
    match number(value).as_str() {
        "nan" => "NaN".into(),
        "inf" => "Infinity".into(),
        "-inf" => "-Infinity".into(),
        other => other.into(),
    }
}

fn write_json_map(
    out: &mut String,
    value: &Value,
    style: &JsonStyle,
    depth: usize,
) -> Result<(), Error> {
    let mut pairs = Vec::new();
    for key in value.try_iter()?.checked() {
        let key = key?;
        pairs.push((json_key(&key)?, value.get_item(&key)?));
    }
    if style.sort_keys {
        pairs.sort_by(|(one, _), (other, _)| one.cmp(other));
    }
    let colon = style.separators.as_ref().map_or(": ", |(_, colon)| colon);
    let mut pairs = pairs.iter();
    write_members(out, ['{', '}'], style, depth, &mut || {
        let (name, value) = pairs.next()?;
        Some(Box::new(move |out: &mut String| {
            write_json_text(out, name, style.ensure_ascii);
            out.push_str(colon);
            write_json(out, value, style, depth + 1)
        }))
    })
}

type Member<'a> = Box<dyn FnOnce(&mut String) -> Result<(), Error> + 'a>;

/// A key of an object, which JSON writes as a string.
fn json_key(key: &Value) -> Result<String, Error> {
    Ok(match key.kind() {
        ValueKind::String => key.as_str().unwrap_or_default().to_string(),
        ValueKind::None => "null".into(),
        ValueKind::Bool => if key.is_true() { "true" } else { "false" }.into(),
        ValueKind::Number => json_number(key),
        kind => return Err(refused(format!("`tojson` is given a key of type {kind}"))),
    })
}

/// Begins an indented line, if the style indents.
fn begin_line(out: &mut String, style: &JsonStyle, depth: usize) {
    if let Some(indent) = &style.indent {
        out.push('\n');
        (0..depth).for_each(|_| out.push_str(indent));
    }
}

/// Members between brackets, on separate lines if the style indents.
fn write_members<'a>(
    out: &mut String,
    [open, close]: [char; 2],
    style: &JsonStyle,
    depth: usize,
    next: &mut dyn FnMut() -> Option<Member<'a>>,
) -> Result<(), Error> {
    let between = if style.indent.is_some() { "," } else { ", " };
    let between = style
        .separators
        .as_ref()
        .map_or(between, |(between, _)| between);
    out.push(open);
    let mut is_first = true;
    while let Some(member) = next() {
        if !std::mem::take(&mut is_first) {
            out.push_str(between);
        }
        begin_line(out, style, depth + 1);
        member(out)?;
        check(out, depth)?;
    }
    if !is_first {
        begin_line(out, style, depth);
    }
    out.push(close);
    Ok(())
}

fn write_json_text(out: &mut String, text: &str, ensure_ascii: bool) {
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            letter if (letter as u32) < 0x20 || ensure_ascii && !(' '..='~').contains(&letter) => {
                for unit in letter.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            letter => out.push(letter),
        }
    }
    out.push('"');
}

//! Python's methods: those of strings here, those of dicts and lists in `collections`.

use minijinja::formatting::{FormatStyle, format};
use minijinja::value::{Kwargs, StringInput, Tuple, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State, Value};

use super::collections::{of_dict, of_list};
use super::limits::{charge, refused};
use super::numbers::integer;
use super::objects::{DictView, Generator};

/// The maximum width to which a method pads.
const WIDEST: usize = 1000;

/// Called for a method that minijinja does not have.
///
/// # Errors
/// If Python does not have it either, its sandbox forbids it, or the arguments do not fit.
pub(super) fn call(
    state: &mut State,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    match (value.as_str(), value.kind()) {
        (Some(_), _) if value.is_safe() => Err(refused(format!(
            "`{method}` is called on a text that is marked safe"
        ))),
        (Some(text), _) => of_text(state, text, method, args),
        (None, ValueKind::Map) => of_dict(value, method, args),
        (None, ValueKind::Seq | ValueKind::Iterable)
            if value.downcast_object_ref::<Generator>().is_none()
                && value.downcast_object_ref::<DictView>().is_none() =>
        {
            of_list(state, value, method, args)
        }
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}

fn of_text(state: &State, text: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    let nothing = || from_args::<()>(args);
    Ok(match method {
        "strip" | "lstrip" | "rstrip" => strip(text, method, args)?,
        "split" | "rsplit" => split(text, method == "rsplit", args)?,
        "splitlines" => split_lines(text, args)?,
        "partition" | "rpartition" => partition(text, method, args)?,
        "replace" => {
            let (old, new, count): (&str, &str, Option<i64>) = from_args(args)?;
            replaced(state, text, old, new, count.unwrap_or(-1))?.into()
        }
        "startswith" | "endswith" => starts_or_ends(text, method, args)?.into(),
        "find" | "rfind" | "index" | "rindex" | "count" => find(text, method, args)?,
        "join" => joined(state, text, from_args::<(&Value,)>(args)?.0)?.into(),
        "format" => str_format(text, args)?,
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            text.strip_prefix(prefix).unwrap_or(text).into()
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            text.strip_suffix(suffix).unwrap_or(text).into()
        }
        "center" | "ljust" | "rjust" | "zfill" => padded(text, method, args)?.into(),
        "upper" => nothing().map(|()| text.to_uppercase())?.into(),
        "lower" => nothing().map(|()| text.to_lowercase())?.into(),
        "title" => nothing().map(|()| title(text))?.into(),
        "capitalize" => nothing().and_then(|()| capitalize(state, text))?,
        "swapcase" => nothing().map(|()| swapcase(text))?.into(),
        _ if method.starts_with("is") => nothing().and_then(|()| is_all(text, method))?.into(),
        _ => return Err(Error::from(ErrorKind::UnknownMethod)),
    })
}

/// `strip`, `lstrip` and `rstrip`.
fn strip(text: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    let (letters,): (Option<Value>,) = from_args(args)?;
    let letters = letters.filter(|letters| !letters.is_none());
    let letters = letters.as_ref().map(expected_text).transpose()?;
    Ok(stripped(text, letters, method != "rstrip", method != "lstrip").into())
}

fn split_lines(text: &str, args: &[Value]) -> Result<Value, Error> {
    let (keepends,): (Option<bool>,) = from_args(args)?;
    let lines = lines(text, keepends.unwrap_or(false));
    Ok(lines.into_iter().map(Value::from).collect())
}

/// `partition` and `rpartition`.
fn partition(text: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    let (between,): (&str,) = from_args(args)?;
    if between.is_empty() {
        return Err(refused(format!("`{method}` is given an empty text")));
    }
    let (found, unparted) = match method {
        "partition" => (text.split_once(between), (text, "", "")),
        _ => (text.rsplit_once(between), ("", "", text)),
    };
    let (before, between, after) =
        found.map_or(unparted, |(before, after)| (before, between, after));
    Ok(Tuple::from([before.into(), between.into(), after.into()]).into())
}

fn str_format(text: &str, args: &[Value]) -> Result<Value, Error> {
    let digits = text.split(|letter: char| !letter.is_ascii_digit());
    if digits.map(str::len).max().unwrap_or(0) > 3 {
        return Err(refused(format!("`format` pads to at most {WIDEST}")));
    }
    Ok(format(FormatStyle::StrFormat, text, args)?.into())
}

fn capitalize(state: &State, text: &str) -> Result<Value, Error> {
    let value = Value::from(text);
    Ok(minijinja::filters::capitalize(StringInput::new(
        state, &value,
    )?))
}

fn swapcase(text: &str) -> String {
    let swapped = |letter: char| -> String {
        match letter.is_uppercase() {
            true => letter.to_lowercase().collect(),
            false => letter.to_uppercase().collect(),
        }
    };
    text.chars().map(swapped).collect()
}

fn expected_text(value: &Value) -> Result<&str, Error> {
    value
        .as_str()
        .ok_or_else(|| refused(format!("a text is expected, found {}", value.kind())))
}

/// Python's `str.isspace` for one character.
fn is_blank(letter: char) -> bool {
    letter.is_whitespace() || ('\x1c'..='\x1f').contains(&letter)
}

/// `strip`, at one or both ends.
pub(super) fn stripped<'a>(
    text: &'a str,
    letters: Option<&str>,
    start: bool,
    end: bool,
) -> &'a str {
    let goes = |letter: char| letters.map_or(is_blank(letter), |set| set.contains(letter));
    let text = if start {
        text.trim_start_matches(goes)
    } else {
        text
    };
    if end {
        text.trim_end_matches(goes)
    } else {
        text
    }
}

/// `splitlines`.
pub(super) fn lines(text: &str, keepends: bool) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut rest = text;
    let ends = |letter: char| matches!(letter, '\n'..='\r' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}');
    while let Some(at) = rest.find(ends) {
        let letter = rest[at..].chars().next().map_or(1, char::len_utf8);
        let end = if rest[at..].starts_with("\r\n") {
            at + 2
        } else {
            at + letter
        };
        lines.push(&rest[..if keepends { end } else { at }]);
        rest = &rest[end..];
    }
    if !rest.is_empty() {
        lines.push(rest);
    }
    lines
}

/// `replace`, charged before it runs.
pub(super) fn replaced(
    state: &State,
    text: &str,
    old: &str,
    new: &str,
    count: i64,
) -> Result<String, Error> {
    let most = usize::try_from(count).unwrap_or(usize::MAX);
    let matches = text.matches(old).take(most).count();
    charge(
        state,
        text.len().saturating_add(matches.saturating_mul(new.len())),
    )?;
    Ok(text.replacen(old, new, most))
}

fn split(text: &str, from_right: bool, args: &[Value]) -> Result<Value, Error> {
    let (between, most, kwargs): (Option<Value>, Option<i64>, Kwargs) = from_args(args)?;
    let between = between.map_or_else(|| kwargs.get("sep"), |given| Ok(Some(given)))?;
    let most = most.map_or_else(|| kwargs.get("maxsplit"), |given| Ok(Some(given)))?;
    kwargs.assert_all_used()?;
    let between = between.filter(|between: &Value| !between.is_none());
    let most = most
        .and_then(|most: i64| usize::try_from(most).ok())
        .unwrap_or(usize::MAX);
    let parts: Vec<&str> = match &between {
        Some(between) => {
            let between = expected_text(between)?;
            if between.is_empty() {
                return Err(refused("`split` is given an empty text"));
            }
            match from_right {
                true => {
                    let mut parts: Vec<&str> =
                        text.rsplitn(most.saturating_add(1), between).collect();
                    parts.reverse();
                    parts
                }
                false => text.splitn(most.saturating_add(1), between).collect(),
            }
        }
        None => words(text, most, from_right),
    };
    Ok(parts.into_iter().map(Value::from).collect())
}

/// `split` at white space, into at most this many parts.
fn words(text: &str, most: usize, from_right: bool) -> Vec<&str> {
    if from_right {
        return words_from_right(text, most);
    }
    let mut words = Vec::new();
    let mut rest = stripped(text, None, true, false);
    while !stripped(rest, None, true, true).is_empty() {
        match rest.find(is_blank).filter(|_| words.len() < most) {
            Some(at) => {
                words.push(&rest[..at]);
                rest = stripped(&rest[at..], None, true, false);
            }
            None => {
                words.push(rest);
                break;
            }
        }
    }
    words
}

fn words_from_right(text: &str, most: usize) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = stripped(text, None, false, true);
    while !stripped(rest, None, true, false).is_empty() {
        match rest.rfind(is_blank).filter(|_| words.len() < most) {
            Some(at) => {
                let blank = rest[at..].chars().next().map_or(1, char::len_utf8);
                words.push(&rest[at + blank..]);
                rest = stripped(&rest[..at], None, false, true);
            }
            None => {
                // White space at the far end stays only if the last part was not split off.
                words.push(stripped(rest, None, words.len() < most, false));
                break;
            }
        }
    }
    words.reverse();
    words
}

/// A slice of a string, with Python's rules for negative indices.
fn slice(text: &str, start: Option<i64>, end: Option<i64>) -> Option<(usize, &str)> {
    let length = text.chars().count() as i64;
    let from_start = |index: i64| match index {
        ..0 => (index + length).max(0),
        _ => index,
    };
    let start = from_start(start.unwrap_or(0));
    let end = from_start(end.unwrap_or(length)).min(length);
    if start > end {
        return None;
    }
    let range = byte_of(text, start)..byte_of(text, end);
    Some((start as usize, &text[range]))
}

/// The byte position of a letter, or the end of the text.
fn byte_of(text: &str, letter: i64) -> usize {
    let mut letters = text.char_indices();
    letters
        .nth(letter as usize)
        .map_or(text.len(), |(byte, _)| byte)
}

fn starts_or_ends(text: &str, method: &str, args: &[Value]) -> Result<bool, Error> {
    let (what, start, end): (&Value, Option<i64>, Option<i64>) = from_args(args)?;
    let Some((_, part)) = slice(text, start, end) else {
        return Ok(false);
    };
    let fits = |what: &Value| {
        let what = expected_text(what)?;
        Ok(if method == "startswith" {
            part.starts_with(what)
        } else {
            part.ends_with(what)
        })
    };
    if !what.is_tuple() {
        return fits(what);
    }
    let found = what
        .try_iter()?
        .map(|what| fits(&what))
        .collect::<Result<Vec<bool>, Error>>()?;
    Ok(found.contains(&true))
}

fn find(text: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    let (what, start, end): (&str, Option<i64>, Option<i64>) = from_args(args)?;
    let part = slice(text, start, end);
    if method == "count" {
        return Ok(Value::from(
            part.map_or(0, |(_, part)| part.matches(what).count()),
        ));
    }
    let from_right = method.starts_with('r');
    let place = part.and_then(|(start, part)| {
        let byte = if from_right {
            part.rfind(what)
        } else {
            part.find(what)
        };
        byte.map(|byte| start + part[..byte].chars().count())
    });
    match place {
        Some(place) => Ok(Value::from(place)),
        None if method.ends_with("find") => Ok(Value::from(-1)),
        None => Err(refused(format!("`{method}` finds no `{what}`"))),
    }
}

fn joined(state: &State, between: &str, items: &Value) -> Result<String, Error> {
    let letters = items
        .as_str()
        .map(|text| text.chars().map(Value::from).collect::<Value>());
    let mut joined = String::new();
    for (index, item) in letters.as_ref().unwrap_or(items).try_iter()?.enumerate() {
        let part = expected_text(&item)?;
        charge(state, between.len() + part.len() + 64)?;
        if index > 0 {
            joined += between;
        }
        joined += part;
    }
    Ok(joined)
}

fn padded(text: &str, method: &str, args: &[Value]) -> Result<String, Error> {
    let (width, fill): (&Value, Option<&str>) = from_args(args)?;
    let width = integer(width).ok_or_else(|| refused(format!("`{method}` is given no width")))?;
    if width > WIDEST as i128 {
        return Err(refused(format!("`{method}` pads to at most {WIDEST}")));
    }
    let width = usize::try_from(width).unwrap_or(0);
    let length = text.chars().count();
    let missing = width.saturating_sub(length);
    let fill = match method {
        "zfill" => "0",
        _ => fill.unwrap_or(" "),
    };
    if fill.chars().count() != 1 {
        return Err(refused(format!(
            "`{method}` is given `{fill}`, expected one letter"
        )));
    }
    let padding = fill.repeat(missing);
    Ok(match method {
        "ljust" => format!("{text}{padding}"),
        "rjust" => format!("{padding}{text}"),
        "zfill" => match text.strip_prefix(['+', '-']) {
            Some(digits) => format!("{}{padding}{digits}", &text[..1]),
            None => format!("{padding}{text}"),
        },
        _ => {
            // Python puts the extra space to the left if both the width and the padding are odd.
            let left = missing / 2 + (missing & width & 1);
            format!("{}{text}{}", fill.repeat(left), fill.repeat(missing - left))
        }
    })
}

/// `str.title`: a letter that follows no letter is capitalised.
fn title(text: &str) -> String {
    let mut after_letter = false;
    let mut titled = String::with_capacity(text.len());
    for letter in text.chars() {
        match after_letter {
            true => titled.extend(letter.to_lowercase()),
            false => titled.extend(letter.to_uppercase()),
        }
        after_letter = letter.is_lowercase() || letter.is_uppercase();
    }
    titled
}

/// `isdigit` and similar. Python distinguishes several kinds of numbers outside ASCII, Rust does
/// not: they are refused.
fn is_all(text: &str, method: &str) -> Result<bool, Error> {
    let all = |is: &dyn Fn(char) -> bool| !text.is_empty() && text.chars().all(is);
    let odd = text
        .chars()
        .any(|letter| !letter.is_ascii() && letter.is_numeric());
    let cased = |letter: char| letter.is_lowercase() || letter.is_uppercase();
    Ok(match method {
        "isspace" => all(&is_blank),
        "isascii" => text.is_ascii(),
        "islower" => text.chars().any(char::is_lowercase) && !text.chars().any(char::is_uppercase),
        "isupper" => text.chars().any(char::is_uppercase) && !text.chars().any(char::is_lowercase),
        "istitle" => text.chars().any(cased) && text == title(text),
        "isdigit" | "isdecimal" | "isnumeric" | "isalnum" | "isalpha" if odd => {
            return Err(refused(format!(
                "`{method}` meets a number that is not of ASCII"
            )));
        }
        "isdigit" | "isdecimal" | "isnumeric" => all(&|letter| letter.is_ascii_digit()),
        "isalnum" => all(&char::is_alphanumeric),
        "isalpha" => all(&char::is_alphabetic),
        _ => return Err(Error::from(ErrorKind::UnknownMethod)),
    })
}

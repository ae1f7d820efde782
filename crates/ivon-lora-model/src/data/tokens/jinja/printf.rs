//! Python's `%` on strings: `'%s is %d' % (name, 7)`.

use minijinja::formatting::{FormatStyle, format};
use minijinja::value::ValueKind;
use minijinja::{Error, Value};

use super::limits::refused;
use super::numbers::{float, integer, whole};
use super::text::text;

/// The maximum width and number of digits of a conversion.
pub(super) const WIDEST: usize = 1000;

/// Python's `pattern % arguments`.
pub(super) fn printf(pattern: &str, arguments: &Value) -> Result<String, Error> {
    let is_mapping = arguments.kind() == ValueKind::Map;
    let list: Vec<Value> = match arguments.is_tuple() {
        true => arguments.try_iter()?.collect(),
        false => vec![arguments.clone()],
    };
    let mut list = list.into_iter();
    let (mut written, mut rest) = (String::new(), pattern);
    while let Some((before, after)) = rest.split_once('%') {
        written += before;
        let (spec, after) = Spec::read(after)?;
        rest = after;
        if spec.kind == '%' {
            written.push('%');
            continue;
        }
        let value = match spec.name {
            Some(name) if is_mapping => arguments.get_attr(name)?,
            Some(_) => return Err(refused("`%(name)s` needs a mapping behind `%`")),
            None => list
                .next()
                .ok_or_else(|| refused("`%` is given too few values"))?,
        };
        written += &spec.write(&value)?;
    }
    if list.next().is_some() && !is_mapping {
        return Err(refused("`%` is given more values than its text takes"));
    }
    Ok(written + rest)
}

/// A parsed conversion such as `%(name)-5.2f`.
struct Spec<'a> {
    name: Option<&'a str>,
    flags: &'a str,
    width: usize,
    precision: Option<usize>,
    kind: char,
}

impl<'a> Spec<'a> {
    fn read(text: &'a str) -> Result<(Self, &'a str), Error> {
        let unread = || refused("the text before `%` holds a conversion that is not read");
        let (name, text) = match text.strip_prefix('(') {
            Some(inside) => inside
                .split_once(')')
                .map(|(name, rest)| (Some(name), rest))
                .ok_or_else(unread)?,
            None => (None, text),
        };
        let after = text.trim_start_matches(['#', '0', '-', ' ', '+']);
        let (flags, text) = text.split_at(text.len() - after.len());
        let (width, text) = leading_number(text)?;
        let (precision, text) = match text.strip_prefix('.') {
            Some(text) => {
                leading_number(text).map(|(value, rest)| (Some(value.unwrap_or(0)), rest))?
            }
            None => (None, text),
        };
        let text = text.trim_start_matches(['h', 'l', 'L']);
        let kind = text.chars().next().ok_or_else(unread)?;
        let rest = &text[kind.len_utf8()..];
        Ok((
            Self {
                name,
                flags,
                width: width.unwrap_or(0),
                precision,
                kind,
            },
            rest,
        ))
    }

    fn write(&self, value: &Value) -> Result<String, Error> {
        let unread = || refused(format!("`%{}` is given {}", self.kind, value.kind()));
        let full = match self.kind {
            's' => text(value)?,
            'r' => {
                let tuple = text(&Value::from(vec![value.clone()]))?;
                tuple[1..tuple.len() - 1].to_string()
            }
            'd' | 'i' | 'u' => {
                return self.number(&whole(self.truncated(value).ok_or_else(unread)?), 'd');
            }
            'x' | 'X' | 'o' => {
                return self.number(&whole(integer(value).ok_or_else(unread)?), self.kind);
            }
            'e' | 'E' | 'f' | 'F' | 'g' | 'G' => {
                return self.number(&Value::from(float(value).ok_or_else(unread)?), self.kind);
            }
            'c' => character(value).ok_or_else(unread)?,
            _ => return Err(refused(format!("`%{}` is not read", self.kind))),
        };
        let cut: String = full
            .chars()
            .take(self.precision.unwrap_or(usize::MAX))
            .collect();
        let blanks = " ".repeat(self.width.saturating_sub(cut.chars().count()));
        Ok(if self.flags.contains('-') {
            cut + &blanks
        } else {
            blanks + &cut
        })
    }

    /// `int(value)` for a number.
    fn truncated(&self, value: &Value) -> Option<i128> {
        let float = || {
            float(value)
                .filter(|float| float.abs() < 1e38)
                .map(|float| float as i128)
        };
        integer(value).or_else(float)
    }

    fn number(&self, value: &Value, kind: char) -> Result<String, Error> {
        let width = if self.width == 0 {
            String::new()
        } else {
            self.width.to_string()
        };
        let precision = self
            .precision
            .map_or_else(String::new, |digits| format!(".{digits}"));
        let pattern = format!("%{}{width}{precision}{kind}", self.flags);
        format(FormatStyle::Printf, &pattern, std::slice::from_ref(value))
    }
}

/// The number at the start of a text, if there is one, and the text after it.
fn leading_number(text: &str) -> Result<(Option<usize>, &str), Error> {
    let after = text.trim_start_matches(|letter: char| letter.is_ascii_digit());
    let (digits, after) = text.split_at(text.len() - after.len());
    let value = (!digits.is_empty()).then(|| digits.parse().unwrap_or(usize::MAX));
    match value {
        Some(value) if value > WIDEST => Err(refused(format!(
            "`%` pads to {digits}, expected at most {WIDEST}"
        ))),
        value => Ok((value, after)),
    }
}

/// The character that is given, or that has the code that is given.
fn character(value: &Value) -> Option<String> {
    match (value.as_str(), integer(value)) {
        (Some(text), _) if text.chars().count() == 1 => Some(text.to_string()),
        (None, Some(code)) => {
            let letter = u32::try_from(code).ok().and_then(char::from_u32);
            letter.map(String::from)
        }
        _ => None,
    }
}

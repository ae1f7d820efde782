//! A configuration file → its values, checked key by key: unknown keys and values of the wrong kind
//! are reported with their line.

use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;

use ivon_lora::files;
use ivon_lora::method::Method;
use ivon_lora::settings::Kind;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::exit::{CliError, Exit};
use crate::names;
use crate::settings::{self, Setting, TABLES, settings};
use crate::suggest::did_you_mean;

const LARGEST: u64 = 4 << 20;

/// The optimizer of a file that names none.
pub fn default_optimizer() -> &'static str {
    Method::default().name()
}

/// Reads and checks a file.
///
/// # Errors
/// If it cannot be read, is not TOML, has a key that does not exist, or a value of the wrong kind.
pub fn read(path: &Path) -> Result<toml::Table, CliError> {
    let text = files::read_text(path, LARGEST).map_err(|error| CliError {
        message: error.to_string(),
        hint: error.hint().as_ref().map(names::written),
        exit: Exit::Usage,
    })?;
    parse(&text, &path.display().to_string())
}

/// Checks the text of the file called `name`.
///
/// # Errors
/// As [`read`].
pub fn parse(text: &str, name: &str) -> Result<toml::Table, CliError> {
    let file = File { text, name };
    let table = DeTable::parse(text).map_err(|error| file.malformed(&error))?;
    file.check(table.get_ref())?;
    toml::from_str(text).map_err(|error| file.malformed(&error))
}

struct File<'a> {
    text: &'a str,
    name: &'a str,
}

impl File<'_> {
    fn malformed(&self, error: &toml::de::Error) -> CliError {
        let place = error
            .span()
            .map_or_else(|| format!("`{}`", self.name), |span| self.place(&span));
        CliError::usage(
            format!("{place} is malformed: {}", one_line(error.message())),
            Some("`ivon-lora init` writes a file to start from".into()),
        )
    }

    fn place(&self, span: &Range<usize>) -> String {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        format!("`{}` line {}", self.name, before.matches('\n').count() + 1)
    }

    fn check(&self, top: &DeTable<'_>) -> Result<(), CliError> {
        // `provenance` is added by a run to the settings that it saves.
        for (key, value) in top.iter().filter(|(key, _)| key.get_ref() != "provenance") {
            let table = TABLES
                .iter()
                .find(|table| !table.name.is_empty() && table.name == key.get_ref().as_ref());
            match (table, value.get_ref()) {
                (Some(table), DeValue::Table(inner)) => self.check_table(table.name, inner)?,
                (Some(table), other) => {
                    return Err(self.wrong_kind(table.name, "a table", &value.span(), other));
                }
                (None, _) => self.check_key("", key, value, None)?,
            }
        }
        Ok(())
    }

    fn check_table(&self, table: &str, inner: &DeTable<'_>) -> Result<(), CliError> {
        let name = inner
            .iter()
            .find(|(key, _)| key.get_ref() == "name")
            .map(|(_, value)| value.get_ref());
        let optimizer = (table == "optimizer").then(|| {
            name.and_then(DeValue::as_str)
                .unwrap_or(default_optimizer())
        });
        // The optimizer's name first: it determines which other keys exist.
        let (names, others): (Vec<_>, Vec<_>) =
            inner.iter().partition(|(key, _)| key.get_ref() == "name");
        names
            .into_iter()
            .chain(others)
            .try_for_each(|(key, value)| self.check_key(table, key, value, optimizer))
    }

    fn check_key(
        &self,
        table: &str,
        key: &Spanned<Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
        optimizer: Option<&str>,
    ) -> Result<(), CliError> {
        let Some(setting) = settings::find(table, key.get_ref()) else {
            return Err(self.unknown(table, key));
        };
        if let Some(optimizer) = optimizer.filter(|optimizer| !setting.belongs_to(optimizer)) {
            return Err(self.foreign(setting, key, optimizer));
        }
        if fits(setting.key.kind, value.get_ref()) {
            return Ok(());
        }
        let mut error = self.wrong_kind(
            &setting.name(),
            &setting.key.kind.name(),
            &value.span(),
            value.get_ref(),
        );
        if let (Some(words), DeValue::String(found)) = (setting.key.kind.words(), value.get_ref()) {
            error.hint = did_you_mean(found, words.iter().copied());
        }
        Err(error)
    }

    /// A setting that this optimizer does not have.
    fn foreign(&self, setting: &Setting, key: &Spanned<Cow<'_, str>>, optimizer: &str) -> CliError {
        let place = self.place(&key.span());
        let name = setting.key.name;
        let others = setting.only.join("`, `");
        CliError::usage(
            format!("{place}: the optimizer `{optimizer}` has no `{name}`"),
            Some(format!(
                "remove the line, or choose the optimizer `{others}`"
            )),
        )
    }

    fn wrong_kind(
        &self,
        name: &str,
        expected: &str,
        span: &Range<usize>,
        found: &DeValue<'_>,
    ) -> CliError {
        CliError::usage(
            format!(
                "{}: `{name}` is {}, expected {expected}",
                self.place(span),
                shown(found)
            ),
            None,
        )
    }

    fn unknown(&self, table: &str, key: &Spanned<Cow<'_, str>>) -> CliError {
        let found = key.get_ref().as_ref();
        let hint = unknown_key_hint(table, found)
            .unwrap_or_else(|| "`ivon-lora init` writes a file with every key".into());
        let table = if table.is_empty() {
            String::new()
        } else {
            format!(" in the table `[{table}]`")
        };
        CliError::usage(
            format!("{}: unknown key `{found}`{table}", self.place(&key.span())),
            Some(hint),
        )
    }
}

/// Where a key of this name belongs, or the nearest known name.
fn unknown_key_hint(table: &str, found: &str) -> Option<String> {
    // A key in the wrong table is a likelier mistake than a misspelt one.
    if let Some(setting) = settings().iter().find(|setting| setting.key.name == found) {
        return Some(match setting.table {
            "" => format!("`{found}` stands at the top of the file, before the first table"),
            table => format!("`{found}` stands in the table `[{table}]`"),
        });
    }
    let of_table = settings().iter().filter(|setting| setting.table == table);
    let tables = TABLES
        .iter()
        .map(|table| table.name)
        .filter(|name| table.is_empty() && !name.is_empty());
    did_you_mean(
        found,
        of_table.map(|setting| setting.key.name).chain(tables),
    )
}

/// Whether a value is of a kind.
fn fits(kind: Kind, value: &DeValue<'_>) -> bool {
    let whole = |value: &DeValue<'_>| {
        value
            .as_integer()
            .is_some_and(|number| !number.as_str().starts_with('-'))
    };
    let all = |value: &DeValue<'_>, fits: &dyn Fn(&DeValue<'_>) -> bool| {
        value
            .as_array()
            .is_some_and(|list| list.iter().all(|entry| fits(entry.get_ref())))
    };
    let is_number = |value: &DeValue<'_>| value.is_integer() || value.is_float();
    let is_one_of = |words: &[&str]| value.as_str().is_some_and(|found| words.contains(&found));
    match kind {
        Kind::Whole => whole(value),
        Kind::Number => is_number(value),
        Kind::Switch => value.is_bool(),
        Kind::SwitchOrPath => value.is_bool() || value.is_str(),
        Kind::Text | Kind::Path => value.is_str(),
        Kind::OneOf(words) => is_one_of(words),
        Kind::Texts => all(value, &|entry| entry.is_str()),
        Kind::TextOrTexts => value.is_str() || all(value, &|entry| entry.is_str()),
        Kind::Wholes => all(value, &whole),
        Kind::Numbers => value
            .as_table()
            .is_some_and(|table| table.values().all(|entry| is_number(entry.get_ref()))),
        Kind::WordOrNumbers(words) => is_one_of(words) || all(value, &is_number),
    }
}

/// A value as an error shows it.
fn shown(value: &DeValue<'_>) -> String {
    let cut = |text: &str| text.chars().take(40).collect::<String>();
    match value {
        DeValue::String(text) => format!("the text `{}`", cut(text)),
        DeValue::Integer(number) => format!("the number `{}`", cut(number.as_str())),
        DeValue::Float(number) => format!("the number `{}`", cut(number.as_str())),
        DeValue::Boolean(value) => format!("`{value}`"),
        DeValue::Datetime(_) => "a date".into(),
        DeValue::Array(_) => "a list".into(),
        DeValue::Table(_) => "a table".into(),
    }
}

fn one_line(text: &str) -> String {
    text.lines().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        parse(text, "run.toml").unwrap_err().to_string()
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_the_nearest_known_one() {
        assert_eq!(
            error("seed = 1\n\n[train]\nbatchsize = 4\n"),
            "error: `run.toml` line 4: unknown key `batchsize` in the table `[train]`\n\nhint: did you mean `batch_size`?"
        );
        assert_eq!(
            error("[trian]\n"),
            "error: `run.toml` line 1: unknown key `trian`\n\nhint: did you mean `train`?"
        );
        assert_eq!(
            error("rank = 4"),
            "error: `run.toml` line 1: unknown key `rank`\n\nhint: `rank` stands in the table `[lora]`"
        );
        assert!(
            error("[lora]\nsomething_else = 4")
                .ends_with("hint: `ivon-lora init` writes a file with every key")
        );
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_named_with_what_was_found_and_expected() {
        let wrong = [
            (
                "[train]\nsteps = 'four'",
                "line 2: `train.steps` is the text `four`, expected a whole number",
            ),
            (
                "seed = -1",
                "line 1: `seed` is the number `-1`, expected a whole number",
            ),
            (
                "train = 3",
                "line 1: `train` is the number `3`, expected a table",
            ),
            (
                "[data]\nanswers = ['a', 1]",
                "line 2: `data.answers` is a list, expected a list of texts",
            ),
            (
                "[lora]\ndropout = true",
                "line 2: `lora.dropout` is `true`, expected a number",
            ),
        ];
        for (text, expected) in wrong {
            assert_eq!(error(text), format!("error: `run.toml` {expected}"));
        }
        assert_eq!(
            error("[model]\ndevice = 'cudda'"),
            "error: `run.toml` line 2: `model.device` is the text `cudda`, expected one of `cpu`, `cuda`, `rocm`, `metal`, `vulkan`, \
             `wgpu`\n\nhint: did you mean `cuda`?"
        );
    }

    #[test]
    fn a_key_of_another_optimizer_is_refused_wherever_the_name_stands() {
        let expected = "error: `run.toml` line 2: the optimizer `adamw` has no `ess`\n\nhint: remove the line, or choose the optimizer `ivon`, `evon`";
        assert_eq!(error("[optimizer]\ness = 1e6\nname = 'adamw'"), expected);
        assert!(parse("[optimizer]\ness = 1e6", "run.toml").is_ok());
    }

    #[test]
    fn what_is_no_toml_is_named_with_its_line() {
        let message = error("seed = 1\nout = = 3\n");
        assert!(
            message.starts_with("error: `run.toml` line 2 is malformed: "),
            "{message}"
        );
        assert!(
            read(Path::new("/nowhere/run.toml"))
                .unwrap_err()
                .message
                .starts_with("could not read `/nowhere/run.toml`")
        );
    }
}

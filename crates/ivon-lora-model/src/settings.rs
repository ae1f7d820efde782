//! The description of a setting: its key in a configuration file, its flag, its type, a sentence.
//! Each struct of settings comes with a row for each of its fields; the command line, the
//! validation of files and the docs are generated from the rows.

use std::fmt;

/// A setting.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name in the file, the same as the field's.
    pub name: &'static str,
    /// The type of its value.
    pub kind: Kind,
    /// One sentence.
    pub help: &'static str,
    /// The flag that overrides it, if there is one.
    pub flag: Option<Flag>,
    /// An example value in TOML if there is no default, else empty.
    pub example: &'static str,
    /// The key of the same table that it replaces.
    pub instead_of: Option<&'static str>,
}

/// The command-line flag of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flag {
    /// Its name, without dashes.
    pub name: &'static str,
    /// The placeholder of its value.
    pub value: &'static str,
}

impl Key {
    /// A setting without a flag.
    pub const fn new(name: &'static str, kind: Kind, help: &'static str) -> Self {
        Self {
            name,
            kind,
            help,
            flag: None,
            example: "",
            instead_of: None,
        }
    }

    /// Adds a flag, with `value` as the placeholder of its value.
    pub const fn with_flag(mut self, name: &'static str, value: &'static str) -> Self {
        self.flag = Some(Flag { name, value });
        self
    }

    /// Adds an example value, for a setting without a default.
    pub const fn with_example(mut self, example: &'static str) -> Self {
        self.example = example;
        self
    }

    /// Says that the setting replaces another key of its table.
    pub const fn instead_of(mut self, name: &'static str) -> Self {
        self.instead_of = Some(name);
        self
    }
}

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A whole number, at least 0.
    Whole,
    /// A number.
    Number,
    /// True or false.
    Switch,
    /// True, false, or a file.
    SwitchOrPath,
    /// A string.
    Text,
    /// A file or folder, relative to the working directory.
    Path,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A list of strings.
    Texts,
    /// A string or a list of strings.
    TextOrTexts,
    /// A list of whole numbers, at least 0.
    Wholes,
    /// A table of numbers above 0.
    Numbers,
    /// One of these words, or a list of numbers.
    WordOrNumbers(&'static [&'static str]),
}

impl Kind {
    /// The words that it accepts as a text, if it accepts no other text.
    pub fn words(self) -> Option<&'static [&'static str]> {
        match self {
            Self::OneOf(words) | Self::WordOrNumbers(words) => Some(words),
            _ => None,
        }
    }

    /// The type in words, for errors and docs.
    pub fn name(self) -> String {
        match self {
            Self::Whole => "a whole number".into(),
            Self::Number => "a number".into(),
            Self::Switch => "true or false".into(),
            Self::SwitchOrPath => "true, false or a text".into(),
            Self::Text | Self::Path => "a text".into(),
            Self::OneOf(words) => {
                let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
                format!("one of {}", words.join(", "))
            }
            Self::Texts => "a list of texts".into(),
            Self::TextOrTexts => "a text or a list of texts".into(),
            Self::Wholes => "a list of whole numbers".into(),
            Self::Numbers => "a table of numbers".into(),
            Self::WordOrNumbers(words) => format!("`{}` or a list of numbers", words.join("`, `")),
        }
    }
}

/// A setting that is missing or out of range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{key}` is {found}, expected {expected}")]
pub struct SettingError {
    /// Its key.
    pub key: &'static str,
    /// What was found, in words or as a value in backticks.
    pub found: String,
    /// What is allowed.
    pub expected: &'static str,
}

impl SettingError {
    /// With a description of what was found, such as `absent`.
    pub fn new(key: &'static str, found: impl Into<String>, expected: &'static str) -> Self {
        Self {
            key,
            found: found.into(),
            expected,
        }
    }

    /// With the value that was found, in backticks.
    pub fn value(key: &'static str, found: impl fmt::Display, expected: &'static str) -> Self {
        Self::new(key, format!("`{found}`"), expected)
    }

    /// Checks a share that may be absent.
    ///
    /// # Errors
    /// If it is not above 0 and at most 1.
    pub fn share(key: &'static str, share: Option<f64>) -> Result<(), Self> {
        match share.filter(|share| !(*share > 0.0 && *share <= 1.0)) {
            Some(share) => Err(Self::value(key, share, "above 0 and at most 1")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_written_as_a_sentence() {
        let key = Key::new("epochs", Kind::Number, "Passes over the examples.")
            .with_flag("epochs", "X")
            .instead_of("steps");
        assert_eq!((key.name, key.example), ("epochs", ""));
        assert_eq!(key.flag.map(|flag| flag.value), Some("X"));
        assert_eq!(key.instead_of, Some("steps"));
        assert_eq!(Kind::OneOf(&["a", "b"]).name(), "one of `a`, `b`");
    }

    #[test]
    fn what_is_wrong_is_said_with_what_was_found_and_what_is_allowed() {
        let wrong = SettingError::value("rank", 0, "at least 1");
        assert_eq!(wrong.to_string(), "`rank` is `0`, expected at least 1");
        let wrong = SettingError::new("out", "absent", "a folder");
        assert_eq!(wrong.to_string(), "`out` is absent, expected a folder");
    }
}

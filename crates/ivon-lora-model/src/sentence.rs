//! Sentences that mention settings and commands without fixing how these are written: a command
//! line writes `--learning-rate`, a Python binding `learning_rate=`.

use std::borrow::Cow;
use std::fmt;

/// A part of a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Literal text.
    Text(Cow<'static, str>),
    /// A setting, with a suggested value where there is one.
    Setting {
        /// Its name, in snake case.
        name: &'static str,
        /// The value.
        value: Option<String>,
    },
    /// A command, such as `inspect data`.
    Command(&'static str),
}

/// A sentence for the user, with settings and commands in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sentence(Vec<Piece>);

/// How a program writes settings and commands.
pub trait Names {
    /// A setting, alone or with a value.
    fn setting(&self, name: &str, value: Option<&str>) -> String;
    /// A command.
    fn command(&self, name: &str) -> String;
}

/// The library's own names: `learning_rate`, `answers=yes,no`, `inspect data`.
#[derive(Clone, Copy, Debug)]
pub struct PlainNames;

impl Names for PlainNames {
    fn setting(&self, name: &str, value: Option<&str>) -> String {
        value.map_or_else(|| name.into(), |value| format!("{name}={value}"))
    }

    fn command(&self, name: &str) -> String {
        name.into()
    }
}

impl Sentence {
    /// A template whose gaps `{}` are filled with one piece each; [`sentence!`] counts the gaps at
    /// compile time.
    pub fn new(template: &'static str, pieces: Vec<Piece>) -> Self {
        let mut parts = template.split("{}").map(|part| Piece::Text(part.into()));
        let mut whole: Vec<Piece> = parts.next().into_iter().collect();
        for (piece, text) in pieces.into_iter().zip(parts) {
            whole.extend([piece, text]);
        }
        Self(whole)
    }

    /// This sentence followed by another.
    pub fn then(mut self, rest: Sentence) -> Self {
        self.0.extend(rest.0);
        self
    }

    /// Whether it contains this text, with settings and commands by their plain names.
    pub fn contains(&self, words: &str) -> bool {
        self.to_string().contains(words)
    }

    /// The parts, in order.
    pub fn pieces(&self) -> &[Piece] {
        &self.0
    }

    /// The sentence with settings and commands as `names` writes them.
    pub fn written(&self, names: &dyn Names) -> String {
        let word = |piece: &Piece| match piece {
            Piece::Text(text) => text.to_string(),
            Piece::Setting { name, value } => names.setting(name, value.as_deref()),
            Piece::Command(name) => names.command(name),
        };
        self.0.iter().map(word).collect()
    }
}

impl fmt::Display for Sentence {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.written(&PlainNames))
    }
}

impl From<&'static str> for Sentence {
    fn from(text: &'static str) -> Self {
        Self(vec![text.into()])
    }
}

impl From<String> for Sentence {
    fn from(text: String) -> Self {
        Self(vec![text.into()])
    }
}

impl From<&'static str> for Piece {
    fn from(text: &'static str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Piece {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

/// A setting.
pub fn setting(name: &'static str) -> Piece {
    Piece::Setting { name, value: None }
}

/// A setting with a value.
pub fn setting_to(name: &'static str, value: impl Into<String>) -> Piece {
    Piece::Setting {
        name,
        value: Some(value.into()),
    }
}

/// A command.
pub fn command(name: &'static str) -> Piece {
    Piece::Command(name)
}

/// The number of gaps `{}` in a template.
pub const fn gaps(template: &str) -> usize {
    let letters = template.as_bytes();
    let (mut count, mut place) = (0, 1);
    while place < letters.len() {
        if letters[place - 1] == b'{' && letters[place] == b'}' {
            count += 1;
        }
        place += 1;
    }
    count
}

/// A [`Sentence`] from a template and the texts, settings and commands that fill its gaps `{}`.
#[doc(hidden)]
#[macro_export]
macro_rules! __sentence {
    ($template:literal $(, $piece:expr)* $(,)?) => {{
        const _: () = assert!(
            $crate::sentence::gaps($template) == <[&str]>::len(&[$(stringify!($piece)),*]),
            "as many pieces as gaps"
        );
        $crate::sentence::Sentence::new(
            $template,
            vec![$($crate::sentence::Piece::from($piece)),*],
        )
    }};
}
#[doc(inline)]
pub use __sentence as sentence;

#[cfg(test)]
mod tests {
    use super::*;

    /// As a command line would write them.
    struct Dashes;

    impl Names for Dashes {
        fn setting(&self, name: &str, value: Option<&str>) -> String {
            let value = value.map_or_else(String::new, |value| format!(" {value}"));
            format!("--{name}{value}")
        }

        fn command(&self, name: &str) -> String {
            format!("program {name}")
        }
    }

    #[test]
    fn a_sentence_is_written_as_the_program_names_its_settings() {
        let hint = sentence!(
            "lower `{}` to {}, or see `{}`",
            setting_to("rank", "8"),
            format!("{}", 4),
            command("inspect data")
        );
        assert_eq!(
            hint.written(&Dashes),
            "lower `--rank 8` to 4, or see `program inspect data`"
        );
        assert_eq!(
            hint.to_string(),
            "lower `rank=8` to 4, or see `inspect data`"
        );
        assert!(hint.pieces().contains(&command("inspect data")));
    }

    #[test]
    fn plain_words_are_a_sentence_too() {
        assert_eq!(sentence!("as it is").written(&Dashes), "as it is");
        assert_eq!(Sentence::from("as it is").to_string(), "as it is");
        assert_eq!((gaps(""), gaps("{}"), gaps("a {} b {}")), (0, 1, 2));
    }
}

//! Flags that correspond to keys of the configuration file: generated from the library's rows of
//! settings, and read back as values of the file.

use std::marker::PhantomData;
use std::path::PathBuf;

use clap::{Arg, ArgMatches, Command, FromArgMatches, value_parser};
use ivon_lora::settings::{Flag, Kind};
use ivon_lora::words::joined;
use toml::Value;

use crate::settings::{Setting, find, settings};

/// The value of a flag.
#[derive(Clone, Debug, PartialEq)]
pub enum FlagValue {
    /// As it would stand in the file.
    Toml(Value),
    /// A path, which need not be UTF-8.
    Path(PathBuf),
}

/// The flags of a group that were typed, in the order of the help.
#[derive(Clone, Debug, Default)]
pub struct SettingFlags<G = All> {
    typed: Vec<(&'static Setting, FlagValue)>,
    group: PhantomData<G>,
}

/// A group of flags that commands take together.
pub trait Group: Clone + Send + Sync + 'static {
    /// The heading of the whole group in the help; by default each flag is in its own section.
    const HEADING: Option<&'static str> = None;

    /// The settings of the group, in the order of the help.
    fn flags() -> Vec<(&'static Setting, Flag)>;
}

/// The flags of a run.
#[derive(Clone, Copy, Debug, Default)]
pub struct All;

/// The flags of the data settings.
#[derive(Clone, Copy, Debug)]
pub struct Data;

/// The flags that describe a task, for an adapter that names none.
#[derive(Clone, Copy, Debug)]
pub struct Task;

impl Group for All {
    fn flags() -> Vec<(&'static Setting, Flag)> {
        PARTS.iter().flat_map(Part::flags).collect()
    }
}

impl Group for Data {
    fn flags() -> Vec<(&'static Setting, Flag)> {
        PARTS[1].flags()
    }
}

impl Group for Task {
    const HEADING: Option<&'static str> = Some("For an adapter of another program");

    fn flags() -> Vec<(&'static Setting, Flag)> {
        let keys = [
            "task",
            "prompt",
            "answers",
            "label_field",
            "scoring",
            "chat_template",
        ];
        keys.iter()
            .filter_map(|key| find("data", key))
            .filter_map(|setting| Some((setting, setting.key.flag?)))
            .collect()
    }
}

/// A section of the help, and the table that most of its settings are in.
struct Part {
    heading: Option<&'static str>,
    table: &'static str,
}

/// The sections of the help, in order.
const PARTS: [Part; 7] = [
    part(None, ""),
    part(Some("Prompts"), "data"),
    part(Some("Optimizer"), "optimizer"),
    part(Some("Training"), "train"),
    part(Some("Adapter"), "lora"),
    part(Some("Evaluation"), "evaluation"),
    part(Some("Machine"), "model"),
];

const fn part(heading: Option<&'static str>, table: &'static str) -> Part {
    Part { heading, table }
}

impl Part {
    /// The section that shows a setting: what every run must name comes first, and a few settings
    /// appear in the section they belong to by subject.
    fn of(setting: &Setting) -> &'static Self {
        let table = match (setting.table, setting.key.name) {
            ("model" | "data", "path") => "",
            ("", "seed") => "train",
            ("model", "adapter") => "lora",
            (table, _) => table,
        };
        let found = PARTS.iter().find(|part| part.table == table);
        found.unwrap_or(&PARTS[0])
    }

    /// The settings of this section that have a flag: those of its own table first, or last in the
    /// first section.
    fn flags(&self) -> Vec<(&'static Setting, Flag)> {
        let mut flags: Vec<(&Setting, Flag)> = settings()
            .iter()
            .filter(|setting| Self::of(setting).table == self.table)
            .filter_map(|setting| Some((setting, setting.key.flag?)))
            .collect();
        let is_first = self.table.is_empty();
        flags.sort_by_key(|(setting, _)| (setting.table == self.table) == is_first);
        flags
    }
}

impl<G: Group> SettingFlags<G> {
    /// The flags that were typed.
    pub fn iter(&self) -> impl Iterator<Item = (&'static Setting, &FlagValue)> {
        self.typed.iter().map(|(setting, value)| (*setting, value))
    }

    /// Whether a flag was typed.
    pub fn has(&self, flag: &str) -> bool {
        self.iter().any(|(setting, _)| setting.flag() == Some(flag))
    }
}

impl<G: Group> clap::Args for SettingFlags<G> {
    fn augment_args(command: Command) -> Command {
        command.args(G::flags().into_iter().map(|(setting, flag)| {
            let heading = G::HEADING.or(Part::of(setting).heading);
            argument(setting, flag).help_heading(heading)
        }))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<G: Group> FromArgMatches for SettingFlags<G> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let typed = |(setting, flag): (&'static Setting, Flag)| {
            Some((setting, value(setting.key.kind, flag.name, matches)?))
        };
        Ok(Self {
            typed: G::flags().into_iter().filter_map(typed).collect(),
            group: PhantomData,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// The clap argument for a setting.
fn argument(setting: &'static Setting, flag: Flag) -> Arg {
    let mut argument = Arg::new(flag.name)
        .long(flag.name)
        .value_name(flag.value)
        .help(help(setting));
    let other = setting
        .key
        .instead_of
        .and_then(|name| find(setting.table, name)?.flag());
    if let Some(other) = other {
        argument = argument.conflicts_with(other);
    }
    match setting.key.kind {
        // The largest integer that TOML can hold.
        Kind::Whole if setting.key.name == "seed" => {
            argument.value_parser(value_parser!(u64).range(..=i64::MAX as u64))
        }
        Kind::Whole => argument.value_parser(value_parser!(u64).range(..=u64::from(u32::MAX))),
        Kind::Number => argument
            .value_parser(value_parser!(f64))
            .allow_negative_numbers(true),
        Kind::Switch => optional(argument)
            .value_parser(value_parser!(bool))
            .hide_possible_values(true),
        Kind::SwitchOrPath => optional(argument),
        Kind::Path => argument.value_parser(value_parser!(PathBuf)),
        Kind::Texts => argument
            .value_delimiter(',')
            .action(clap::ArgAction::Append),
        Kind::Text
        | Kind::OneOf(_)
        | Kind::TextOrTexts
        | Kind::WordOrNumbers(_)
        | Kind::Wholes
        | Kind::Numbers => argument,
    }
}

/// A flag whose value may be omitted, which means `true`.
fn optional(argument: Arg) -> Arg {
    argument
        .num_args(0..=1)
        .default_missing_value("true")
        .require_equals(true)
}

/// The help of a setting: its description without the full stop, preceded by the methods that have
/// it and followed by the words that it accepts.
fn help(setting: &Setting) -> String {
    let mut sentence = setting.key.help.trim_end_matches('.').to_string();
    if !setting.only.is_empty() {
        sentence = format!("{}: {}", setting.only.join(", "), first_down(&sentence));
    }
    let words = match setting.key.kind {
        Kind::Texts => return sentence + ", separated by commas",
        Kind::TextOrTexts => return sentence + "; names separated by commas",
        Kind::OneOf(words) => words.to_vec(),
        _ if setting.name() == "data.task" => ivon_lora::data::names(),
        _ => return sentence,
    };
    let said: Vec<&str> = sentence.split([' ', ',', ':', ';']).collect();
    if words.iter().all(|word| said.contains(word)) {
        return sentence;
    }
    if sentence.contains([':', ';']) {
        sentence + "; one of " + &words.join(", ")
    } else {
        sentence + ": " + &joined(&words, "or")
    }
}

/// The sentence with its first letter in lower case.
fn first_down(sentence: &str) -> String {
    let mut letters = sentence.chars();
    let first = letters.next().map(|letter| letter.to_ascii_lowercase());
    first.into_iter().chain(letters).collect()
}

/// The value of a flag, if it was typed.
fn value(kind: Kind, flag: &str, matches: &ArgMatches) -> Option<FlagValue> {
    let text = || matches.get_one::<String>(flag).map(String::as_str);
    let value = match kind {
        Kind::Whole => i64::try_from(*matches.get_one::<u64>(flag)?).ok()?.into(),
        Kind::Number => (*matches.get_one::<f64>(flag)?).into(),
        Kind::Switch => (*matches.get_one::<bool>(flag)?).into(),
        Kind::SwitchOrPath => switch_or_path(text()?),
        Kind::Path => return Some(FlagValue::Path(matches.get_one::<PathBuf>(flag)?.clone())),
        Kind::Text | Kind::OneOf(_) => text()?.into(),
        Kind::TextOrTexts => text_or_texts(text()?),
        Kind::WordOrNumbers(_) => text_or_numbers(text()?),
        Kind::Texts => {
            let words = matches.get_many::<String>(flag)?;
            Value::Array(words.map(|word| word.trim().into()).collect())
        }
        // No flag takes several numbers.
        Kind::Wholes | Kind::Numbers => return None,
    };
    Some(FlagValue::Toml(value))
}

/// `true` and `false` are switches; anything else is a file.
fn switch_or_path(text: &str) -> Value {
    text.parse::<bool>()
        .map_or_else(|_| text.into(), Value::from)
}

/// Plain names separated by commas are a list; anything else is a string, such as `all-linear` or a
/// regular expression.
fn text_or_texts(text: &str) -> Value {
    let is_name = |part: &str| {
        !part.is_empty()
            && part
                .chars()
                .all(|letter| letter.is_ascii_alphanumeric() || letter == '_' || letter == '.')
    };
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    if parts.iter().all(|part| is_name(part)) {
        return Value::Array(parts.into_iter().map(Value::from).collect());
    }
    text.into()
}

/// Numbers separated by commas are a list; anything else is a word.
fn text_or_numbers(text: &str) -> Value {
    let numbers = text.split(',').map(|part| part.trim().parse::<f64>());
    match numbers.collect::<Result<Vec<_>, _>>() {
        Ok(numbers) => Value::Array(numbers.into_iter().map(Value::from).collect()),
        Err(_) => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn help_of(table: &str, key: &str) -> String {
        help(find(table, key).unwrap())
    }

    #[test]
    fn a_help_is_the_sentence_of_the_row_with_its_methods_and_words() {
        assert_eq!(help_of("lora", "rank"), "The rank r of A and B");
        assert_eq!(
            help_of("optimizer", "mc_samples"),
            "ivon, evon: draws per step; each costs a forward and a backward pass"
        );
        assert_eq!(
            help_of("train", "schedule"),
            "How the learning rate changes after the warm-up: constant, linear or cosine"
        );
        assert!(help_of("data", "task").contains("arc_easy"));
    }

    #[test]
    fn every_flag_has_a_part_and_none_has_two() {
        let shown: usize = PARTS.iter().map(|part| part.flags().len()).sum();
        let flags = settings()
            .iter()
            .filter(|setting| setting.key.flag.is_some());
        assert_eq!(shown, flags.count());
    }
}

//! Converts clap's errors about flags into our messages and hints.

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::exit::CliError;

/// Converts an error of clap into one of ours; `None` for `--help` and `--version`, which are not
/// errors.
pub fn error(error: &clap::Error) -> Option<CliError> {
    if !error.use_stderr() {
        return None;
    }
    let argument = context(error, ContextKind::InvalidArg).unwrap_or_default();
    let name = flag(&argument);
    let (message, hint) = match error.kind() {
        ErrorKind::UnknownArgument => (
            format!("unknown argument `{argument}`"),
            suggestion(error).or_else(help),
        ),
        ErrorKind::InvalidSubcommand => {
            let command = context(error, ContextKind::InvalidSubcommand).unwrap_or_default();
            let hint = suggestion(error).or_else(help);
            (format!("unknown command `{command}`"), hint)
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => wrong_value(error, &argument),
        ErrorKind::MissingRequiredArgument => (format!("missing {argument}"), help()),
        ErrorKind::ArgumentConflict => conflict(error, name),
        ErrorKind::NoEquals => (
            format!("`{name}` takes its value after an equals sign"),
            help(),
        ),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            ("no command is given".into(), help())
        }
        _ => (first_line(error), help()),
    };
    Some(CliError::usage(message, hint))
}

/// A message and its hint.
type Advice = (String, Option<String>);

fn wrong_value(error: &clap::Error, argument: &str) -> Advice {
    let name = flag(argument);
    match context(error, ContextKind::InvalidValue) {
        None if error.kind() == ErrorKind::InvalidValue => {
            (format!("`{name}` needs a value"), help())
        }
        value => {
            let value = value.unwrap_or_default();
            let names = context(error, ContextKind::ValidValue);
            let expected = expected(argument, names.as_deref());
            let message = format!("`{name}` is `{value}`, expected {expected}");
            (message, suggestion(error))
        }
    }
}

fn conflict(error: &clap::Error, name: &str) -> Advice {
    let other = context(error, ContextKind::PriorArg).unwrap_or_default();
    let other = flag(&other);
    if name == other {
        return (format!("`{name}` is given more than once"), None);
    }
    (
        format!("`{name}` cannot be used with `{other}`"),
        Some("one takes the place of the other: leave one away".into()),
    )
}

fn help() -> Option<String> {
    Some("`ivon-lora --help` and `ivon-lora COMMAND --help` show what there is".into())
}

/// `did you mean …?`, if clap suggests a name.
fn suggestion(error: &clap::Error) -> Option<String> {
    let kinds = [
        ContextKind::SuggestedArg,
        ContextKind::SuggestedSubcommand,
        ContextKind::SuggestedValue,
    ];
    let names = kinds.into_iter().find_map(|kind| context(error, kind))?;
    let name = names.split(['`', ',']).find(|name| !name.is_empty())?;
    Some(format!("did you mean `{name}`?"))
}

/// What clap says of a kind, unless it is empty.
fn context(error: &clap::Error, kind: ContextKind) -> Option<String> {
    error.get(kind).map(text).filter(|text| !text.is_empty())
}

/// `--steps` of `--steps <N>`.
fn flag(argument: &str) -> &str {
    argument.split([' ', '=']).next().unwrap_or(argument)
}

/// What the placeholder of an argument stands for; `names` are the values that it has, where they have
/// names.
fn expected(argument: &str, names: Option<&str>) -> String {
    match argument
        .split_once('<')
        .map(|(_, rest)| rest.trim_end_matches(['>', ']']))
    {
        Some("N") => format!(
            "a whole number from 0 to {}",
            if argument.starts_with("--seed") {
                i64::MAX
            } else {
                i64::from(u32::MAX)
            }
        ),
        Some("X") => "a number".into(),
        Some("true|false") => "true or false".into(),
        Some("SHELL") => "one of bash, elvish, fish, powershell, zsh".into(),
        _ => names.map_or_else(|| "another value".into(), |names| format!("one of {names}")),
    }
}

fn text(value: &ContextValue) -> String {
    match value {
        ContextValue::String(text) => text.clone(),
        ContextValue::Strings(texts) => texts
            .iter()
            .map(|text| format!("`{text}`"))
            .collect::<Vec<_>>()
            .join(", "),
        ContextValue::StyledStr(text) => text.to_string(),
        _ => String::new(),
    }
}

fn first_line(error: &clap::Error) -> String {
    error
        .to_string()
        .lines()
        .next()
        .unwrap_or_default()
        .trim_start_matches("error: ")
        .to_string()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::args::Args;

    fn said(arguments: &str) -> String {
        let error =
            Args::try_parse_from(format!("ivon-lora {arguments}").split_whitespace()).unwrap_err();
        super::error(&error).unwrap().to_string()
    }

    #[test]
    fn flags_that_are_wrong_are_said_in_a_sentence() {
        let cases = [
            (
                "train --stepz 4",
                "error: unknown argument `--stepz`\n\nhint: did you mean `--steps`?",
            ),
            (
                "trian",
                "error: unknown command `trian`\n\nhint: did you mean `train`?",
            ),
            (
                "train --steps four",
                "error: `--steps` is `four`, expected a whole number from 0 to 4294967295",
            ),
            (
                "train --ess many",
                "error: `--ess` is `many`, expected a number",
            ),
            (
                "train --steps 1 --epochs 1",
                "error: `--steps` cannot be used with `--epochs`\n\nhint: one takes the place of the other: leave one away",
            ),
            (
                "train --seed 1 --seed 2",
                "error: `--seed` is given more than once",
            ),
        ];
        for (arguments, expected) in cases {
            assert_eq!(said(arguments), expected, "{arguments}");
        }
        assert!(
            said("evaluate --model m")
                .starts_with("error: missing `--adapter <FOLDER>`, `--data <PATH>`"),
            "{}",
            said("evaluate --model m")
        );
        assert!(
            said("").starts_with("error: no command is given"),
            "{}",
            said("")
        );
    }
}

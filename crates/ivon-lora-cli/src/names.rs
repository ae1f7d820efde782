//! Settings and commands as written on the command line.

use ivon_lora::sentence::{Names, Sentence};

/// `--learning-rate`, `--chat-template=FILE`, `ivon-lora inspect data`.
#[derive(Clone, Copy, Debug)]
pub struct Flags;

/// Flags whose value may be omitted, so that it must follow an equals sign.
const WITH_OPTIONAL_VALUE: [&str; 1] = ["chat-template"];

impl Names for Flags {
    fn setting(&self, name: &str, value: Option<&str>) -> String {
        let flag = name.replace('_', "-");
        match value {
            None => format!("--{flag}"),
            Some(value) if WITH_OPTIONAL_VALUE.contains(&flag.as_str()) => {
                format!("--{flag}={value}")
            }
            Some(value) => format!("--{flag} {value}"),
        }
    }

    fn command(&self, name: &str) -> String {
        ["ivon-lora", name].join(" ")
    }
}

/// A message of the library, written for users of the command line.
pub fn written(sentence: &Sentence) -> String {
    sentence.written(&Flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_flags_and_commands_are_of_this_program() {
        assert_eq!(Flags.setting("learning_rate", None), "--learning-rate");
        assert_eq!(
            Flags.setting("answers", Some("Negative,Positive")),
            "--answers Negative,Positive"
        );
        assert_eq!(
            Flags.setting("chat_template", Some("FILE")),
            "--chat-template=FILE"
        );
        assert_eq!(Flags.command("inspect data"), "ivon-lora inspect data");
    }
}

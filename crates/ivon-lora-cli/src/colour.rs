//! Colours the first word of a message, and tokens that are trained on, if the terminal supports it
//! and NO_COLOR does not forbid it.

use std::io::{self, IsTerminal};

use ivon_lora::data::Marks;

/// Whether to use colours on a stream.
fn wanted(stream: &impl IsTerminal) -> bool {
    let forbidden = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    stream.is_terminal() && !forbidden && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// How tokens that are trained on are set off on standard output: in green, or in brackets.
pub fn trained() -> Marks<'static> {
    if wanted(&io::stdout()) {
        Marks {
            before: "\u{1b}[32m",
            after: "\u{1b}[0m",
        }
    } else {
        Marks::BRACKETS
    }
}

fn painted(word: &str, code: &str) -> String {
    if wanted(&io::stderr()) {
        format!("\u{1b}[{code}m{word}\u{1b}[0m")
    } else {
        word.into()
    }
}

/// `warning:`
pub fn warning() -> String {
    painted("warning:", "1;33")
}

/// The text of an error with `error:` and `hint:` in colour.
pub fn error(text: &str) -> String {
    let text = text.replacen("error:", &painted("error:", "1;31"), 1);
    text.replacen("\nhint:", &format!("\n{}", painted("hint:", "1;36")), 1)
}

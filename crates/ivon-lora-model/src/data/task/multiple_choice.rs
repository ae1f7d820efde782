//! The prompts of questions with their own choices, letter by letter those of arXiv 2411.04421.

use serde_json::Value;

use super::prompt::Prompt;
use crate::data::error::DataError;
use crate::data::read::Row;

/// `Select one … {question} Choices: A. {a} B. {b} … Answer:`
pub(super) fn choice_prompt(question: &str, choices: &[String]) -> Prompt {
    let listed: Vec<String> = ('A'..='Z')
        .zip(choices)
        .map(|(letter, choice)| format!("{letter}. {}", sentence(choice)))
        .collect();
    Prompt::fixed(SELECT)
        .then_field(question)
        .then(format!(" Choices: {} Answer:", listed.join(" ")))
}

/// `Select one … {question} Choices: A. {a}. B {b}. Answer:`, the paper's wording for WinoGrande.
pub(super) fn gap_prompt(question: &str, choices: &[String]) -> Prompt {
    let option = |index: usize| choices.get(index).map_or("", String::as_str);
    Prompt::fixed(SELECT).then_field(question).then(format!(
        " Choices: A. {}. B {}. Answer:",
        option(0),
        option(1)
    ))
}

const SELECT: &str = "Select one of the choices that answers the following question: ";

/// A text with its first letter capitalised, and a full stop if it has none.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let mut sentence: String = letters
        .next()
        .map(|first| first.to_uppercase().collect())
        .unwrap_or_default();
    sentence.push_str(letters.as_str());
    if !text.ends_with('.') {
        sentence.push('.');
    }
    sentence
}

/// The texts of `choices`.
pub(super) fn choices_of(row: &Row) -> Result<Vec<String>, DataError> {
    let field = row.field("choices")?;
    let Value::Array(choices) = field else {
        return Err(row.wrong_type("choices", "a list", field));
    };
    let text = |choice: &Value| match choice {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        other => Err(row.wrong_type("choices", "a list of texts", other)),
    };
    choices.iter().map(text).collect()
}

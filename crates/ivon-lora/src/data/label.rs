//! What a label field says: which of the answers, or nothing.
//!
//! Published files write the same label as an index, a truth value, a word or a letter; CSV writes all of them
//! as text. One rule reads them all, and never guesses between two readings.

use serde_json::Value;

/// What was found in a label field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// The index of an answer.
    Index(usize),
    /// Nothing: no field, null or empty text.
    Absent,
    /// Something that is none of the answers.
    Outside,
}

/// Reads the label of a task with fixed answer words: the word itself, an index from 0, or a truth value.
///
/// A word counts before an index, in its own capitals first. Where an answer word is itself a number (stars
/// 1 to 5), labels are words only: an index could be mistaken for one.
pub(crate) fn among_words(value: Option<&Value>, words: &[String]) -> Reading {
    let numeric = words.iter().any(|word| whole_number(word).is_some());
    match value {
        None | Some(Value::Null) => Reading::Absent,
        Some(Value::String(text)) if text.trim().is_empty() => Reading::Absent,
        Some(Value::String(text)) => {
            let text = text.trim();
            let truth = || truth(text).filter(|_| words.len() == 2).map(usize::from);
            let index = || whole_number(text).filter(|_| !numeric);
            index_within(position(text, words).or_else(truth).or_else(index), words.len())
        }
        Some(Value::Bool(value)) => {
            let by_word = position(if *value { "true" } else { "false" }, words);
            index_within(by_word.or((words.len() == 2).then_some(usize::from(*value))), words.len())
        }
        Some(Value::Number(number)) => {
            let whole = whole_number(&number.to_string());
            let index = if numeric { whole.and_then(|whole| position(&whole.to_string(), words)) } else { whole };
            index_within(index, words.len())
        }
        Some(_) => Reading::Outside,
    }
}

/// Reads the label of a question with its own choices: an index from 0, a letter A, B, …, or a choice's text, in
/// this order.
pub(crate) fn among_choices(value: Option<&Value>, choices: &[String]) -> Reading {
    match value {
        None | Some(Value::Null) => Reading::Absent,
        Some(Value::String(text)) if text.trim().is_empty() => Reading::Absent,
        Some(Value::String(text)) => {
            let text = text.trim();
            let index = whole_number(text).filter(|index| *index < choices.len());
            let letter = || letter_index(text).filter(|index| *index < choices.len());
            index_within(index.or_else(letter).or_else(|| choices.iter().position(|choice| choice.trim() == text)), choices.len())
        }
        Some(Value::Number(number)) => index_within(whole_number(&number.to_string()), choices.len()),
        Some(_) => Reading::Outside,
    }
}

/// Whether a test file's label field says that the label is not public: nothing, or the hub's −1.
pub(crate) fn is_withheld(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => matches!(text.trim(), "" | "-1"),
        Some(Value::Number(number)) => number.as_f64() == Some(-1.0),
        Some(_) => false,
    }
}

/// A label as it is shown in an error, cut to a bearable length.
pub(crate) fn shown(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), String::from);
    if text.chars().count() > 60 { text.chars().take(59).chain(['…']).collect() } else { text }
}

/// The index of a letter: A or a is 0.
pub(crate) fn letter_index(text: &str) -> Option<usize> {
    match text.as_bytes() {
        [letter] if letter.is_ascii_alphabetic() => Some(usize::from(letter.to_ascii_uppercase() - b'A')),
        _ => None,
    }
}

fn index_within(index: Option<usize>, count: usize) -> Reading {
    index.filter(|index| *index < count).map_or(Reading::Outside, Reading::Index)
}

fn position(text: &str, words: &[String]) -> Option<usize> {
    let any_case = || {
        let lower = text.to_lowercase();
        let mut found = words.iter().enumerate().filter(|(_, word)| word.to_lowercase() == lower);
        found.next().filter(|_| found.next().is_none()).map(|(index, _)| index)
    };
    words.iter().position(|word| word == text).or_else(any_case)
}

fn truth(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// A whole number from 0; `1.0` counts, since a column with gaps becomes a column of floats on its way through a table.
fn whole_number(text: &str) -> Option<usize> {
    let text = text.strip_suffix(".0").unwrap_or(text);
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_index_a_word_or_a_truth_value_names_an_answer() {
        let answers = words(&["Negative", "Positive"]);
        for value in [json!(1), json!("1"), json!(1.0), json!("1.0"), json!("Positive"), json!("positive "), json!(true), json!("True")] {
            assert_eq!(among_words(Some(&value), &answers), Reading::Index(1), "{value}");
        }
        for value in [json!(2), json!(-1), json!(0.5), json!("Neutral"), json!([1]), json!(1e30), json!("99999999999999999999999")] {
            assert_eq!(among_words(Some(&value), &answers), Reading::Outside, "{value}");
        }
        for value in [None, Some(json!(null)), Some(json!(" "))] {
            assert_eq!(among_words(value.as_ref(), &answers), Reading::Absent);
        }
    }

    #[test]
    fn a_truth_value_means_the_word_that_says_so_whatever_its_place() {
        assert_eq!(among_words(Some(&json!(true)), &words(&["True", "False"])), Reading::Index(0));
        assert_eq!(among_words(Some(&json!(true)), &words(&["a", "b", "c"])), Reading::Outside);
    }

    #[test]
    fn where_answers_are_numbers_a_label_is_the_number_and_never_an_index() {
        let stars = words(&["1", "2", "3", "4", "5"]);
        assert_eq!(among_words(Some(&json!(5)), &stars), Reading::Index(4));
        assert_eq!(among_words(Some(&json!("1")), &stars), Reading::Index(0));
        assert_eq!(among_words(Some(&json!(0)), &stars), Reading::Outside);
    }

    #[test]
    fn a_question_s_label_is_an_index_a_letter_or_the_choice_itself() {
        let choices = words(&["4", "5", "6", "twenty"]);
        for (value, index) in [(json!(0), 0), (json!("2"), 2), (json!("b"), 1), (json!("D"), 3), (json!("twenty"), 3), (json!("5"), 1)] {
            assert_eq!(among_choices(Some(&value), &choices), Reading::Index(index), "{value}");
        }
        for value in [json!(4), json!("E"), json!(true)] {
            assert_eq!(among_choices(Some(&value), &choices), Reading::Outside, "{value}");
        }
    }
}

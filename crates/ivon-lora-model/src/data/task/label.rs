//! Reads a label field: which of the answers it is, or none.
//!
//! Published files write the same label as an index, a boolean, a word or a letter; CSV writes all
//! of them as text. One rule reads them all, and never guesses: a label that can be read in two
//! ways is refused, unless [`LabelReading`] decides. Words are compared in Unicode's NFC, so that é
//! is é however it was typed.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use unicode_normalization_alignments::UnicodeNormalization;

/// How to read labels that could be either indices or answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LabelReading {
    /// As indices from 0; false is 0 and true 1.
    Index,
    /// As the answer words, or the texts of the choices.
    Word,
}

/// The content of a label field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// The index of an answer.
    Index(usize),
    /// No label: no field, null, empty text, or the hub's −1.
    Absent,
    /// A value that is none of the answers.
    Outside,
    /// Two answers, each described together with its reading.
    Two(String, String),
}

/// Reads the label of a task with fixed answer words: the word itself, an index from 0, or a
/// boolean.
///
/// If every answer is a number (stars 1 to 5), labels are those numbers and never indices. A
/// boolean is the answer with its meaning (yes, true, positive, correct against no, false,
/// negative, incorrect), wherever it is in the list.
pub(crate) fn among_words(
    value: Option<&Value>,
    words: &[String],
    settled: Option<LabelReading>,
) -> Reading {
    let Some(label) = Label::of(value) else {
        return Reading::Outside;
    };
    let by_word = label.text().and_then(|text| position(&text, words));
    let by_index = label.index().filter(|index| *index < words.len());
    let numbers = words.iter().all(|word| whole_number(word).is_some());
    match (&label, settled) {
        (Label::Nothing, _) => Reading::Absent,
        (_, Some(LabelReading::Word)) => or_withheld(by_word, &label),
        (_, Some(LabelReading::Index)) => or_withheld(by_index, &label),
        (Label::Truth(truth), None) => by_truth(*truth, words),
        (Label::Text(text), None) if by_word.is_none() => match truth(text) {
            Some(truth) => by_truth(truth, words),
            None => or_withheld(by_index.filter(|_| !numbers), &label),
        },
        (_, None) if numbers => or_withheld(by_word, &label),
        (_, None) => either(
            [("the answer", by_word), ("index", by_index)],
            &label,
            words,
        ),
    }
}

/// Reads the label of a question with its own choices: a number is an index from 0; text may be an
/// index, a letter A, B, …, or the text of a choice.
pub(crate) fn among_choices(
    value: Option<&Value>,
    choices: &[String],
    settled: Option<LabelReading>,
) -> Reading {
    let Some(label) = Label::of(value) else {
        return Reading::Outside;
    };
    let count = choices.len();
    let by_index = label.index().filter(|index| *index < count);
    match (&label, settled) {
        (Label::Nothing, _) => Reading::Absent,
        (Label::Truth(_), None) => Reading::Outside,
        (_, Some(LabelReading::Index)) => or_withheld(by_index, &label),
        (_, Some(LabelReading::Word)) => or_withheld(
            label.text().and_then(|text| exactly(&text, choices)),
            &label,
        ),
        (Label::Number(_), None) => or_withheld(by_index, &label),
        (Label::Text(text), None) => {
            let by_letter = letter_index(text).filter(|index| *index < count);
            either(
                [
                    ("the choice", exactly(text, choices)),
                    ("index", by_index),
                    ("letter", by_letter),
                ],
                &label,
                choices,
            )
        }
    }
}

/// Whether a label field of a test file says that the label is not public: it is empty, or the
/// hub's −1, unless −1 is an answer.
pub(crate) fn is_withheld(value: Option<&Value>, words: &[String]) -> bool {
    match Label::of(value) {
        Some(Label::Nothing) => true,
        Some(label) => {
            label.is_minus_one()
                && label
                    .text()
                    .and_then(|text| position(&text, words))
                    .is_none()
        }
        None => false,
    }
}

/// A label for display in an error, truncated to a reasonable length.
pub(crate) fn shown(value: &Value) -> String {
    let text = value
        .as_str()
        .map_or_else(|| value.to_string(), String::from);
    if text.chars().count() > 60 {
        text.chars().take(59).chain(['…']).collect()
    } else {
        text
    }
}

/// The index of a letter: A or a is 0.
pub(crate) fn letter_index(text: &str) -> Option<usize> {
    match text.as_bytes() {
        [letter] if letter.is_ascii_alphabetic() => {
            Some(usize::from(letter.to_ascii_uppercase() - b'A'))
        }
        _ => None,
    }
}

/// A text in Unicode's composed form.
pub(crate) fn composed(text: &str) -> String {
    if text.is_ascii() {
        text.into()
    } else {
        text.nfc().map(|(letter, _)| letter).collect()
    }
}

/// The value of a label field.
enum Label {
    Nothing,
    Truth(bool),
    /// In its JSON form.
    Number(String),
    /// Without surrounding white space.
    Text(String),
}

impl Label {
    /// None for lists and objects.
    fn of(value: Option<&Value>) -> Option<Self> {
        Some(match value {
            None | Some(Value::Null) => Self::Nothing,
            Some(Value::Bool(truth)) => Self::Truth(*truth),
            Some(Value::Number(number)) => Self::Number(number.to_string()),
            Some(Value::String(text)) if text.trim().is_empty() => Self::Nothing,
            Some(Value::String(text)) => Self::Text(text.trim().into()),
            Some(_) => return None,
        })
    }

    /// The label in the form of an answer word; 1.0 is 1.
    fn text(&self) -> Option<String> {
        match self {
            Self::Nothing => None,
            Self::Truth(truth) => Some(truth.to_string()),
            Self::Number(number) => Some(whole(number).into()),
            Self::Text(text) => Some(text.clone()),
        }
    }

    fn index(&self) -> Option<usize> {
        match self {
            Self::Nothing => None,
            Self::Truth(truth) => Some(usize::from(*truth)),
            Self::Number(text) | Self::Text(text) => whole_number(text),
        }
    }

    fn is_minus_one(&self) -> bool {
        matches!(self, Self::Number(text) | Self::Text(text) if whole(text) == "-1")
    }
}

/// The answer found; else no label if the field says so; else none of the answers.
fn or_withheld(found: Option<usize>, label: &Label) -> Reading {
    match found {
        Some(index) => Reading::Index(index),
        None if label.is_minus_one() => Reading::Absent,
        None => Reading::Outside,
    }
}

/// The answer that all readings agree on.
fn either<const N: usize>(
    readings: [(&str, Option<usize>); N],
    label: &Label,
    answers: &[String],
) -> Reading {
    let mut found = readings
        .iter()
        .filter_map(|(how, index)| Some((*how, (*index)?)));
    let Some((how, index)) = found.next() else {
        return or_withheld(None, label);
    };
    let text = label.text().unwrap_or_default();
    let named = |how: &str, index: usize| match how {
        "the answer" | "the choice" => format!("{how} `{}`", answers[index]),
        _ => format!("{how} `{text}`, which is `{}`", answers[index]),
    };
    match found.find(|(_, other)| *other != index) {
        Some((other_how, other)) => Reading::Two(named(how, index), named(other_how, other)),
        None => Reading::Index(index),
    }
}

/// The answer with the meaning of a boolean; the word itself takes precedence.
fn by_truth(truth: bool, words: &[String]) -> Reading {
    const TRUE: [&str; 4] = ["true", "yes", "positive", "correct"];
    const FALSE: [&str; 4] = ["false", "no", "negative", "incorrect"];
    let of = |meaning: [&str; 4]| {
        let mut found = meaning.into_iter().filter_map(|word| position(word, words));
        found.next().filter(|_| found.next().is_none())
    };
    let (yes, no) = (
        position("true", words).or_else(|| of(TRUE)),
        position("false", words).or_else(|| of(FALSE)),
    );
    match if truth { yes } else { no } {
        Some(index) => Reading::Index(index),
        None if words.len() == 2 => {
            let (index, other) = if truth { (1, 0) } else { (0, 1) };
            let numbered = format!("index `{index}`, which is `{}`", words[index]);
            Reading::Two(
                numbered,
                format!("a truth value, which could be `{}`", words[other]),
            )
        }
        None => Reading::Outside,
    }
}

/// The index of a text among the words; an exact match takes precedence over one in another case.
fn position(text: &str, words: &[String]) -> Option<usize> {
    exactly(text, words).or_else(|| in_any_case(text, words))
}

/// The only word that is the text in another case.
fn in_any_case(text: &str, words: &[String]) -> Option<usize> {
    let lower = composed(text).to_lowercase();
    let mut matches = words
        .iter()
        .enumerate()
        .filter(|(_, word)| composed(word).to_lowercase() == lower);
    match (matches.next(), matches.next()) {
        (Some((index, _)), None) => Some(index),
        _ => None,
    }
}

fn exactly(text: &str, words: &[String]) -> Option<usize> {
    let text = composed(text);
    words.iter().position(|word| composed(word.trim()) == text)
}

fn truth(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// A number without a fraction of zeros: a column of integers with gaps becomes a column of floats
/// in many tools.
fn whole(text: &str) -> &str {
    match text.split_once('.') {
        Some((whole, zeros)) if !whole.is_empty() && zeros.bytes().all(|byte| byte == b'0') => {
            whole
        }
        _ => text,
    }
}

/// A whole number from 0; `1.0` and `1.00` are accepted.
fn whole_number(text: &str) -> Option<usize> {
    let text = whole(text);
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(ToString::to_string).collect()
    }

    fn word(value: Value, answers: &[&str]) -> Reading {
        among_words(Some(&value), &words(answers), None)
    }

    fn choice(value: Value, choices: &[&str]) -> Reading {
        among_choices(Some(&value), &words(choices), None)
    }

    #[test]
    fn an_index_a_word_or_a_truth_value_names_an_answer_however_it_is_written() {
        let answers = ["Negative", "Positive"];
        for value in [
            json!(1),
            json!("1"),
            json!(1.0),
            json!("1.0"),
            json!("1.00"),
            json!("Positive"),
            json!("positive "),
            json!(true),
            json!("True"),
        ] {
            assert_eq!(word(value.clone(), &answers), Reading::Index(1), "{value}");
        }
        for value in [
            json!(2),
            json!(-2),
            json!(0.5),
            json!("Neutral"),
            json!([1]),
            json!(1e30),
            json!("99999999999999999999999"),
        ] {
            assert_eq!(word(value.clone(), &answers), Reading::Outside, "{value}");
        }
        for value in [json!(null), json!(" "), json!(-1), json!("-1"), json!(-1.0)] {
            assert_eq!(word(value.clone(), &answers), Reading::Absent, "{value}");
        }
        assert_eq!(among_words(None, &words(&answers), None), Reading::Absent);
    }

    #[test]
    fn a_truth_value_means_the_answer_that_says_so_whatever_its_place() {
        for answers in [
            ["True", "False"],
            ["Yes", "No"],
            ["Positive", "Negative"],
            ["correct", "incorrect"],
        ] {
            for (value, index) in [
                (json!(true), 0),
                (json!(false), 1),
                (json!("TRUE"), 0),
                (json!("false"), 1),
            ] {
                assert_eq!(word(value, &answers), Reading::Index(index), "{answers:?}");
            }
        }
        assert_eq!(word(json!(true), &["a", "b", "c"]), Reading::Outside);
        let Reading::Two(first, second) = word(json!(true), &["spam", "ham"]) else {
            panic!("no two readings")
        };
        assert_eq!(
            (first.as_str(), second.as_str()),
            (
                "index `1`, which is `ham`",
                "a truth value, which could be `spam`"
            )
        );
        assert_eq!(
            among_words(
                Some(&json!(true)),
                &words(&["spam", "ham"]),
                Some(LabelReading::Index)
            ),
            Reading::Index(1)
        );
    }

    #[test]
    fn where_all_answers_are_numbers_a_label_is_the_number_and_never_an_index() {
        let stars = ["1", "2", "3", "4", "5"];
        for (value, expected) in [
            (json!(5), Reading::Index(4)),
            (json!("1"), Reading::Index(0)),
            (json!(2.0), Reading::Index(1)),
            (json!(0), Reading::Outside),
        ] {
            assert_eq!(word(value, &stars), expected);
        }
        assert_eq!(
            among_words(Some(&json!(0)), &words(&stars), Some(LabelReading::Index)),
            Reading::Index(0)
        );
        // A scale that includes −1 does not use it for missing labels.
        assert_eq!(word(json!(-1), &["-1", "0", "1"]), Reading::Index(0));
        assert!(
            !is_withheld(Some(&json!(-1)), &words(&["-1", "0", "1"]))
                && is_withheld(Some(&json!(-1.0)), &[])
        );
    }

    #[test]
    fn a_label_that_is_an_index_and_another_answer_too_is_read_only_where_that_is_settled() {
        let answers = ["none", "2", "many"];
        let Reading::Two(first, second) = word(json!(2), &answers) else {
            panic!("no two readings")
        };
        assert_eq!(
            (first.as_str(), second.as_str()),
            ("the answer `2`", "index `2`, which is `many`")
        );
        for (settled, index) in [(LabelReading::Word, 1), (LabelReading::Index, 2)] {
            assert_eq!(
                among_words(Some(&json!("2")), &words(&answers), Some(settled)),
                Reading::Index(index)
            );
        }
    }

    #[test]
    fn a_question_s_label_is_an_index_a_letter_or_the_choice_itself() {
        let choices = ["four", "5", "6", "twenty"];
        for (value, index) in [
            (json!(0), 0),
            (json!("2"), 2),
            (json!("b"), 1),
            (json!("D"), 3),
            (json!("twenty"), 3),
            (json!("5"), 1),
            (json!(1.0), 1),
        ] {
            assert_eq!(
                choice(value.clone(), &choices),
                Reading::Index(index),
                "{value}"
            );
        }
        for value in [json!(4), json!("E"), json!(true)] {
            assert_eq!(choice(value.clone(), &choices), Reading::Outside, "{value}");
        }
        // A number is an index, as the schema says, whatever the texts of the choices are.
        assert_eq!(choice(json!(1), &["3", "2", "1", "0"]), Reading::Index(1));
    }

    #[test]
    fn a_key_that_is_an_index_and_another_choice_s_text_is_read_only_where_that_is_settled() {
        let choices = ["3", "2", "1", "0"];
        let Reading::Two(first, second) = choice(json!("1"), &choices) else {
            panic!("no two readings")
        };
        assert_eq!(
            (first.as_str(), second.as_str()),
            ("the choice `1`", "index `1`, which is `2`")
        );
        for (settled, index) in [(LabelReading::Word, 2), (LabelReading::Index, 1)] {
            assert_eq!(
                among_choices(Some(&json!("1")), &words(&choices), Some(settled)),
                Reading::Index(index)
            );
        }
        // Both readings select the same choice.
        assert_eq!(choice(json!("1"), &["0", "1", "2"]), Reading::Index(1));
        assert!(matches!(choice(json!("A"), &["B", "A"]), Reading::Two(..)));
    }

    #[test]
    fn letters_with_marks_are_the_same_however_they_were_typed() {
        let (one, two) = ("caf\u{e9}", "cafe\u{301}");
        for (label, answer) in [(one, two), (two, one)] {
            assert_eq!(word(json!(label), &["tea", answer]), Reading::Index(1));
            assert_eq!(
                word(json!(label.to_uppercase()), &["tea", answer]),
                Reading::Index(1)
            );
            assert_eq!(choice(json!(label), &["tea", answer]), Reading::Index(1));
        }
    }
}

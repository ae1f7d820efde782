//! Converts rows of public data sets, as published by their authors, GLUE, SuperGLUE and the hub,
//! to one schema: `question` + `choices` + `answer` (0-based), `question` + `passage` + `answer`,
//! `premise` + `hypothesis` + `label`, `text` + `label`. A row already in the schema is not
//! changed.
//!
//! BoolQ's passage is used as published: SuperGLUE's starts with `Title -- `, the authors' have the
//! title in a separate field, which is not added.

use serde_json::{Value, json};

use super::label::{letter_index, shown};
use crate::data::error::DataError;
use crate::data::read::{Row, json_value};
use crate::words::listed;

/// ARC and OpenBookQA: a question object with `stem` and `choices`, or columns of labels and texts,
/// the answer as one of the labels (A to E, or 1 to 5) in `answerKey`; OpenBookQA's TSV with `(A) …
/// (B) …` in one column.
pub(super) fn choice_question(row: &mut Row) -> Result<(), DataError> {
    name_question(row);
    let (labels, texts) = row
        .fields
        .get("choices")
        .map_or_else(Default::default, columns);
    if texts.is_empty() {
        rename(row, "answerKey", "answer");
        return parse_list(row);
    }
    row.fields.insert("choices".into(), Value::Array(texts));
    if row.fields.contains_key("answer") {
        return Ok(());
    }
    let key = row.fields.get("answerKey").map(shown);
    let Some(key) = key.filter(|key| !key.trim().is_empty()) else {
        return Ok(());
    };
    let labels: Vec<String> = labels.iter().map(shown).collect();
    // Some copies of ARC have letters as answers and choices labelled 1 to 4, or vice versa.
    let place = labels.iter().position(|label| label == key.trim());
    let Some(index) = place.or_else(|| swapped(key.trim(), labels.len())) else {
        let allowed = format!("one of {}", listed(&labels));
        return Err(outside(row, "answerKey", &key, allowed));
    };
    row.fields.insert("answer".into(), json!(index));
    Ok(())
}

/// Renames question, choices and answer key as in the hub's ARC.
fn name_question(row: &mut Row) {
    if let Some(Value::Object(question)) = row.fields.get("question").cloned() {
        for (name, to) in [("stem", "question"), ("choices", "choices")] {
            if let Some(value) = question.get(name) {
                row.fields.insert(to.into(), value.clone());
            }
        }
    }
    for (from, to) in [
        ("question_stem", "question"),
        ("Question Stem", "question"),
        ("Choices", "choices"),
        ("Answer Key", "answerKey"),
        ("answer_key", "answerKey"),
    ] {
        rename(row, from, to);
    }
}

/// The labels and the texts of choices; empty if they are in another form.
fn columns(choices: &Value) -> (Vec<Value>, Vec<Value>) {
    match choices {
        Value::Array(choices) if choices.iter().any(Value::is_object) => {
            let column = |name: &str| {
                let of = |choice: &Value| choice.get(name).cloned();
                choices
                    .iter()
                    .map(|choice| of(choice).unwrap_or_default())
                    .collect()
            };
            (column("label"), column("text"))
        }
        Value::Object(choices) => {
            let list = |name: &str| choices.get(name).and_then(Value::as_array).cloned();
            let column = |name: &str| list(name).unwrap_or_default();
            (column("label"), column("text"))
        }
        Value::String(text) if text.trim_start().starts_with("(A)") => {
            let texts = lettered(text.trim());
            let label = |(letter, _)| json!(char::to_string(&letter));
            (('A'..='Z').zip(&texts).map(label).collect(), texts)
        }
        _ => Default::default(),
    }
}

/// Renames a field, unless the new name is taken.
pub(super) fn rename(row: &mut Row, from: &str, to: &str) {
    if !row.fields.contains_key(to)
        && let Some(value) = row.fields.remove(from)
    {
        row.fields.insert(to.into(), value);
    }
}

/// Parses choices in one column of a CSV file as a JSON list.
pub(super) fn parse_list(row: &mut Row) -> Result<(), DataError> {
    if let Some(Value::String(text)) = row.fields.get("choices") {
        match json_value(text) {
            Ok(list @ Value::Array(_)) => row.fields.insert("choices".into(), list),
            _ => {
                return Err(row.wrong_type(
                    "choices",
                    "a list, in a CSV file as `[\"one\", \"two\"]`",
                    &row.fields["choices"],
                ));
            }
        };
    }
    Ok(())
}

/// The texts of `(A) one (B) two (C) three (D) four`.
fn lettered(text: &str) -> Vec<Value> {
    let mut texts = Vec::new();
    let mut rest = text.strip_prefix("(A)").unwrap_or(text);
    for letter in b'B'..=b'Z' {
        match rest.split_once(&format!(" ({})", char::from(letter))) {
            Some((text, after)) => {
                texts.push(json!(text.trim()));
                rest = after;
            }
            None => break,
        }
    }
    texts.push(json!(rest.trim()));
    texts
}

/// The index of a letter or of a number from 1, among `count` choices.
fn swapped(key: &str, count: usize) -> Option<usize> {
    let number = || {
        key.parse::<usize>()
            .ok()
            .and_then(|number| number.checked_sub(1))
    };
    letter_index(key)
        .or_else(number)
        .filter(|index| *index < count)
}

/// The error for an answer that is none of those a published row may have.
pub(super) fn outside(row: &Row, field: &str, value: &str, allowed: String) -> DataError {
    DataError::LabelOutOfRange {
        at: row.place.clone(),
        field: field.into(),
        value: value.into(),
        allowed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::place::Place;

    fn brought(row: Value) -> Value {
        let mut row = Row::from_json(&row.to_string(), Place::new("f", 1)).unwrap();
        choice_question(&mut row).unwrap();
        Value::Object(row.fields)
    }

    #[test]
    fn arc_of_the_authors_and_of_the_hub_become_the_same_row() {
        let authors = json!({"id": "a", "question": {"stem": "Which?", "choices": [{"text": "x", "label": "1"}, {"text": "y", "label": "2"}]},
            "answerKey": "2"});
        let hub = json!({"id": "a", "question": "Which?", "choices": {"text": ["x", "y"], "label": ["A", "B"]}, "answerKey": "B"});
        for row in [authors, hub] {
            let row = brought(row);
            assert_eq!(
                (&row["question"], &row["choices"], &row["answer"]),
                (&json!("Which?"), &json!(["x", "y"]), &json!(1))
            );
        }
        let mut wrong = Row::from_json(
            r#"{"question": "", "choices": {"text": ["x", "y"], "label": ["A", "B"]}, "answerKey": "C"}"#,
            Place::new("f", 1),
        )
        .unwrap();
        let message = choice_question(&mut wrong).unwrap_err().to_string();
        assert!(
            message.ends_with(
                "label `C` in field `answerKey` is out of range, expected one of `A`, `B`"
            ),
            "{message}"
        );
    }

    #[test]
    fn openbookqa_as_jsonl_and_as_tsv_become_the_same_row() {
        let stems = json!({"id": "7", "question_stem": "Predators eat", "choices": {"text": ["lions", "humans", "bunnies", "grass"],
            "label": ["A", "B", "C", "D"]}, "answerKey": "C"});
        let tsv = json!({"ID": "7", "Question Stem": "Predators eat", "Choices": "(A) lions (B) humans (C) bunnies (D) grass",
            "Complete Question": "…", "Answer Key": "C"});
        for row in [stems, tsv] {
            let row = brought(row);
            assert_eq!(
                row["choices"],
                json!(["lions", "humans", "bunnies", "grass"])
            );
            assert_eq!(
                (&row["question"], &row["answer"]),
                (&json!("Predators eat"), &json!(2))
            );
        }
    }

    #[test]
    fn choices_of_a_csv_file_are_a_json_list() {
        let row = brought(json!({"question": "q", "choices": "[\"x\", \"y\"]", "answer": "1"}));
        assert_eq!(row["choices"], json!(["x", "y"]));
        let mut wrong = Row::from_json(
            r#"{"question": "q", "choices": "x, y", "answer": "1"}"#,
            Place::new("f", 1),
        )
        .unwrap();
        assert!(
            choice_question(&mut wrong)
                .unwrap_err()
                .to_string()
                .contains("is text, expected a list")
        );
    }
}

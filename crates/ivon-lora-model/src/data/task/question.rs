//! Rows to be answered: one question for each row of a file. A row that cannot be asked keeps its
//! position, with the reason.

use std::fmt;

use serde_json::{Map, Value};

use super::example::{DropReason, Example};
use super::ids::{id_at, id_of};
use super::reader::{RowOutcome, TaskReader};
use crate::data::error::DataError;
use crate::data::read::Row;

/// A row to be answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// The row's id, made of its place if the row cannot be read.
    pub id: String,
    /// What the task asks, or why it does not ask.
    pub asked: Result<Example, Refusal>,
    /// The columns copied to the answer.
    pub carried: Map<String, Value>,
}

/// Why a row is not asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The task drops it.
    LeftOut(DropReason),
    /// It cannot be read as a row of the task: one sentence that names its place.
    Unreadable(String),
}

impl Refusal {
    /// The reason under which it is counted.
    pub fn reason(&self) -> DropReason {
        match self {
            Self::LeftOut(reason) => reason.clone(),
            Self::Unreadable(_) => DropReason::Unreadable,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LeftOut(reason) => reason.fmt(formatter),
            Self::Unreadable(sentence) => formatter.write_str(sentence),
        }
    }
}

impl Question {
    /// A question without a row.
    pub fn of(example: Example) -> Self {
        Self {
            id: example.id.clone(),
            asked: Ok(example),
            carried: Map::new(),
        }
    }
}

/// A row of a file, or what is wrong with it.
type RowResult = Result<Row, DataError>;

/// Reads at most `limit` rows of a file as questions; `name` is its name. A label that cannot be
/// read counts as missing. The columns in `carry` are copied, null if a row lacks one.
///
/// # Errors
/// Those that concern the file as a whole; [`DataError::NoRowHas`] if no row has a column of
/// `carry`.
pub fn questions(
    name: &str,
    rows: &mut dyn Iterator<Item = RowResult>,
    reader: &TaskReader,
    carry: &[String],
    limit: usize,
) -> Result<Vec<Question>, DataError> {
    let mut questions = Vec::new();
    let mut seen = vec![false; carry.len()];
    for row in rows.take(limit) {
        questions.push(match row {
            Ok(row) => question(row, reader, carry, &mut seen),
            Err(error) if error.is_of_a_row() => unreadable(&error, carry),
            Err(error) => return Err(error),
        });
    }
    match carry.iter().zip(&seen).find(|(_, seen)| !**seen) {
        Some((field, _)) if !questions.is_empty() => Err(DataError::NoRowHas {
            file: name.to_string(),
            field: field.clone(),
        }),
        _ => Ok(questions),
    }
}

fn question(row: Row, reader: &TaskReader, carry: &[String], seen: &mut [bool]) -> Question {
    let mut carried = Map::new();
    for (name, seen) in carry.iter().zip(seen) {
        let value = row.fields.get(name);
        *seen |= value.is_some();
        carried.insert(name.clone(), value.cloned().unwrap_or_default());
    }
    let id = reader.id(&row).unwrap_or_else(|_| id_of(&row));
    let asked = match reader.question(row) {
        Ok(RowOutcome::Example(example)) => Ok(example),
        Ok(RowOutcome::Dropped { reason, .. }) => Err(Refusal::LeftOut(reason)),
        Err(error) => Err(Refusal::Unreadable(error.to_string())),
    };
    Question { id, asked, carried }
}

/// The question of a row that cannot be read.
fn unreadable(error: &DataError, carry: &[String]) -> Question {
    Question {
        id: error.place().map(id_at).unwrap_or_default(),
        asked: Err(Refusal::Unreadable(error.to_string())),
        carried: carry
            .iter()
            .map(|name| (name.clone(), Value::Null))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Format, Rows, Task};
    use std::io::Cursor;

    fn asked(text: &str, task: &Task, carry: &[&str]) -> Result<Vec<Question>, DataError> {
        let format = if text.starts_with('{') {
            Format::Jsonl
        } else {
            Format::Csv
        };
        let mut rows = Rows::from_reader(
            "new".into(),
            format,
            Box::new(Cursor::new(text.to_string())),
        )?;
        let carry: Vec<String> = carry.iter().map(ToString::to_string).collect();
        questions(
            "new",
            &mut rows,
            &task.reader().unwrap(),
            &carry,
            usize::MAX,
        )
    }

    fn shown(questions: &[Question]) -> Vec<String> {
        let asked = |question: &Question| match &question.asked {
            Ok(example) => format!("{} {:?}", example.prompt.text(), example.label),
            Err(refusal) => refusal.to_string(),
        };
        questions
            .iter()
            .map(|question| format!("{}: {}", question.id, asked(question)))
            .collect()
    }

    #[test]
    fn every_row_has_its_question_in_order_whatever_is_wrong_with_it() {
        let task = Task::custom("{text}:", vec!["no".into(), "yes".into()], "label").unwrap();
        let text = "{\"id\": \"a\", \"text\": \"x\", \"label\": \"perhaps\"}\nbroken\n{\"id\": \"c\"}\n{\"id\": \"d\", \"text\": null}\n\
                    {\"text\": \"y\", \"label\": -1}\n{\"id\": \"f\", \"text\": \"z\", \"label\": \"YES\"}\n";
        let expected = [
            "a: x: None",
            "new-2: `new` line 2 is malformed: expected value at column 1",
            "c: `new` line 3 has no field `text`, found `id`",
            "d: `new` line 4: field `text` is null, expected a value",
            "new-5: y: None",
            "f: z: Some(1)",
        ];
        assert_eq!(shown(&asked(text, &task, &[]).unwrap()), expected);
    }

    #[test]
    fn questions_that_the_task_does_not_ask_and_unreadable_keys_keep_their_place() {
        let task = Task::named("arc_easy").unwrap();
        let row = |choices: &str, rest: &str| {
            format!("{{\"question\": \"q\", \"choices\": [{choices}]{rest}}}\n")
        };
        let four = "\"1\", \"0\", \"c\", \"d\"";
        let text = row(four, ", \"answer\": \"1\"")
            + &row("\"a\", \"b\", \"c\"", "")
            + &row(four, ", \"answer\": 9");
        let found = asked(&text, &task, &[]).unwrap();
        assert_eq!(
            found
                .iter()
                .map(|question| question.asked.is_ok())
                .collect::<Vec<_>>(),
            [true, false, true]
        );
        assert_eq!(
            found[1].asked.as_ref().unwrap_err().to_string(),
            "3 choices where the task keeps 4"
        );
        assert!(
            found
                .iter()
                .filter_map(|question| question.asked.as_ref().ok())
                .all(|example| example.label.is_none())
        );
        let hub = "{\"question\": \"q\", \"choices\": {\"text\": [\"a\", \"b\", \"c\", \"d\"], \"label\": [\"A\", \"B\", \"C\", \"D\"]}, \"answerKey\": \"?\"}";
        assert!(asked(hub, &task, &[]).unwrap()[0].asked.is_ok());
    }

    #[test]
    fn columns_go_along_and_one_that_no_row_has_is_an_error() {
        let task = Task::custom("{text}:", vec!["no".into(), "yes".into()], "label").unwrap();
        let found = asked("text,author\nx,Ann\ny\nz,Bo\n", &task, &["author"]).unwrap();
        let authors: Vec<&Value> = found
            .iter()
            .map(|question| &question.carried["author"])
            .collect();
        assert_eq!(
            authors,
            [&Value::from("Ann"), &Value::Null, &Value::from("Bo")]
        );
        let message = asked("text,author\nx,Ann\n", &task, &["autor"])
            .unwrap_err()
            .to_string();
        assert_eq!(message, "no row of `new` has a field `autor`");
    }

    #[test]
    fn an_id_comes_from_the_field_that_is_named_and_a_row_without_one_is_said() {
        let task = Task::custom("{text}:", vec!["no".into(), "yes".into()], "label").unwrap();
        let text = "{\"text\": \"x\", \"key\": 17, \"id\": \"other\"}\n{\"text\": \"y\", \"id\": \"other\"}\n";
        let mut rows =
            Rows::from_reader("new".into(), Format::Jsonl, Box::new(Cursor::new(text))).unwrap();
        let reader = task.reader().unwrap().with_id_field(Some("key"));
        let found = shown(&questions("new", &mut rows, &reader, &[], 9).unwrap());
        assert_eq!(
            found,
            [
                "17: x: None",
                "other: `new` line 2 has no field `key`, found `text`, `id`"
            ]
        );
    }
}

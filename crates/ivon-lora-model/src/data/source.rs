//! The examples of one split or one file, with what became of its other rows.

use std::path::Path;

use serde_json::{Map, Value};

use super::account::Drops;
use super::error::DataError;
use super::read::{Continue, Row, for_each_row};
use super::task::Example;
use super::task::{ID_FIELDS, RowOutcome, Task, TaskReader};

/// The examples of one split, with what was left out.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// The examples, in the order of the file.
    pub examples: Vec<Example>,
    /// Rows that the task does not ask.
    pub dropped: Drops,
    /// Whether no row has a public label.
    pub unlabelled: bool,
    /// How many rows were read.
    pub rows: usize,
    /// What is worth knowing of how they were read, a sentence each.
    pub notes: Vec<String>,
}

/// Every example of one file, whatever role its name has; rows without a label are kept.
///
/// # Errors
/// As [`load`](super::load), of this file.
pub fn load_file(path: &Path, task: &Task) -> Result<Source, DataError> {
    load_file_by(path, &task.reader()?)
}

/// As [`load_file`], with the reader of a task.
///
/// # Errors
/// As [`load_file`].
pub fn load_file_by(path: &Path, reader: &TaskReader) -> Result<Source, DataError> {
    read_file(path, reader, Ok)
}

/// Every row of one file of another kind, with the fields of the task filled from its columns:
/// pairs of field and column. All other columns stay out, labels among them, for what they answer
/// is another question.
///
/// # Errors
/// As [`load_file`], and if a row has no such column.
pub fn load_file_filled(
    path: &Path,
    reader: &TaskReader,
    fields: &[(String, String)],
) -> Result<Source, DataError> {
    read_file(path, reader, |row| filled(row, fields))
}

fn read_file(
    path: &Path,
    reader: &TaskReader,
    change: impl Fn(Row) -> Result<Row, DataError>,
) -> Result<Source, DataError> {
    let mut source = Source::default();
    let notes = for_each_row(path, &mut |row| {
        source.add(reader, change(row)?, None)?;
        Ok(Continue::Yes)
    })?;
    source.notes.extend(notes);
    Ok(source)
}

/// A row that has these fields and its id.
fn filled(row: Row, fields: &[(String, String)]) -> Result<Row, DataError> {
    let mut found: serde_json::Map<_, _> = ID_FIELDS
        .iter()
        .filter_map(|name| Some((name.to_string(), row.fields.get(*name)?.clone())))
        .collect();
    for (field, column) in fields {
        found.insert(field.clone(), row.field(column)?.clone());
    }
    Ok(Row {
        fields: found,
        place: row.place,
    })
}

impl Source {
    /// The examples of rows in memory, the fields of each by name; `name` stands for them in
    /// messages and ids.
    ///
    /// # Errors
    /// As [`TaskReader::example`], of the first row that fails.
    pub fn of_rows(
        name: &str,
        rows: Vec<Map<String, Value>>,
        reader: &TaskReader,
    ) -> Result<Self, DataError> {
        let mut source = Self::default();
        for row in Row::in_memory(name, rows) {
            source.add(reader, row, None)?;
        }
        Ok(source)
    }

    /// Adds a row, or what was wrong with it.
    ///
    /// # Errors
    /// As [`TaskReader::example`].
    pub fn add(
        &mut self,
        reader: &TaskReader,
        row: Row,
        group_field: Option<&str>,
    ) -> Result<(), DataError> {
        self.rows += 1;
        match reader.example(row, group_field)? {
            RowOutcome::Example(example) => self.examples.push(example),
            RowOutcome::Dropped { id, reason } => self.dropped.add(reason, &id),
        }
        Ok(())
    }

    /// Takes the rows of another part of the same set.
    pub fn extend(&mut self, other: Self) {
        self.examples.extend(other.examples);
        self.dropped.merge(&other.dropped);
        self.rows += other.rows;
        self.notes.extend(other.notes);
    }

    /// What the user should know of its rows: how they were read, and which are left out; `set`
    /// names them.
    pub fn account(&self, set: &str) -> Vec<String> {
        let mut said = self.notes.clone();
        said.extend(self.dropped.sentences(set, self.rows));
        said
    }
}

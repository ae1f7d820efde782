//! The examples of one split or one file, with an account of its other rows.

use std::path::Path;

use serde_json::{Map, Value};

use super::account::Drops;
use super::error::DataError;
use super::read::{Continue, Row, for_each_row};
use super::task::Example;
use super::task::{ID_FIELDS, RowOutcome, Task, TaskReader};

/// The examples of one split, and the dropped rows.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// The examples, in the order of the file.
    pub examples: Vec<Example>,
    /// The dropped rows, by reason.
    pub dropped: Drops,
    /// Whether no row has a public label.
    pub unlabelled: bool,
    /// How many rows were read.
    pub rows: usize,
    /// Notes about how they were read, a sentence each.
    pub notes: Vec<String>,
}

/// Every example of one file, whatever its name; rows without a label are kept.
///
/// # Errors
/// As [`load`](super::load), for this file.
pub fn load_file(path: &Path, task: &Task) -> Result<Source, DataError> {
    load_file_by(path, &task.reader()?)
}

/// [`load_file`] with the reader of a task.
///
/// # Errors
/// As [`load_file`].
pub fn load_file_by(path: &Path, reader: &TaskReader) -> Result<Source, DataError> {
    read_file(path, reader, Ok)
}

/// The rows of a file of another task, with the fields of this task filled from its columns: pairs
/// of field and column. All other columns are ignored, including labels, which answer another
/// question.
///
/// # Errors
/// As [`load_file`], and if a row lacks a column.
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

/// A row with just these fields and its id.
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
    /// The examples of rows in memory, each with its fields by name; `name` identifies them in
    /// messages and ids.
    ///
    /// # Errors
    /// As [`TaskReader::example`], that of the first row that fails.
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

    /// Adds a row; `Err` is the error of reading it.
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

    /// Adds the rows of another part of the same split.
    pub fn extend(&mut self, other: Self) {
        self.examples.extend(other.examples);
        self.dropped.merge(&other.dropped);
        self.rows += other.rows;
        self.notes.extend(other.notes);
    }

    /// Sentences for the user about its rows: how they were read, and which were dropped; `set` is
    /// their name.
    pub fn account(&self, set: &str) -> Vec<String> {
        let mut said = self.notes.clone();
        said.extend(self.dropped.sentences(set, self.rows));
        said
    }
}

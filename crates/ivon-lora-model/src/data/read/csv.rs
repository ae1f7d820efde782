//! Rows of CSV and TSV: the header names the fields of every record.
//!
//! As pandas writes them, an empty field without quotes is null and one in quotes is an empty
//! string.

use std::io::{self, Read};
use std::sync::Arc;

use serde_json::Value;

use super::dialect::Dialect;
use super::row::Row;
use super::splitter::{Splitter, malformed};
use super::text::Text;
use crate::data::error::DataError;
use crate::data::place::Place;

/// The records of a stream.
pub(crate) struct Records {
    splitter: Splitter<io::Chain<io::Cursor<Vec<u8>>, Text>>,
    name: Arc<str>,
    header: Vec<String>,
    /// How many records have a field of several lines, and the longest such field: its first line,
    /// its number of lines.
    spanning: (usize, usize, usize),
}

impl Records {
    /// Reads the header. `sample` is the start of the file, already read, of which the first
    /// `skipped` bytes are not part of the table.
    ///
    /// # Errors
    /// If the header cannot be read, or names a field twice.
    pub(crate) fn new(
        text: Text,
        sample: Vec<u8>,
        skipped: usize,
        dialect: Dialect,
        name: Arc<str>,
    ) -> Result<Self, DataError> {
        // The end of the line `sep=;` is still to be read; it counts as an empty line.
        let lines = sample
            .iter()
            .take(skipped)
            .filter(|byte| **byte == b'\n')
            .count();
        let mut sample = io::Cursor::new(sample);
        sample.set_position(skipped as u64);
        let mut splitter = Splitter::new(sample.chain(text), dialect);
        splitter.skip_lines(lines);
        let header = match splitter.next_record() {
            Ok(Some(line)) => match splitter.fields() {
                Ok(fields) => header(&fields, &name, line)?,
                Err(reason) => return Err(malformed(&name, line, reason)),
            },
            Ok(None) => Vec::new(),
            Err(wrong) => return Err(wrong.into_error(&name)),
        };
        Ok(Self {
            splitter,
            name,
            header,
            spanning: (0, 0, 0),
        })
    }

    /// A note about the records read so far, if there is something to know.
    pub(crate) fn note(&self) -> Option<String> {
        let (records, line, lines) = self.spanning;
        let they = if records == 1 {
            "1 row has".into()
        } else {
            format!("{records} rows have")
        };
        (records > 0).then(|| {
            format!("`{}`: {they} a quoted field that goes over several lines, the longest over {lines} lines from line {line}", self.name)
        })
    }

    /// The next record as a row.
    pub(crate) fn next_row(&mut self) -> Option<Result<Row, DataError>> {
        let line = match self.splitter.next_record() {
            Ok(Some(line)) => line,
            Ok(None) => return None,
            Err(wrong) => return Some(Err(wrong.into_error(&self.name))),
        };
        let lines = self.splitter.lines_of_longest_field();
        if lines > 1 {
            let (records, at, longest) = self.spanning;
            self.spanning = if lines > longest {
                (records + 1, line, lines)
            } else {
                (records + 1, at, longest)
            };
        }
        Some(
            self.row(line)
                .map_err(|reason| malformed(&self.name, line, reason)),
        )
    }

    fn row(&self, line: usize) -> Result<Row, String> {
        let fields = self.splitter.fields()?;
        if fields.len() != self.header.len() {
            return Err(format!(
                "it has {} columns, expected {} as in the header",
                fields.len(),
                self.header.len()
            ));
        }
        let value = |(text, in_quotes): (&str, &bool)| {
            if text.is_empty() && !in_quotes {
                Value::Null
            } else {
                Value::from(text)
            }
        };
        let values = fields.into_iter().zip(self.splitter.in_quotes()).map(value);
        let fields = self.header.iter().cloned().zip(values).collect();
        Ok(Row {
            fields,
            place: Place::new(self.name.clone(), line),
        })
    }
}

/// The names of the columns. A column without a name is named after its position, as in pandas.
fn header(fields: &[&str], name: &Arc<str>, line: usize) -> Result<Vec<String>, DataError> {
    let mut names: Vec<String> = Vec::with_capacity(fields.len());
    let mut places = std::collections::HashMap::new();
    for (index, field) in fields.iter().enumerate() {
        let field = field.trim();
        let field = if field.is_empty() {
            format!("Unnamed: {index}")
        } else {
            field.to_string()
        };
        if let Some(first) = places.insert(field.clone(), index) {
            let reason = format!(
                "the columns {} and {} are both named `{field}`, expected each name once",
                first + 1,
                index + 1
            );
            return Err(malformed(name, line, reason));
        }
        names.push(field);
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_that_is_named_twice_is_refused_and_one_without_a_name_gets_one() {
        let named = |fields: &[&str]| header(fields, &"f".into(), 1);
        let message = named(&["label", "text", " label"]).unwrap_err().to_string();
        let expected = "`f` line 1 is malformed: the columns 1 and 3 are both named `label`, expected each name once";
        assert_eq!(message, expected);
        assert_eq!(
            named(&["", "text", ""]).unwrap(),
            ["Unnamed: 0", "text", "Unnamed: 2"]
        );
    }
}

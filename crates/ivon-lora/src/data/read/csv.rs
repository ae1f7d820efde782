//! Records of CSV and TSV, as RFC 4180 has them: quotes, doubled quotes, line ends inside quotes;
//! the header names the fields.
//!
//! An empty field without quotes is null, one in quotes is an empty text: so pandas writes them.
//!
//! The reader is our own, since the `csv` crate tells neither where a quote was opened that is
//! never closed nor the line of a record behind a CRLF; what it reads is compared with that crate
//! in a test.

use std::io::{self, BufRead, Read};
use std::sync::Arc;

use serde_json::Value;

use super::dialect::{Dialect, MOST_COLUMNS};
use super::row::Row;
use super::text::Text;
use super::{LONGEST_LINE, io_error};
use crate::data::error::{DataError, Place};

/// The records of a stream, one after the other.
pub(crate) struct Records {
    splitter: Splitter<io::Chain<io::Cursor<Vec<u8>>, Text>>,
    name: Arc<str>,
    header: Vec<String>,
    /// How many records have a field over several lines, and the longest of them: its first line,
    /// its number of lines.
    spanning: (usize, usize, usize),
}

impl Records {
    /// Reads the header. `sample` is the beginning that was read already, of which `skipped` bytes
    /// are no row.
    ///
    /// # Errors
    /// If it cannot be read, or names a field twice.
    pub(crate) fn new(
        text: Text,
        sample: Vec<u8>,
        skipped: usize,
        dialect: Dialect,
        name: Arc<str>,
    ) -> Result<Self, DataError> {
        // The end of the line `sep=;` is still to come, as that of an empty one.
        let lines = sample
            .iter()
            .take(skipped)
            .filter(|byte| **byte == b'\n')
            .count();
        let mut sample = io::Cursor::new(sample);
        sample.set_position(skipped as u64);
        let mut splitter = Splitter::new(sample.chain(text), dialect);
        splitter.line += lines;
        let header = match splitter.next_record() {
            Ok(Some(line)) => header(
                &splitter
                    .fields()
                    .map_err(|reason| malformed(&name, line, reason))?,
                &name,
                line,
            )?,
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

    /// What is worth knowing of the records that were read.
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
        let lines = self.splitter.lines_of_longest_field;
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
        let values = fields.into_iter().zip(&self.splitter.in_quotes).map(value);
        let fields = self.header.iter().cloned().zip(values).collect();
        Ok(Row {
            fields,
            place: Place::new(self.name.clone(), line),
        })
    }
}

fn malformed(name: &Arc<str>, line: usize, reason: String) -> DataError {
    DataError::MalformedLine {
        at: Place::new(name.clone(), line),
        reason,
    }
}

/// The names of the columns. One without a name gets that of its place, as pandas has it.
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

/// Where a byte stands in its field.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stand {
    /// Before the first byte.
    Start,
    /// Outside quotes.
    Plain,
    /// Inside quotes.
    Quoted,
    /// After a quote inside quotes: the first of two, or the closing one.
    Closing,
}

/// What is wrong with a record.
#[derive(Debug)]
pub(super) enum Wrong {
    Read(io::Error),
    /// A quote was opened at this line; the file ended, or the record became too long, before it
    /// was closed.
    Unclosed(usize),
    TooLong(usize),
    TooManyColumns(usize),
}

impl Wrong {
    fn into_error(self, name: &Arc<str>) -> DataError {
        match self {
            Self::Read(source) => io_error(name, source),
            Self::Unclosed(line) => DataError::UnclosedQuote {
                at: Place::new(name.clone(), line),
            },
            Self::TooLong(line) => DataError::LineTooLong {
                at: Place::new(name.clone(), line),
                limit: LONGEST_LINE,
            },
            Self::TooManyColumns(line) => malformed(
                name,
                line,
                format!("it has more than {MOST_COLUMNS} columns"),
            ),
        }
    }
}

/// Bytes → the fields of one record at a time.
pub(super) struct Splitter<R> {
    input: R,
    dialect: Dialect,
    /// The line of the next byte, from 1.
    line: usize,
    after_return: bool,
    /// The fields of the record, one behind the other, and where each ends.
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// Whether each field stands in quotes.
    in_quotes: Vec<bool>,
    pub(super) lines_of_longest_field: usize,
}

impl<R: BufRead> Splitter<R> {
    pub(super) fn new(input: R, dialect: Dialect) -> Self {
        let line = 1;
        Self {
            input,
            dialect,
            line,
            after_return: false,
            bytes: Vec::new(),
            ends: Vec::new(),
            in_quotes: Vec::new(),
            lines_of_longest_field: 1,
        }
    }

    /// Reads the next record and gives its first line; none at the end. Empty lines are passed
    /// over.
    pub(super) fn next_record(&mut self) -> Result<Option<usize>, Wrong> {
        self.bytes.clear();
        self.ends.clear();
        self.in_quotes.clear();
        let mut quoted_field = false;
        self.lines_of_longest_field = 1;
        let (mut stand, mut begun, mut opened) = (Stand::Start, None, 0);
        loop {
            let buffer = self.input.fill_buf().map_err(Wrong::Read)?;
            if buffer.is_empty() {
                return match (stand, begun) {
                    (Stand::Quoted, _) => Err(Wrong::Unclosed(opened)),
                    (_, Some(line)) => self.end(line, quoted_field).map(Some),
                    (_, None) => Ok(None),
                };
            }
            let mut ended = None;
            let mut used = 0;
            for &byte in buffer {
                used += 1;
                let (line, ends_line) = (self.line, byte == b'\n' || byte == b'\r');
                let second_half = byte == b'\n' && self.after_return;
                self.line += usize::from(ends_line && !second_half);
                self.after_return = byte == b'\r';
                if stand != Stand::Quoted && ends_line {
                    // The second half of a CRLF, and an empty line, begin no record.
                    match begun {
                        Some(first) => {
                            ended = Some(first);
                            break;
                        }
                        None => continue,
                    }
                }
                begun.get_or_insert(line);
                let delimits = byte == self.dialect.delimiter;
                let quotes = byte == b'"' && self.dialect.quoted;
                stand = match stand {
                    Stand::Start if quotes => {
                        opened = line;
                        quoted_field = true;
                        Stand::Quoted
                    }
                    Stand::Quoted if quotes => {
                        self.lines_of_longest_field =
                            self.lines_of_longest_field.max(line - opened + 1);
                        Stand::Closing
                    }
                    Stand::Closing if quotes => push(&mut self.bytes, byte, Stand::Quoted),
                    Stand::Quoted => push(&mut self.bytes, byte, Stand::Quoted),
                    _ if delimits => {
                        self.ends.push(self.bytes.len());
                        self.in_quotes.push(std::mem::take(&mut quoted_field));
                        Stand::Start
                    }
                    _ => push(&mut self.bytes, byte, Stand::Plain),
                };
                // What is over the limits is read to its end and not kept.
                self.bytes.truncate(LONGEST_LINE + 1);
                self.ends.truncate(MOST_COLUMNS + 1);
                self.in_quotes.truncate(MOST_COLUMNS + 1);
                if self.bytes.len() > LONGEST_LINE && stand == Stand::Quoted {
                    break;
                }
            }
            self.input.consume(used);
            if let Some(first) = ended {
                return self.end(first, quoted_field).map(Some);
            }
            if self.bytes.len() > LONGEST_LINE && stand == Stand::Quoted {
                return Err(Wrong::Unclosed(opened));
            }
        }
    }

    fn end(&mut self, line: usize, in_quotes: bool) -> Result<usize, Wrong> {
        self.ends.push(self.bytes.len());
        self.in_quotes.push(in_quotes);
        if self.bytes.len() > LONGEST_LINE {
            return Err(Wrong::TooLong(line));
        }
        if self.ends.len() > MOST_COLUMNS {
            Err(Wrong::TooManyColumns(line))
        } else {
            Ok(line)
        }
    }

    /// The fields of the record that was read last.
    pub(super) fn fields(&self) -> Result<Vec<&str>, String> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let field = |(column, (start, end)): (usize, (usize, &usize))| {
            let bytes = self.bytes.get(start..*end).unwrap_or_default();
            std::str::from_utf8(bytes)
                .map_err(|_| format!("column {} is not UTF-8 text", column + 1))
        };
        starts.zip(&self.ends).enumerate().map(field).collect()
    }
}

fn push(bytes: &mut Vec<u8>, byte: u8, stand: Stand) -> Stand {
    bytes.push(byte);
    stand
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const COMMA: Dialect = Dialect {
        delimiter: b',',
        quoted: true,
    };

    fn records(
        text: &str,
        dialect: Dialect,
        buffer: usize,
    ) -> Result<Vec<(usize, Vec<String>)>, Wrong> {
        let mut splitter = Splitter::new(
            io::BufReader::with_capacity(buffer, text.as_bytes()),
            dialect,
        );
        let mut found = Vec::new();
        while let Some(line) = splitter.next_record()? {
            found.push((
                line,
                splitter
                    .fields()
                    .unwrap()
                    .into_iter()
                    .map(String::from)
                    .collect(),
            ));
        }
        Ok(found)
    }

    #[test]
    fn a_record_knows_its_line_behind_every_kind_of_line_end() {
        for end in ["\n", "\r\n", "\r"] {
            let text = format!("a,b{end}1,\"x{end}y\"{end}{end}2,z{end}3,w");
            let lines: Vec<usize> = records(&text, COMMA, 3)
                .unwrap()
                .iter()
                .map(|(line, _)| *line)
                .collect();
            assert_eq!(lines, [1, 2, 5, 6], "{end:?}");
        }
    }

    #[test]
    fn a_quote_that_is_never_closed_is_an_error_at_the_line_where_it_was_opened() {
        assert!(matches!(
            records("a,b\n1,2\n3,\"4\n5,6\n", COMMA, 9),
            Err(Wrong::Unclosed(3))
        ));
        let long = format!("a,b\n\n1,\"{}", "x\n".repeat(LONGEST_LINE));
        assert!(matches!(
            records(&long, COMMA, 1 << 16),
            Err(Wrong::Unclosed(3))
        ));
    }

    #[test]
    fn what_is_over_the_limits_is_refused_and_the_next_record_is_read() {
        let text = format!(
            "a\n{}\nb\n{}\nc\n",
            "x".repeat(LONGEST_LINE + 1),
            ",".repeat(MOST_COLUMNS)
        );
        let mut splitter = Splitter::new(text.as_bytes(), COMMA);
        assert_eq!(splitter.next_record().unwrap(), Some(1));
        assert!(matches!(splitter.next_record(), Err(Wrong::TooLong(2))));
        assert_eq!(splitter.next_record().unwrap(), Some(3));
        assert!(matches!(
            splitter.next_record(),
            Err(Wrong::TooManyColumns(4))
        ));
        assert_eq!(
            (splitter.next_record().unwrap(), splitter.fields().unwrap()),
            (Some(5), vec!["c"])
        );
    }

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

    proptest! {
        /// The truth: the `csv` crate, wherever all quotes are closed.
        #[test]
        fn fields_are_those_of_the_csv_crate(text in "[ab,;\"\n\r]{0,24}", buffer in 1usize..9, quoted: bool) {
            let Ok(found) = records(&text, Dialect { delimiter: b',', quoted }, buffer) else { return Ok(()) };
            let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).quoting(quoted).from_reader(text.as_bytes());
            let truth: Vec<Vec<String>> =
                reader.records().map(|record| record.unwrap().iter().map(String::from).collect()).collect();
            let found: Vec<Vec<String>> = found.into_iter().map(|(_, fields)| fields).collect();
            prop_assert_eq!(found, truth);
        }
    }
}

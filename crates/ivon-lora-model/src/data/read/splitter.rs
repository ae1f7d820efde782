//! Bytes of CSV or TSV → records, according to RFC 4180: quotes, doubled quotes, line ends inside
//! quotes.
//!
//! The `csv` crate reports neither where an unclosed quote was opened nor the line of a record
//! after a CRLF, so this is written by hand; a test compares it with that crate.

use std::io::{self, BufRead};
use std::sync::Arc;

use super::dialect::{Dialect, MOST_COLUMNS};
use super::lines::LONGEST_LINE;
use super::text::io_error;
use crate::data::error::DataError;
use crate::data::place::Place;

/// The state before a byte of a field.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FieldState {
    /// Before the first byte.
    Start,
    /// Outside quotes.
    Plain,
    /// Inside quotes.
    Quoted,
    /// After a quote inside quotes: either the first of two, or the closing one.
    Closing,
}

/// What is wrong with a record.
#[derive(Debug)]
pub(super) enum RecordError {
    Read(io::Error),
    /// The quote opened in this line was not closed before the end of the file, or before the
    /// record became too long.
    Unclosed(usize),
    TooLong(usize),
    TooManyColumns(usize),
}

impl RecordError {
    pub(super) fn into_error(self, name: &Arc<str>) -> DataError {
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

/// Splits bytes into the fields of one record at a time.
pub(super) struct Splitter<R> {
    input: R,
    record: Record,
}

/// The current record, or the last one.
struct Record {
    dialect: Dialect,
    /// The line of the next byte, from 1.
    line: usize,
    after_return: bool,
    state: FieldState,
    /// Its first line, once it has begun.
    first_line: Option<usize>,
    /// The line of the last opening quote.
    quote_line: usize,
    /// Whether the current field is quoted.
    is_quoted: bool,
    /// The fields, concatenated, and the end of each.
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// Whether each field is quoted.
    in_quotes: Vec<bool>,
    lines_of_longest_field: usize,
}

impl<R: BufRead> Splitter<R> {
    pub(super) fn new(input: R, dialect: Dialect) -> Self {
        Self {
            input,
            record: Record::new(dialect),
        }
    }

    /// Counts lines that were skipped before the first byte.
    pub(super) fn skip_lines(&mut self, lines: usize) {
        self.record.line += lines;
    }

    /// Reads the next record and returns its first line; none at the end. Empty lines are skipped.
    pub(super) fn next_record(&mut self) -> Result<Option<usize>, RecordError> {
        self.record.clear();
        loop {
            let buffer = self.input.fill_buf().map_err(RecordError::Read)?;
            if buffer.is_empty() {
                return self.record.at_end_of_input();
            }
            let (used, has_ended) = self.record.take(buffer);
            self.input.consume(used);
            if self.record.is_overlong_quote() {
                return Err(RecordError::Unclosed(self.record.quote_line));
            }
            if has_ended {
                return self.record.finish();
            }
        }
    }

    /// The fields of the last record.
    pub(super) fn fields(&self) -> Result<Vec<&str>, String> {
        self.record.fields()
    }

    /// Whether each field of the last record is quoted.
    pub(super) fn in_quotes(&self) -> &[bool] {
        &self.record.in_quotes
    }

    /// The largest number of lines of a quoted field in the last record.
    pub(super) fn lines_of_longest_field(&self) -> usize {
        self.record.lines_of_longest_field
    }
}

impl Record {
    fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            line: 1,
            after_return: false,
            state: FieldState::Start,
            first_line: None,
            quote_line: 0,
            is_quoted: false,
            bytes: Vec::new(),
            ends: Vec::new(),
            in_quotes: Vec::new(),
            lines_of_longest_field: 1,
        }
    }

    fn clear(&mut self) {
        self.state = FieldState::Start;
        self.first_line = None;
        self.quote_line = 0;
        self.is_quoted = false;
        self.bytes.clear();
        self.ends.clear();
        self.in_quotes.clear();
        self.lines_of_longest_field = 1;
    }

    /// Consumes bytes up to the end of the record or a limit; returns their number, and whether the
    /// record has ended.
    fn take(&mut self, buffer: &[u8]) -> (usize, bool) {
        for (index, &byte) in buffer.iter().enumerate() {
            let has_ended = self.take_byte(byte);
            if has_ended || self.is_overlong_quote() {
                return (index + 1, has_ended);
            }
        }
        (buffer.len(), false)
    }

    /// Consumes one byte; returns whether it ended the record.
    fn take_byte(&mut self, byte: u8) -> bool {
        let (line, ends_line) = (self.line, byte == b'\n' || byte == b'\r');
        let is_second_half = byte == b'\n' && self.after_return;
        self.line += usize::from(ends_line && !is_second_half);
        self.after_return = byte == b'\r';
        if self.state != FieldState::Quoted && ends_line {
            // Neither the second half of a CRLF nor an empty line begins a record.
            return self.first_line.is_some();
        }
        self.first_line.get_or_insert(line);
        self.state = self.state_after(byte, line);
        // A record over the limits is read to its end but not kept.
        self.bytes.truncate(LONGEST_LINE + 1);
        self.ends.truncate(MOST_COLUMNS + 1);
        self.in_quotes.truncate(MOST_COLUMNS + 1);
        false
    }

    /// Appends a byte to the record, and returns the state before the next one.
    fn state_after(&mut self, byte: u8, line: usize) -> FieldState {
        let delimits = byte == self.dialect.delimiter;
        let quotes = byte == b'"' && self.dialect.quoted;
        match self.state {
            FieldState::Start if quotes => {
                self.quote_line = line;
                self.is_quoted = true;
                FieldState::Quoted
            }
            FieldState::Quoted if quotes => {
                let lines = line - self.quote_line + 1;
                self.lines_of_longest_field = self.lines_of_longest_field.max(lines);
                FieldState::Closing
            }
            FieldState::Closing if quotes => self.push(byte, FieldState::Quoted),
            FieldState::Quoted => self.push(byte, FieldState::Quoted),
            _ if delimits => {
                self.end_field();
                FieldState::Start
            }
            _ => self.push(byte, FieldState::Plain),
        }
    }

    fn push(&mut self, byte: u8, state: FieldState) -> FieldState {
        self.bytes.push(byte);
        state
    }

    fn end_field(&mut self) {
        self.ends.push(self.bytes.len());
        self.in_quotes.push(std::mem::take(&mut self.is_quoted));
    }

    /// Whether a quoted field is longer than a record may be.
    fn is_overlong_quote(&self) -> bool {
        self.bytes.len() > LONGEST_LINE && self.state == FieldState::Quoted
    }

    fn at_end_of_input(&mut self) -> Result<Option<usize>, RecordError> {
        if self.state == FieldState::Quoted {
            return Err(RecordError::Unclosed(self.quote_line));
        }
        self.finish()
    }

    /// Ends the record and returns its first line; none if none has begun.
    fn finish(&mut self) -> Result<Option<usize>, RecordError> {
        let Some(line) = self.first_line else {
            return Ok(None);
        };
        self.end_field();
        if self.bytes.len() > LONGEST_LINE {
            return Err(RecordError::TooLong(line));
        }
        if self.ends.len() > MOST_COLUMNS {
            Err(RecordError::TooManyColumns(line))
        } else {
            Ok(Some(line))
        }
    }

    fn fields(&self) -> Result<Vec<&str>, String> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let field = |(column, (start, end)): (usize, (usize, &usize))| {
            let bytes = self.bytes.get(start..*end).unwrap_or_default();
            std::str::from_utf8(bytes)
                .map_err(|_| format!("column {} is not UTF-8 text", column + 1))
        };
        starts.zip(&self.ends).enumerate().map(field).collect()
    }
}

/// The error for a line that is not a record.
pub(super) fn malformed(name: &Arc<str>, line: usize, reason: String) -> DataError {
    DataError::MalformedLine {
        at: Place::new(name.clone(), line),
        reason,
    }
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
    ) -> Result<Vec<(usize, Vec<String>)>, RecordError> {
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
            Err(RecordError::Unclosed(3))
        ));
        let long = format!("a,b\n\n1,\"{}", "x\n".repeat(LONGEST_LINE));
        assert!(matches!(
            records(&long, COMMA, 1 << 16),
            Err(RecordError::Unclosed(3))
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
        assert!(matches!(
            splitter.next_record(),
            Err(RecordError::TooLong(2))
        ));
        assert_eq!(splitter.next_record().unwrap(), Some(3));
        assert!(matches!(
            splitter.next_record(),
            Err(RecordError::TooManyColumns(4))
        ));
        assert_eq!(
            (splitter.next_record().unwrap(), splitter.fields().unwrap()),
            (Some(5), vec!["c"])
        );
    }

    proptest! {
        /// The reference: the `csv` crate, wherever all quotes are closed.
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

//! Lines of a text with their numbers from 1, of bounded length, and rows of JSONL from them.

use std::io::{BufRead, Read};
use std::sync::Arc;

use super::row::Row;
use super::text::{Text, io_error};
use crate::data::error::DataError;
use crate::data::place::Place;

/// The maximum length of a line or record in bytes.
pub const LONGEST_LINE: usize = 8 << 20;

/// The lines of a stream.
pub(crate) struct Lines {
    text: Text,
    name: Arc<str>,
    line: usize,
}

impl Lines {
    pub(crate) fn new(text: Text, name: Arc<str>) -> Self {
        Self {
            text,
            name,
            line: 0,
        }
    }

    /// The next line that is not blank, without its end.
    pub(crate) fn next_line(&mut self) -> Option<Result<(String, Place), DataError>> {
        loop {
            let mut bytes = Vec::new();
            self.line += 1;
            let mut line = self.text.by_ref().take(LONGEST_LINE as u64 + 1);
            match line.read_until(b'\n', &mut bytes) {
                Err(source) => return Some(Err(io_error(&self.name, source))),
                Ok(0) => return None,
                Ok(_) => {}
            }
            let at = Place::new(self.name.clone(), self.line);
            if bytes.len() > LONGEST_LINE {
                let limit = LONGEST_LINE;
                let skipped = self.skip(bytes.ends_with(b"\n"));
                return Some(skipped.and(Err(DataError::LineTooLong { at, limit })));
            }
            let Ok(text) = String::from_utf8(bytes) else {
                return Some(Err(DataError::MalformedLine {
                    at,
                    reason: "it is not UTF-8 text".into(),
                }));
            };
            if !text.trim().is_empty() {
                return Some(Ok((text.trim_end_matches(['\r', '\n']).into(), at)));
            }
        }
    }

    /// The next line as a JSON object.
    pub(crate) fn next_row(&mut self) -> Option<Result<Row, DataError>> {
        Some(
            self.next_line()?
                .and_then(|(line, place)| Row::from_json(line.trim(), place)),
        )
    }

    /// Skips the rest of a line that is too long.
    fn skip(&mut self, ended: bool) -> Result<(), DataError> {
        let mut ended = ended;
        while !ended {
            let buffer = self
                .text
                .fill_buf()
                .map_err(|source| io_error(&self.name, source))?;
            let end = buffer.iter().position(|byte| *byte == b'\n');
            ended = end.is_some() || buffer.is_empty();
            let used = end.map_or(buffer.len(), |end| end + 1);
            self.text.consume(used);
        }
        Ok(())
    }
}

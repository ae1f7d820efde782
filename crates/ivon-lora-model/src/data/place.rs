//! The position of a row in its file, for messages.

use std::fmt;
use std::sync::Arc;

/// The position of a row: its file and its line (in parquet: its row), counted from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The name of the file.
    pub file: Arc<str>,
    /// The line, from 1; in a CSV file the first line of the record.
    pub line: usize,
}

impl Place {
    /// The line of a file.
    pub fn new(file: impl Into<Arc<str>>, line: usize) -> Self {
        Self {
            file: file.into(),
            line,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "`{}` line {}", self.file, self.line)
    }
}

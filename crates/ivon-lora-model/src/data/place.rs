//! Where a row stands, for messages.

use std::fmt;
use std::sync::Arc;

/// Where a row stands: its file and its line (for parquet: its row), counted from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file, as it was named.
    pub file: Arc<str>,
    /// The line from 1; in a CSV file where the record begins.
    pub line: usize,
}

impl Place {
    /// The place of a row.
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

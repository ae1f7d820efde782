//! What stands for the reader of parquet files in a build without it.

use std::fs::File;
use std::path::Path;

use super::row::Row;
use crate::data::error::DataError;

/// Rows that cannot be read; there is none of it.
pub(crate) enum ParquetRows {}

impl ParquetRows {
    /// Refuses a file.
    ///
    /// # Errors
    /// Always: this build does not read parquet.
    pub(crate) fn open(path: &Path, _: File) -> Result<Self, DataError> {
        Err(DataError::MalformedParquet {
            path: path.into(),
            reason: "this build was made without the feature `parquet`".into(),
        })
    }

    pub(crate) fn next_row(&mut self) -> Option<Result<Row, DataError>> {
        match *self {}
    }
}

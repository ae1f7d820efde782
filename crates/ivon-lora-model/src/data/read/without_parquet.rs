//! The replacement for the parquet reader in a build without it.

use std::fs::File;
use std::path::Path;

use super::row::Row;
use crate::data::error::DataError;

/// An uninhabited type: no parquet file can be opened.
pub(crate) enum ParquetRows {}

impl ParquetRows {
    /// Refuses the file.
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

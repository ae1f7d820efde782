//! The rows of a file or a stream, one at a time. Whether to go on after a row that cannot be read
//! is the caller's decision, see [`DataError::is_of_a_row`].

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use super::csv::Records;
use super::detect::SAMPLE;
use super::dialect::Dialect;
use super::format::Format;
use super::lines::Lines;
#[cfg(feature = "parquet")]
use super::parquet::ParquetRows;
use super::row::Row;
use super::text::{LARGEST_FILE, Text, io_error, not_rows, open_text};
#[cfg(not(feature = "parquet"))]
use super::without_parquet::ParquetRows;
use crate::data::error::DataError;
use crate::files::FileError;

/// The rows of a file or a stream. Iteration ends after an error that concerns more than one row.
pub struct Rows {
    name: Arc<str>,
    inner: Inner,
    notes: Vec<String>,
    ended: bool,
}

enum Inner {
    Lines(Lines),
    Records(Box<Records>),
    Parquet(Box<ParquetRows>),
}

impl Rows {
    /// Opens a file.
    ///
    /// # Errors
    /// If it cannot be read, is larger than 8 GiB, has an unknown extension, or its
    /// content does not fit the extension.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let Some(format) = Format::of(path) else {
            let found = path
                .extension()
                .map(|extension| extension.to_string_lossy().to_lowercase())
                .unwrap_or_default();
            return Err(DataError::UnknownExtension {
                path: path.into(),
                found,
            });
        };
        let file = open(path)?;
        let name: Arc<str> = path.display().to_string().into();
        match format {
            Format::Parquet => {
                let inner = Inner::Parquet(Box::new(ParquetRows::open(path, file)?));
                Ok(Self {
                    name,
                    inner,
                    notes: Vec::new(),
                    ended: false,
                })
            }
            format => Self::from_reader(name, format, Box::new(file)),
        }
    }

    /// Rows of a text stream; `name` identifies it in messages.
    ///
    /// # Errors
    /// If it cannot be read, or is not text.
    pub fn from_reader(
        name: Arc<str>,
        format: Format,
        reader: Box<dyn Read + Send>,
    ) -> Result<Self, DataError> {
        let (text, how) = open_text(&name, reader)?;
        let mut notes: Vec<String> = how
            .filter(|how| *how == "UTF-16")
            .map(|how| format!("`{name}` is read as {how}"))
            .into_iter()
            .collect();
        let inner = match format {
            Format::Jsonl => Inner::Lines(Lines::new(text, name.clone())),
            Format::Parquet => return Err(not_rows(&name, "a stream", "a file of parquet")),
            Format::Csv | Format::Tsv => {
                let (records, note) = open_table(text, format == Format::Tsv, &name)?;
                notes.extend(note);
                Inner::Records(Box::new(records))
            }
        };
        Ok(Self {
            name,
            inner,
            notes,
            ended: false,
        })
    }

    /// Notes about how the file was read so far, a sentence each.
    pub fn notes(&self) -> Vec<String> {
        let spanning = if let Inner::Records(records) = &self.inner {
            records.note()
        } else {
            None
        };
        self.notes.iter().cloned().chain(spanning).collect()
    }

    /// Its name in messages.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }
}

impl Iterator for Rows {
    type Item = Result<Row, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = match &mut self.inner {
            Inner::Lines(lines) => lines.next_row(),
            Inner::Records(records) => records.next_row(),
            Inner::Parquet(rows) => rows.next_row(),
        };
        self.ended = match &next {
            None => true,
            Some(Ok(_)) => false,
            Some(Err(error)) => !error.is_of_a_row(),
        };
        next
    }
}

/// The records of a table in the dialect that its start shows, and a note if that is unusual.
fn open_table(
    mut text: Text,
    tabs: bool,
    name: &Arc<str>,
) -> Result<(Records, Option<String>), DataError> {
    let mut sample = Vec::new();
    text.by_ref()
        .take(SAMPLE as u64)
        .read_to_end(&mut sample)
        .map_err(|source| io_error(name, source))?;
    let (dialect, skipped) = Dialect::of(&sample, tabs);
    let note = dialect
        .surprise(tabs)
        .map(|what| format!("`{name}`: {what}"));
    let records = Records::new(text, sample, skipped, dialect, name.clone())?;
    Ok((records, note))
}

/// Whether to continue reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Continue {
    /// Read the next row.
    Yes,
    /// Stop.
    No,
}

/// Calls `take` with each row of a file until it returns [`Continue::No`]; returns the notes about
/// how the file was read.
///
/// # Errors
/// As [`Rows::open`], that of the first row that cannot be read, and the errors of `take`.
pub fn for_each_row(
    path: &Path,
    take: &mut dyn FnMut(Row) -> Result<Continue, DataError>,
) -> Result<Vec<String>, DataError> {
    let mut rows = Rows::open(path)?;
    for row in rows.by_ref() {
        if take(row?)? == Continue::No {
            break;
        }
    }
    Ok(rows.notes())
}

/// All rows of a file.
///
/// # Errors
/// As [`for_each_row`].
pub fn read_rows(path: &Path) -> Result<Vec<Row>, DataError> {
    Rows::open(path)?.collect()
}

/// The first `count` rows of a file.
///
/// # Errors
/// As [`for_each_row`], for the part that is read.
pub fn read_first_rows(path: &Path, count: usize) -> Result<Vec<Row>, DataError> {
    Rows::open(path)?.take(count).collect()
}

/// Opens a regular file of acceptable size.
fn open(path: &Path) -> Result<File, DataError> {
    let refused = FileError::io("read", path);
    let file = File::open(path).map_err(refused)?;
    let found = file.metadata().map_err(refused)?.len();
    if found > LARGEST_FILE {
        return Err(FileError::TooLarge {
            path: path.into(),
            found,
            limit: LARGEST_FILE,
        }
        .into());
    }
    Ok(file)
}

#[cfg(test)]
mod tests;

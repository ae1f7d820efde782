//! Rows of a parquet file as JSON values, through the row interface of the parquet crate (without
//! arrow).

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use parquet::record::reader::RowIter;
use serde_json::{Map, Value};

use super::footer::{check_footer, check_pages};
use super::row::Row;
use crate::data::error::DataError;
use crate::data::place::Place;
use crate::guard::{guard, guard_result};

/// The rows of a parquet file.
pub(crate) struct ParquetRows {
    rows: RowIter<'static>,
    path: PathBuf,
    name: Arc<str>,
    line: usize,
}

impl ParquetRows {
    /// Opens a file.
    ///
    /// # Errors
    /// If it is damaged, or has a compression that this build cannot read.
    pub(crate) fn open(path: &Path, file: File) -> Result<Self, DataError> {
        let rows = checked_rows(file).map_err(|reason| DataError::MalformedParquet {
            path: path.into(),
            reason,
        })?;
        Ok(Self {
            rows,
            path: path.into(),
            name: path.display().to_string().into(),
            line: 0,
        })
    }

    /// The next row; its line is its number from 1.
    pub(crate) fn next_row(&mut self) -> Option<Result<Row, DataError>> {
        self.line += 1;
        let place = Place::new(self.name.clone(), self.line);
        match guard_result("parquet", || self.rows.next().transpose()) {
            Ok(None) => None,
            Ok(Some(row)) => Some(fields(row).map_or_else(
                |field| {
                    let reason =
                        format!("two columns are named `{field}`, expected each name once");
                    Err(DataError::MalformedParquet {
                        path: self.path.clone(),
                        reason,
                    })
                },
                |fields| Ok(Row { fields, place }),
            )),
            Err(reason) => Some(Err(DataError::MalformedParquet {
                path: self.path.clone(),
                reason,
            })),
        }
    }
}

/// The rows of a file whose metadata pass the checks.
fn checked_rows(mut file: File) -> Result<RowIter<'static>, String> {
    check_footer(&mut file)?;
    let again = file.try_clone().map_err(|error| error.to_string())?;
    let reader = guard_result("parquet", || SerializedFileReader::new(again))?;
    for group in reader.metadata().row_groups() {
        for chunk in group.columns() {
            let (start, length) =
                guard("parquet", || chunk.byte_range()).map_err(|panicked| panicked.to_string())?;
            check_pages(&mut file, start, length)?;
        }
    }
    guard_result("parquet", || {
        RowIter::from_file_into(Box::new(reader)).project(None)
    })
}

/// The fields of a row, or the name of a duplicate column.
fn fields(row: parquet::record::Row) -> Result<Map<String, Value>, String> {
    let mut fields = Map::new();
    for (name, value) in row.into_columns() {
        if fields.insert(name.clone(), json(&value)).is_some() {
            return Err(name);
        }
    }
    Ok(fields)
}

/// A parquet value as JSON; types that JSON lacks (dates, decimals) become strings.
fn json(field: &Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Bool(value) => Value::from(*value),
        Field::Byte(value) => Value::from(*value),
        Field::Short(value) => Value::from(*value),
        Field::Int(value) => Value::from(*value),
        Field::Long(value) => Value::from(*value),
        Field::UByte(value) => Value::from(*value),
        Field::UShort(value) => Value::from(*value),
        Field::UInt(value) => Value::from(*value),
        Field::ULong(value) => Value::from(*value),
        Field::Float16(value) => Value::from(value.to_f32()),
        Field::Float(value) => Value::from(*value),
        Field::Double(value) => Value::from(*value),
        Field::Str(text) => Value::from(text.as_str()),
        // Some writers omit the UTF-8 annotation of text.
        Field::Bytes(bytes) => Value::from(String::from_utf8_lossy(bytes.data()).into_owned()),
        Field::Group(row) => Value::Object(
            row.get_column_iter()
                .map(|(name, field)| (name.clone(), json(field)))
                .collect::<Map<_, _>>(),
        ),
        Field::ListInternal(list) => list.elements().iter().map(json).collect(),
        Field::MapInternal(map) => {
            let entries = map.entries().iter();
            Value::Object(
                entries
                    .map(|(key, value)| (key_text(key), json(value)))
                    .collect(),
            )
        }
        other => Value::from(other.to_string()),
    }
}

/// The key of a map as a JSON key.
fn key_text(key: &Field) -> String {
    match json(key) {
        Value::String(text) => text,
        _ => key.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::read::read_rows;
    use crate::data::read::testing::{ARC, Column, write};

    #[test]
    fn nested_lists_of_the_hub_s_arc_come_back_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train.parquet");
        write(
            &path,
            ARC,
            vec![
                Column::Texts(vec!["q1", "q2"]),
                Column::Texts(vec!["Which?", "Who?"]),
                Column::Lists(vec![vec!["a", "b", "c", "d"], vec!["e", "f", "g"]]),
                Column::Lists(vec![vec!["A", "B", "C", "D"], vec!["1", "2", "3"]]),
                Column::Texts(vec!["C", "2"]),
            ],
        );
        let rows = read_rows(&path).unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!(
            rows[0].fields["choices"],
            serde_json::json!({"text": ["a", "b", "c", "d"], "label": ["A", "B", "C", "D"]})
        );
        assert_eq!(rows[1].fields["answerKey"], "2");
        assert_eq!(rows[1].place.line, 2);
    }

    #[test]
    fn numbers_and_truth_values_keep_their_kind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        let schema = "message m { REQUIRED INT64 label; REQUIRED BOOLEAN answer; }";
        write(
            &path,
            schema,
            vec![
                Column::Numbers(vec![-1, 7]),
                Column::Truths(vec![true, false]),
            ],
        );
        let rows = read_rows(&path).unwrap();
        assert_eq!(rows[1].fields["label"], 7);
        assert_eq!(rows[0].fields["answer"], true);
    }

    #[test]
    fn a_cut_or_garbled_parquet_file_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        write(
            &path,
            "message m { REQUIRED INT64 label; }",
            vec![Column::Numbers((0..500).collect())],
        );
        let whole = std::fs::read(&path).unwrap();
        for (cut, flip) in [
            (whole.len() / 2, 0),
            (3, 0),
            (whole.len(), 9),
            (whole.len(), whole.len() - 6),
            (whole.len(), 40),
        ] {
            let mut bytes = whole[..cut].to_vec();
            if let Some(byte) = bytes.get_mut(flip) {
                *byte ^= 0xff;
            }
            std::fs::write(&path, bytes).unwrap();
            // Corrupted values cannot be told from intact ones; but nothing may panic.
            if let Err(error) = read_rows(&path) {
                assert!(
                    matches!(error, DataError::MalformedParquet { .. }),
                    "{error}"
                );
                assert!(error.to_string().contains("a.parquet"));
            } else {
                assert_eq!(cut, whole.len());
            }
        }
    }
}

//! Rows from JSONL, CSV, TSV and parquet files, one at a time, with the place of each.
//!
//! A CSV file is read as RFC 4180 has it (quotes, doubled quotes, line ends inside quotes); a TSV file has no
//! quoting at all, as GLUE and OpenBookQA publish theirs. Both need a header line; all their values are text.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::error::{DataError, Place};
use super::parquet::for_each_parquet_row;
use crate::files::FileError;

/// The longest line or record that is read, in bytes.
pub const LONGEST_LINE: usize = 8 << 20;

/// The largest file that is read, in bytes.
pub const LARGEST_FILE: u64 = 8 << 30;

/// The extensions of files that can be read; where a folder has the same name with several, the first is taken.
pub const EXTENSIONS: [&str; 4] = ["jsonl", "parquet", "csv", "tsv"];

/// One row of a file: its fields and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The fields by name, in the order of the file.
    pub fields: Map<String, Value>,
    /// The row's file and line.
    pub place: Place,
}

impl Row {
    /// Reads a row from one line of JSON.
    ///
    /// # Errors
    /// If the line is not a JSON object.
    pub fn from_json(line: &str, place: Place) -> Result<Self, DataError> {
        match serde_json::from_str::<Value>(line) {
            Ok(Value::Object(fields)) => Ok(Self { fields, place }),
            Ok(other) => Err(DataError::MalformedLine { at: place, reason: format!("it is {}, expected an object", kind(&other)) }),
            Err(error) => {
                // Serde counts lines within the one line that it sees; only the column helps.
                let reason = error.to_string();
                let said = reason.split(" at line ").next().unwrap_or(&reason).to_string();
                Err(DataError::MalformedLine { at: place, reason: format!("{said} at column {}", error.column()) })
            }
        }
    }

    /// The names of the row's fields.
    pub fn names(&self) -> Vec<String> {
        self.fields.keys().cloned().collect()
    }

    /// A field that must be there.
    ///
    /// # Errors
    /// [`DataError::MissingField`] with the fields there are; null counts as missing.
    pub fn field(&self, name: &str) -> Result<&Value, DataError> {
        match self.fields.get(name) {
            None | Some(Value::Null) => Err(DataError::MissingField { at: self.place.clone(), field: name.into(), found: self.names() }),
            Some(value) => Ok(value),
        }
    }

    /// A field as text; numbers and truth values are written out.
    ///
    /// # Errors
    /// If the field is missing, or a list or an object.
    pub fn text(&self, name: &str) -> Result<String, DataError> {
        match self.field(name)? {
            Value::String(text) => Ok(text.clone()),
            Value::Number(number) => Ok(number.to_string()),
            Value::Bool(truth) => Ok(truth.to_string()),
            other => Err(self.wrong_type(name, "text", other)),
        }
    }

    /// The error of a field that holds another kind of value.
    pub(crate) fn wrong_type(&self, field: &str, expected: &'static str, found: &Value) -> DataError {
        DataError::WrongType { at: self.place.clone(), field: field.into(), expected, found: kind(found).into() }
    }
}

/// What a JSON value is, in words.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Whether to go on reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Continue {
    /// The next row, please.
    Yes,
    /// That was enough.
    No,
}

/// Calls `take` with each row of a file in turn until it says that it has enough.
///
/// # Errors
/// If the file cannot be read, is larger than [`LARGEST_FILE`], has an unknown extension, a malformed line, a
/// line over [`LONGEST_LINE`]; and the errors of `take`.
pub fn for_each_row(path: &Path, take: &mut dyn FnMut(Row) -> Result<Continue, DataError>) -> Result<(), DataError> {
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase()).unwrap_or_default();
    if !EXTENSIONS.contains(&extension.as_str()) {
        return Err(DataError::UnknownExtension { path: path.into(), found: extension });
    }
    let file = open(path)?;
    match extension.as_str() {
        "parquet" => for_each_parquet_row(path, file, take),
        "csv" => for_each_record(path, file, csv::ReaderBuilder::new().delimiter(b','), take),
        "tsv" => for_each_record(path, file, csv::ReaderBuilder::new().delimiter(b'\t').quoting(false), take),
        _ => for_each_line(path, file, take),
    }
}

/// All rows of a file.
///
/// # Errors
/// As [`for_each_row`].
pub fn read_rows(path: &Path) -> Result<Vec<Row>, DataError> {
    read_first_rows(path, usize::MAX)
}

/// The first `count` rows of a file.
///
/// # Errors
/// As [`for_each_row`], of the part that is read.
pub fn read_first_rows(path: &Path, count: usize) -> Result<Vec<Row>, DataError> {
    let mut rows = Vec::new();
    if count > 0 {
        for_each_row(path, &mut |row| {
            rows.push(row);
            Ok(if rows.len() < count { Continue::Yes } else { Continue::No })
        })?;
    }
    Ok(rows)
}

/// Opens a regular file of bearable size.
fn open(path: &Path) -> Result<File, DataError> {
    let refused = |source| FileError::Io { action: "read", path: path.into(), source };
    let file = File::open(path).map_err(refused)?;
    let found = file.metadata().map_err(refused)?.len();
    if found > LARGEST_FILE {
        return Err(FileError::TooLarge { path: path.into(), found, limit: LARGEST_FILE }.into());
    }
    Ok(file)
}

/// Rows of a JSONL file; empty lines are passed over, a byte-order mark is ignored.
fn for_each_line(path: &Path, file: File, take: &mut dyn FnMut(Row) -> Result<Continue, DataError>) -> Result<(), DataError> {
    let name: Arc<str> = path.display().to_string().into();
    let mut reader = BufReader::with_capacity(1 << 18, file);
    let mut bytes = Vec::new();
    for line in 1.. {
        bytes.clear();
        let place = || Place::new(name.clone(), line);
        let read = reader.by_ref().take(LONGEST_LINE as u64 + 1).read_until(b'\n', &mut bytes);
        if read.map_err(|source| FileError::Io { action: "read", path: path.into(), source })? == 0 {
            break;
        }
        if bytes.len() > LONGEST_LINE {
            return Err(DataError::LineTooLong { at: place(), limit: LONGEST_LINE });
        }
        let text =
            std::str::from_utf8(&bytes).map_err(|_| DataError::MalformedLine { at: place(), reason: "it is not UTF-8 text".into() })?;
        let text = if line == 1 { text.trim_start_matches('\u{feff}') } else { text }.trim();
        if !text.is_empty() && take(Row::from_json(text, place())?)? == Continue::No {
            break;
        }
    }
    Ok(())
}

/// Rows of a CSV or TSV file; the header names the fields.
fn for_each_record(
    path: &Path,
    file: File,
    format: &mut csv::ReaderBuilder,
    take: &mut dyn FnMut(Row) -> Result<Continue, DataError>,
) -> Result<(), DataError> {
    let name: Arc<str> = path.display().to_string().into();
    let mut reader = format.from_reader(file);
    let header = match reader.headers() {
        Ok(header) => header.clone(),
        Err(error) => return Err(csv_error(path, &name, 1, error)),
    };
    let mut record = csv::StringRecord::new();
    loop {
        let line = usize::try_from(reader.position().line()).unwrap_or(usize::MAX);
        match reader.read_record(&mut record) {
            Ok(false) => return Ok(()),
            Ok(true) => {}
            Err(error) => return Err(csv_error(path, &name, line, error)),
        }
        let line = record.position().and_then(|position| usize::try_from(position.line()).ok()).unwrap_or(line);
        let place = Place::new(name.clone(), line);
        if record.as_slice().len() > LONGEST_LINE {
            return Err(DataError::LineTooLong { at: place, limit: LONGEST_LINE });
        }
        let fields = header.iter().zip(&record).map(|(field, value)| (field.trim().to_string(), Value::from(value))).collect();
        if take(Row { fields, place })? == Continue::No {
            return Ok(());
        }
    }
}

/// The csv crate's error in our words.
fn csv_error(path: &Path, name: &Arc<str>, line: usize, error: csv::Error) -> DataError {
    let line = error.position().and_then(|position| usize::try_from(position.line()).ok()).unwrap_or(line);
    let at = Place::new(name.clone(), line);
    match error.into_kind() {
        csv::ErrorKind::Io(source) => FileError::Io { action: "read", path: path.into(), source }.into(),
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            DataError::MalformedLine { at, reason: format!("it has {len} columns, expected {expected_len} as in the header") }
        }
        csv::ErrorKind::Utf8 { err, .. } => {
            DataError::MalformedLine { at, reason: format!("column {} is not UTF-8 text", err.field() + 1) }
        }
        _ => DataError::MalformedLine { at, reason: "it cannot be read as a row of columns".into() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn rows_of(name: &str, content: impl AsRef<[u8]>) -> Result<Vec<Row>, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        read_rows(&path)
    }

    #[test]
    fn jsonl_rows_know_their_lines_and_empty_lines_are_passed_over() {
        let rows = rows_of("a.jsonl", "\u{feff}{\"a\": 1}\r\n\n{\"a\": [\"b\"]}").unwrap();
        assert_eq!(rows.iter().map(|row| row.place.line).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(rows[1].fields["a"], serde_json::json!(["b"]));
    }

    #[test]
    fn csv_has_quotes_and_line_ends_inside_them_and_tsv_has_neither() {
        let rows = rows_of("a.csv", "text,label\n\"one, \"\"two\"\"\nthree\",1\nfour,0\n").unwrap();
        assert_eq!(rows[0].fields["text"], "one, \"two\"\nthree");
        assert_eq!((rows[0].place.line, rows[1].place.line), (2, 4));
        let rows = rows_of("a.tsv", "sentence\tlabel\n\"open quote\t1\nit 's \"fine\"\t0\n").unwrap();
        assert_eq!(rows[0].fields["sentence"], "\"open quote");
        assert_eq!(rows[1].fields["sentence"], "it 's \"fine\"");
    }

    #[test]
    fn a_malformed_line_is_named_with_its_file_line_and_column() {
        let message = rows_of("a.jsonl", "{\"a\": 1}\n{\"a\": }\n").unwrap_err().to_string();
        assert!(message.ends_with("a.jsonl` line 2 is malformed: expected value at column 7"), "{message}");
        let message = rows_of("a.jsonl", "[1]\n").unwrap_err().to_string();
        assert!(message.ends_with("line 1 is malformed: it is a list, expected an object"), "{message}");
        let error = rows_of("a.csv", "a,b\n1,2\n1\n").unwrap_err();
        assert!(error.to_string().ends_with("line 3 is malformed: it has 1 columns, expected 2 as in the header"), "{error}");
        assert!(error.hint().unwrap().contains("header"));
        let message = rows_of("a.csv", b"a,b\n1,\xff\n").unwrap_err().to_string();
        assert!(message.ends_with("line 2 is malformed: column 2 is not UTF-8 text"), "{message}");
        let message = rows_of("a.jsonl", b"{\"a\": \"\xff\"}").unwrap_err().to_string();
        assert!(message.ends_with("line 1 is malformed: it is not UTF-8 text"), "{message}");
    }

    #[test]
    fn a_line_over_the_limit_is_refused() {
        let mut content = b"{}\n".to_vec();
        content.resize(LONGEST_LINE + 10, b' ');
        assert!(matches!(rows_of("a.jsonl", &content), Err(DataError::LineTooLong { at: Place { line: 2, .. }, .. })));
        content[..4].copy_from_slice(b"a\nb ");
        assert!(matches!(rows_of("a.csv", &content), Err(DataError::LineTooLong { at: Place { line: 2, .. }, .. })));
    }

    #[test]
    fn an_unknown_extension_and_a_missing_file_are_errors() {
        let message = rows_of("a.xlsx", "").unwrap_err().to_string();
        assert!(message.ends_with("has the extension `xlsx`, expected `jsonl`, `csv`, `tsv` or `parquet`"), "{message}");
        let error = read_rows(Path::new("/nowhere/a.jsonl")).unwrap_err();
        assert_eq!(error.hint().unwrap(), "check the spelling of the path");
    }

    #[test]
    fn a_missing_field_and_a_list_where_text_is_needed_are_errors() {
        let row = Row::from_json("{\"a\": [1], \"n\": null, \"i\": 3}", Place::new("f", 9)).unwrap();
        assert!(matches!(row.text("n"), Err(DataError::MissingField { .. })));
        assert_eq!(row.text("a").unwrap_err().to_string(), "`f` line 9: field `a` is a list, expected text");
        assert_eq!(row.text("i").unwrap(), "3");
    }

    #[test]
    fn the_first_rows_are_read_without_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        fs::write(&path, "{\"a\": 1}\nbroken").unwrap();
        assert_eq!(read_first_rows(&path, 1).unwrap().len(), 1);
    }
}

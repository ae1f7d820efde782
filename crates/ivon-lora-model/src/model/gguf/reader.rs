//! The metadata of a GGUF file and the positions of its tensors, which are read on demand.
//!
//! Arrays stay in the file until they are needed, so a file cannot cause an allocation larger than
//! itself.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::cursor::{Contents, Cursor};
use super::value::{Array, Kind, TensorEntry, Value};
use crate::model::error::ModelError;
use crate::model::mapped::MappedFile;

/// An open GGUF file, or a split model, opened by its first file.
#[derive(Debug)]
pub struct GgufFile {
    pub(super) file: Arc<MappedFile>,
    /// The parts of a split model after the first.
    pub(super) others: Vec<Arc<MappedFile>>,
    metadata: BTreeMap<String, Value>,
    /// Where the type and the value of each key lie, in the order of the file.
    places: Vec<(String, Range<usize>)>,
    pub(super) tensors: BTreeMap<String, TensorEntry>,
}

impl GgufFile {
    /// Maps one file and reads its headers, whether it is the whole model or a part.
    pub(super) fn open_one(path: &Path) -> Result<Self, ModelError> {
        let file = Arc::new(MappedFile::open(path)?);
        let Contents {
            metadata,
            places,
            tensors,
        } = Cursor {
            file: &file,
            at: 0,
            what: String::new(),
        }
        .read_all()?;
        Ok(Self {
            file,
            others: Vec::new(),
            metadata,
            places,
            tensors,
        })
    }

    /// The file's name in errors.
    pub fn name(&self) -> String {
        self.file.name()
    }

    /// The file with the data of a tensor.
    pub(in crate::model) fn file_of(&self, entry: &TensorEntry) -> &Arc<MappedFile> {
        entry
            .part
            .checked_sub(1)
            .and_then(|part| self.others.get(part))
            .unwrap_or(&self.file)
    }

    /// The bytes of a tensor.
    pub fn bytes(&self, entry: &TensorEntry) -> &[u8] {
        self.file_of(entry)
            .bytes()
            .get(entry.bytes.clone())
            .unwrap_or_default()
    }

    /// All metadata, by key.
    pub fn metadata(&self) -> &BTreeMap<String, Value> {
        &self.metadata
    }

    /// The keys of the metadata in the order of the file, each with its type and value as they lie
    /// there.
    pub fn stored_metadata(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let bytes = |place: &Range<usize>| self.file.bytes().get(place.clone());
        let places = self.places.iter();
        places.map(move |(key, place)| (key.as_str(), bytes(place).unwrap_or_default()))
    }

    /// All tensors, by their names in GGUF.
    pub fn tensors(&self) -> &BTreeMap<String, TensorEntry> {
        &self.tensors
    }

    fn wrong(&self, key: &str, found: &str, expected: &str) -> ModelError {
        ModelError::Setting {
            file: self.name(),
            field: key.into(),
            found: found.into(),
            expected: expected.into(),
        }
    }

    /// An unsigned integer of any width.
    ///
    /// # Errors
    /// If the value has another type.
    pub fn unsigned(&self, key: &str) -> Result<Option<usize>, ModelError> {
        let number = match self.metadata.get(key) {
            None => return Ok(None),
            Some(Value::Unsigned(number)) => usize::try_from(*number).ok(),
            Some(Value::Signed(number)) => usize::try_from(*number).ok(),
            Some(_) => None,
        };
        number
            .map(Some)
            .ok_or_else(|| self.wrong(key, "something else", "a whole number, not negative"))
    }

    /// A number.
    ///
    /// # Errors
    /// If the value has another type.
    pub fn float(&self, key: &str) -> Result<Option<f64>, ModelError> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Float(number)) => Ok(Some(*number)),
            Some(Value::Unsigned(number)) => Ok(Some(*number as f64)),
            Some(Value::Signed(number)) => Ok(Some(*number as f64)),
            Some(_) => Err(self.wrong(key, "something else", "a number")),
        }
    }

    /// A boolean.
    ///
    /// # Errors
    /// If the value has another type.
    pub fn flag(&self, key: &str) -> Result<Option<bool>, ModelError> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(self.wrong(key, "something else", "`true` or `false`")),
        }
    }

    /// A string.
    ///
    /// # Errors
    /// If the value has another type.
    pub fn text(&self, key: &str) -> Result<Option<&str>, ModelError> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(key, "something else", "a text")),
        }
    }

    /// The length of an array, 0 if there is none.
    pub fn array_length(&self, key: &str) -> usize {
        match self.metadata.get(key) {
            Some(Value::Array(array)) => array.count,
            _ => 0,
        }
    }

    fn array(&self, key: &str) -> Result<Option<&Array>, ModelError> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Array(array)) => Ok(Some(array)),
            Some(_) => Err(self.wrong(key, "something else", "an array")),
        }
    }

    /// An array of strings.
    ///
    /// # Errors
    /// If the value has another type, or a string is not UTF-8.
    pub fn texts(&self, key: &str) -> Result<Option<Vec<&str>>, ModelError> {
        let Some(array) = self.array(key)? else {
            return Ok(None);
        };
        if array.kind != Kind::Text {
            return Err(self.wrong(key, "an array of something else", "an array of texts"));
        }
        let mut cursor = Cursor {
            file: &self.file,
            at: array.bytes.start,
            what: format!("array `{key}`"),
        };
        (0..array.count)
            .map(|_| cursor.text())
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// An array of numbers, as f64.
    ///
    /// # Errors
    /// If the value has another type.
    pub fn numbers(&self, key: &str) -> Result<Option<Vec<f64>>, ModelError> {
        let Some(array) = self.array(key)? else {
            return Ok(None);
        };
        if matches!(array.kind, Kind::Text | Kind::Array) {
            return Err(self.wrong(key, "an array of something else", "an array of numbers"));
        }
        let mut cursor = Cursor {
            file: &self.file,
            at: array.bytes.start,
            what: format!("array `{key}`"),
        };
        let mut numbers = Vec::with_capacity(array.count);
        for _ in 0..array.count {
            numbers.push(match cursor.value(array.kind)? {
                Value::Unsigned(number) => number as f64,
                Value::Signed(number) => number as f64,
                Value::Float(number) => number,
                Value::Bool(flag) => f64::from(u8::from(flag)),
                Value::Text(_) | Value::Array(_) => 0.0,
            });
        }
        Ok(Some(numbers))
    }

    /// Releases the memory of the metadata once everything needed has been read.
    pub(in crate::model) fn release_metadata(&self) {
        let first = self.tensors.values().filter(|entry| entry.part == 0);
        self.file.release(
            0..first
                .map(|entry| entry.bytes.start)
                .min()
                .unwrap_or(usize::MAX),
        );
    }
}

#[cfg(test)]
mod tests;

//! A GGUF file's bytes → metadata and the places of its tensors, read on demand.
//!
//! Arrays stay in the file until they are asked for, so a file cannot ask for more memory than its
//! own size.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use super::cursor::{Cursor, Kind};
use super::split::{self, Part};
use crate::model::ModelError;
use crate::model::mapped::MappedFile;

/// A value of the metadata.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// u8, u16, u32, u64.
    Unsigned(u64),
    /// i8, i16, i32, i64.
    Signed(i64),
    /// f32, f64.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// UTF-8 text.
    Text(String),
    /// An array, still in the file.
    Array(Array),
}

/// Where an array of the metadata lies.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    pub(super) kind: Kind,
    pub(super) count: usize,
    pub(super) bytes: Range<usize>,
}

/// A tensor as the file describes it, under GGUF's name.
#[derive(Clone, Debug)]
pub struct TensorEntry {
    /// Rows first, as everywhere else; the file has them reversed.
    pub shape: Vec<usize>,
    /// ggml's number for the encoding.
    pub ggml_type: u32,
    /// In its file; empty where ggml does not know the encoding either.
    pub bytes: Range<usize>,
    /// Which of the files it lies in: 0 but for a split model.
    pub(super) part: usize,
}

/// An opened GGUF file, or the several files of a split model, opened by the first.
#[derive(Debug)]
pub struct GgufFile {
    file: MappedFile,
    /// The parts of a split model after the first.
    others: Vec<MappedFile>,
    metadata: BTreeMap<String, Value>,
    tensors: BTreeMap<String, TensorEntry>,
}

impl GgufFile {
    /// Maps a file and reads its headers; of the first part of a split model, those of all parts.
    ///
    /// # Errors
    /// If it cannot be read, is no GGUF of version 2 or 3, is malformed or cut short, or is a part
    /// of a split model and not its first, or the other parts are not there.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let mut whole = Self::open_one(path)?;
        let part = Part::of(&whole)?;
        if part.count == 1 {
            return Ok(whole);
        }
        for (index, path) in split::other_parts(path, part)?.iter().enumerate() {
            whole.add(
                Self::open_one(path)?,
                Part {
                    number: index + 2,
                    ..part
                },
            )?;
        }
        split::check_tensors(&whole)?;
        Ok(whole)
    }

    fn open_one(path: &Path) -> Result<Self, ModelError> {
        let file = MappedFile::open(path)?;
        let (metadata, tensors) = Cursor {
            file: &file,
            at: 0,
            what: String::new(),
        }
        .read_all()?;
        Ok(Self {
            file,
            others: Vec::new(),
            metadata,
            tensors,
        })
    }

    fn add(&mut self, other: Self, part: Part) -> Result<(), ModelError> {
        split::check(&other, part)?;
        other.release_metadata();
        self.others.push(other.file);
        for (name, entry) in other.tensors {
            if let Some(twice) = self.tensors.insert(
                name.clone(),
                TensorEntry {
                    part: self.others.len(),
                    ..entry
                },
            ) {
                let reason = format!(
                    "tensor `{name}` is in two of its parts, {} and {}",
                    twice.part + 1,
                    part.number
                );
                return Err(ModelError::Malformed {
                    file: self.name(),
                    reason,
                });
            }
        }
        Ok(())
    }

    /// The file's name, as errors print it.
    pub fn name(&self) -> String {
        self.file.name()
    }

    /// The file that a tensor lies in.
    pub(in crate::model) fn file_of(&self, entry: &TensorEntry) -> &MappedFile {
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

    /// All tensors, by GGUF's names.
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

    /// An unsigned number, of whatever width it is stored in.
    ///
    /// # Errors
    /// If there is a value of another kind.
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
    /// If there is a value of another kind.
    pub fn float(&self, key: &str) -> Result<Option<f64>, ModelError> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Float(number)) => Ok(Some(*number)),
            Some(Value::Unsigned(number)) => Ok(Some(*number as f64)),
            Some(Value::Signed(number)) => Ok(Some(*number as f64)),
            Some(_) => Err(self.wrong(key, "something else", "a number")),
        }
    }

    /// A truth value.
    ///
    /// # Errors
    /// If there is a value of another kind.
    pub fn flag(&self, key: &str) -> Result<Option<bool>, ModelError> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(self.wrong(key, "something else", "`true` or `false`")),
        }
    }

    /// A text.
    ///
    /// # Errors
    /// If there is a value of another kind.
    pub fn text(&self, key: &str) -> Result<Option<&str>, ModelError> {
        match self.metadata.get(key) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(key, "something else", "a text")),
        }
    }

    /// The number of values in an array, 0 where there is none.
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

    /// An array of texts.
    ///
    /// # Errors
    /// If there is a value of another kind, or a text is not UTF-8.
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
    /// If there is a value of another kind.
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

    /// Gives back the memory under the metadata, once all that is wanted of it has been read.
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

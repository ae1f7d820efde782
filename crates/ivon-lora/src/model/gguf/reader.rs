//! A GGUF file's bytes → metadata and the places of its tensors, trusting nothing that the file claims.
//!
//! Layout (versions 2 and 3, little-endian): `GGUF`, u32 version, u64 number of tensors, u64 number of metadata
//! entries; entries (key, u32 type, value); tensors (name, u32 number of dimensions, u64 each, u32 encoding, u64
//! offset); padding; the numbers. Every count is held against the bytes that are left before anything is allocated,
//! and arrays stay in the file until they are asked for, so a file cannot ask for more memory than its own size.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use crate::model::mapped::MappedFile;
use crate::model::{Encoding, ModelError};

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
    kind: Kind,
    count: usize,
    bytes: Range<usize>,
}

/// A tensor as the file describes it, under GGUF's name.
#[derive(Clone, Debug)]
pub struct TensorEntry {
    /// Rows first, as everywhere else; the file has them reversed.
    pub shape: Vec<usize>,
    /// ggml's number for the encoding.
    pub ggml_type: u32,
    /// In the file; to the file's end where the encoding is not known.
    pub bytes: Range<usize>,
}

/// An opened GGUF file.
#[derive(Debug)]
pub struct GgufFile {
    file: MappedFile,
    metadata: BTreeMap<String, Value>,
    tensors: BTreeMap<String, TensorEntry>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Unsigned(usize),
    Signed(usize),
    Float(usize),
    Bool,
    Text,
    Array,
}

impl Kind {
    fn of(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::Unsigned(1),
            1 => Self::Signed(1),
            2 => Self::Unsigned(2),
            3 => Self::Signed(2),
            4 => Self::Unsigned(4),
            5 => Self::Signed(4),
            6 => Self::Float(4),
            7 => Self::Bool,
            8 => Self::Text,
            9 => Self::Array,
            10 => Self::Unsigned(8),
            11 => Self::Signed(8),
            12 => Self::Float(8),
            _ => return None,
        })
    }

    /// The fewest bytes that a value takes.
    fn least_bytes(self) -> usize {
        match self {
            Self::Unsigned(size) | Self::Signed(size) | Self::Float(size) => size,
            Self::Bool => 1,
            Self::Text => 8,
            Self::Array => 12,
        }
    }
}

/// ggml has at most four dimensions.
const MOST_DIMENSIONS: u32 = 4;
/// ggml's limit is 64; names of models stay below it.
const LONGEST_NAME: usize = 1024;

impl GgufFile {
    /// Maps a file and reads its headers.
    ///
    /// # Errors
    /// If it cannot be read, is no GGUF of version 2 or 3, is malformed or cut short.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let file = MappedFile::open(path)?;
        let (metadata, tensors) = Cursor { file: &file, at: 0, what: String::new() }.read_all()?;
        Ok(Self { file, metadata, tensors })
    }

    /// The file's name, as errors print it.
    pub fn name(&self) -> String {
        self.file.name()
    }

    pub(in crate::model) fn mapped(&self) -> &MappedFile {
        &self.file
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
        ModelError::Setting { file: self.name(), field: key.into(), found: found.into(), expected: expected.into() }
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
        number.map(Some).ok_or_else(|| self.wrong(key, "something else", "a whole number, not negative"))
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
        let Some(array) = self.array(key)? else { return Ok(None) };
        if array.kind != Kind::Text {
            return Err(self.wrong(key, "an array of something else", "an array of texts"));
        }
        let mut cursor = Cursor { file: &self.file, at: array.bytes.start, what: format!("array `{key}`") };
        (0..array.count).map(|_| cursor.text()).collect::<Result<_, _>>().map(Some)
    }

    /// An array of numbers, as f64.
    ///
    /// # Errors
    /// If there is a value of another kind.
    pub fn numbers(&self, key: &str) -> Result<Option<Vec<f64>>, ModelError> {
        let Some(array) = self.array(key)? else { return Ok(None) };
        if matches!(array.kind, Kind::Text | Kind::Array) {
            return Err(self.wrong(key, "an array of something else", "an array of numbers"));
        }
        let mut cursor = Cursor { file: &self.file, at: array.bytes.start, what: format!("array `{key}`") };
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
        let end = self.tensors.values().map(|entry| entry.bytes.start).min();
        self.file.release(0..end.unwrap_or(usize::MAX));
    }
}

/// A place in the file, and what is being read there.
struct Cursor<'a> {
    file: &'a MappedFile,
    at: usize,
    what: String,
}

type Contents = (BTreeMap<String, Value>, BTreeMap<String, TensorEntry>);

impl<'a> Cursor<'a> {
    fn malformed(&self, reason: String) -> ModelError {
        ModelError::Malformed { file: self.file.name(), reason }
    }

    fn cut(&self, expected: u64) -> ModelError {
        let found = self.file.bytes().len() as u64;
        ModelError::Truncated { file: self.file.name(), what: self.what.clone(), expected, found }
    }

    fn left(&self) -> usize {
        self.file.bytes().len().saturating_sub(self.at)
    }

    fn take(&mut self, count: u64) -> Result<&'a [u8], ModelError> {
        let end = usize::try_from(count).ok().and_then(|count| self.at.checked_add(count));
        match end.and_then(|end| self.file.bytes().get(self.at..end)) {
            Some(bytes) => {
                self.at += bytes.len();
                Ok(bytes)
            }
            None => Err(self.cut((self.at as u64).saturating_add(count))),
        }
    }

    /// A little-endian number of up to eight bytes.
    fn number(&mut self, size: usize) -> Result<u64, ModelError> {
        let mut wide = [0; 8];
        wide[..size].copy_from_slice(self.take(size as u64)?);
        Ok(u64::from_le_bytes(wide))
    }

    fn text(&mut self) -> Result<&'a str, ModelError> {
        let length = self.number(8)?;
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes).map_err(|_| self.malformed(format!("a text in {} is not UTF-8", self.what)))
    }

    /// How many things are announced, held against the bytes that they need at least.
    fn count(&mut self, least_bytes: usize) -> Result<usize, ModelError> {
        let count = self.number(8)?;
        let most = (self.left() / least_bytes) as u64;
        if count > most {
            return Err(self.cut((self.at as u64).saturating_add(count.saturating_mul(least_bytes as u64))));
        }
        Ok(count as usize)
    }

    fn value(&mut self, kind: Kind) -> Result<Value, ModelError> {
        Ok(match kind {
            Kind::Unsigned(size) => Value::Unsigned(self.number(size)?),
            Kind::Signed(size) => {
                // Moves the sign bit to the top and back, so that it fills the width.
                let shift = 64 - 8 * size as u32;
                Value::Signed((self.number(size)? << shift) as i64 >> shift)
            }
            Kind::Float(4) => Value::Float(f64::from(f32::from_bits(self.number(4)? as u32))),
            Kind::Float(_) => Value::Float(f64::from_bits(self.number(8)?)),
            Kind::Bool => Value::Bool(self.number(1)? != 0),
            Kind::Text => Value::Text(self.text()?.to_string()),
            Kind::Array => Value::Array(self.array()?),
        })
    }

    fn kind(&mut self) -> Result<Kind, ModelError> {
        let number = self.number(4)? as u32;
        Kind::of(number).ok_or_else(|| self.malformed(format!("{} has the unknown type {number}", self.what)))
    }

    /// Steps over an array and notes where it lies.
    fn array(&mut self) -> Result<Array, ModelError> {
        let kind = self.kind()?;
        if kind == Kind::Array {
            return Err(self.malformed(format!("{} is an array of arrays", self.what)));
        }
        let count = self.count(kind.least_bytes())?;
        let start = self.at;
        match kind {
            Kind::Text => {
                for _ in 0..count {
                    let length = self.number(8)?;
                    self.take(length)?;
                }
            }
            _ => {
                // `count` was held against the bytes that are left, so the product is below the file's length.
                self.take((count * kind.least_bytes()) as u64)?;
            }
        }
        Ok(Array { kind, count, bytes: start..self.at })
    }

    fn read_all(mut self) -> Result<Contents, ModelError> {
        self.what = "the header".into();
        let magic = self.take(4)?;
        if magic != b"GGUF" {
            return Err(self.malformed(format!("it begins with {magic:?}, expected `GGUF`")));
        }
        match self.number(4)? as u32 {
            2 | 3 => {}
            1 => return Err(self.malformed("it is GGUF version 1, expected 2 or 3".into())),
            swapped if matches!(swapped.swap_bytes(), 1..=3) => {
                return Err(self.malformed("its numbers are big-endian, expected little-endian".into()));
            }
            other => return Err(self.malformed(format!("it is GGUF version {other}, expected 2 or 3"))),
        }
        // A tensor takes at least a name's length, dimensions, type and offset; an entry a key's length, type and a byte.
        let tensors = self.count(24)?;
        let entries = self.count(13)?;
        let metadata = self.metadata(entries)?;
        let tensors = self.tensors(tensors, alignment(&metadata, self.file)?)?;
        Ok((metadata, tensors))
    }

    fn metadata(&mut self, count: usize) -> Result<BTreeMap<String, Value>, ModelError> {
        let mut metadata = BTreeMap::new();
        for number in 0..count {
            self.what = format!("metadata entry {number}");
            let key = self.name()?;
            self.what = format!("metadata `{key}`");
            let kind = self.kind()?;
            let value = self.value(kind)?;
            if metadata.insert(key.clone(), value).is_some() {
                return Err(self.malformed(format!("metadata `{key}` is there twice")));
            }
        }
        Ok(metadata)
    }

    fn name(&mut self) -> Result<String, ModelError> {
        let name = self.text()?;
        if name.is_empty() || name.len() > LONGEST_NAME {
            return Err(self.malformed(format!("the name of {} has {} bytes, expected 1 to {LONGEST_NAME}", self.what, name.len())));
        }
        Ok(name.to_string())
    }

    fn tensors(&mut self, count: usize, alignment: u64) -> Result<BTreeMap<String, TensorEntry>, ModelError> {
        let mut described = BTreeMap::new();
        for number in 0..count {
            self.what = format!("the description of tensor {number}");
            let name = self.name()?;
            let entry = self.description(&name)?;
            if described.insert(name.clone(), entry).is_some() {
                return Err(self.malformed(format!("tensor `{name}` is there twice")));
            }
        }
        let data = (self.at as u64).next_multiple_of(alignment);
        let tensors = described.into_iter().map(|(name, entry)| Ok((name.clone(), self.placed(&name, entry, data, alignment)?)));
        let tensors: BTreeMap<String, TensorEntry> = tensors.collect::<Result<_, ModelError>>()?;
        let mut sorted: Vec<_> = tensors.iter().filter(|(_, entry)| !entry.bytes.is_empty()).collect();
        sorted.sort_by_key(|(_, entry)| entry.bytes.start);
        if let Some([(one, _), (other, _)]) = sorted.array_windows().find(|[(_, one), (_, next)]| one.bytes.end > next.bytes.start) {
            return Err(self.malformed(format!("tensors `{one}` and `{other}` overlap")));
        }
        Ok(tensors)
    }

    /// Shape, encoding and offset of a tensor; the offset goes to `bytes.start` until the data's place is known.
    fn description(&mut self, name: &str) -> Result<TensorEntry, ModelError> {
        let dimensions = self.number(4)? as u32;
        if !(1..=MOST_DIMENSIONS).contains(&dimensions) {
            return Err(self.malformed(format!("tensor `{name}` has {dimensions} dimensions, expected 1 to {MOST_DIMENSIONS}")));
        }
        let mut shape = Vec::with_capacity(dimensions as usize);
        for _ in 0..dimensions {
            let size = self.number(8)?;
            shape.push(usize::try_from(size).map_err(|_| self.malformed(format!("tensor `{name}` has a side of {size}")))?);
        }
        shape.reverse();
        let ggml_type = self.number(4)? as u32;
        let offset = self.number(8)?;
        let start = usize::try_from(offset).map_err(|_| self.malformed(format!("tensor `{name}` lies at byte {offset} of the data")))?;
        Ok(TensorEntry { shape, ggml_type, bytes: start..start })
    }

    fn placed(&self, name: &str, entry: TensorEntry, data: u64, alignment: u64) -> Result<TensorEntry, ModelError> {
        let TensorEntry { shape, ggml_type, bytes } = entry;
        let offset = bytes.start as u64;
        if !offset.is_multiple_of(alignment) {
            return Err(self.malformed(format!("tensor `{name}` lies at byte {offset} of the data, expected a multiple of {alignment}")));
        }
        let impossible = || self.malformed(format!("tensor `{name}` has the impossible shape {shape:?}"));
        let rows = shape.iter().rev().skip(1).try_fold(1usize, |rows, n| rows.checked_mul(*n)).ok_or_else(impossible)?;
        let Some(start) = data.checked_add(offset) else { return Err(impossible()) };
        // A tensor of an encoding that is not read is an error only when it is asked for.
        let length = match Encoding::from_ggml_type(ggml_type) {
            None => 0,
            Some(encoding) => {
                let row = encoding.row_bytes(shape.last().copied().unwrap_or(0)).ok_or_else(|| {
                    let (values, _) = encoding.block();
                    self.malformed(format!("tensor `{name}` of shape {shape:?} is {}, expected rows of a multiple of {values}", encoding.name()))
                })?;
                row.checked_mul(rows).ok_or_else(impossible)?
            }
        };
        let end = start.checked_add(length as u64).ok_or_else(impossible)?;
        let found = self.file.bytes().len() as u64;
        if end > found {
            return Err(ModelError::Truncated { file: self.file.name(), what: format!("tensor `{name}`"), expected: end, found });
        }
        Ok(TensorEntry { shape, ggml_type, bytes: start as usize..end as usize })
    }
}

fn alignment(metadata: &BTreeMap<String, Value>, file: &MappedFile) -> Result<u64, ModelError> {
    match metadata.get("general.alignment") {
        None => Ok(32),
        Some(Value::Unsigned(n)) if n.is_power_of_two() && *n <= 1 << 20 => Ok(*n),
        Some(other) => Err(ModelError::Setting {
            file: file.name(),
            field: "general.alignment".into(),
            found: format!("{other:?}"),
            expected: "a power of two up to 1048576".into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::writer::{GgufWriter, Metadata};
    use super::*;

    /// A file with one of everything.
    fn whole() -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.gguf");
        let mut writer = GgufWriter::new("llama");
        writer.set("n", Metadata::U32(7));
        writer.set("flag", Metadata::Bool(true));
        writer.set("words", Metadata::Texts(vec!["a".into(), "bc".into()]));
        writer.set("scores", Metadata::F32s(vec![0.5, -1.0]));
        writer.tensor("one", &[3], Encoding::F32).unwrap();
        writer.tensor("two", &[2, 32], Encoding::Q4_0).unwrap();
        writer.write_f32(&path, |name| vec![1.0; if name == "one" { 3 } else { 64 }]).unwrap();
        std::fs::read(path).unwrap()
    }

    fn open(content: &[u8]) -> Result<GgufFile, ModelError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.gguf");
        std::fs::write(&path, content).unwrap();
        GgufFile::open(&path)
    }

    fn message(content: &[u8]) -> String {
        open(content).expect_err("malformed").to_string()
    }

    /// The file with the bytes that follow `mark` replaced.
    fn after(mark: &[u8], skip: usize, new: &[u8]) -> Vec<u8> {
        let mut content = whole();
        let at = content.windows(mark.len()).position(|part| part == mark).unwrap() + mark.len() + skip;
        content[at..at + new.len()].copy_from_slice(new);
        content
    }

    #[test]
    fn a_file_cut_before_its_last_tensors_end_is_cut_short() {
        let whole = whole();
        let end = open(&whole).unwrap().tensors()["two"].bytes.end;
        for length in 0..end {
            let error = open(&whole[..length]).expect_err("cut short");
            assert!(matches!(error, ModelError::Truncated { .. }), "{length}: {error}");
        }
        assert_eq!(
            message(&whole[..end - 1]),
            format!("`a.gguf` is cut short: tensor `two` ends at byte {end}, the file at byte {}", end - 1)
        );
        assert!(message(&whole[..120]).contains("is cut short: metadata"));
    }

    #[test]
    fn other_files_and_versions_are_refused_by_name() {
        let version = |number: u32| [b"GGUF", &number.to_le_bytes()[..], &[0; 16]].concat();
        assert!(message(b"PK\x03\x04 and so on").contains("it begins with [80, 75, 3, 4], expected `GGUF`"));
        assert!(message(&version(1)).contains("it is GGUF version 1, expected 2 or 3"));
        assert!(message(&version(9)).contains("it is GGUF version 9, expected 2 or 3"));
        assert!(message(&version(3u32.swap_bytes())).contains("its numbers are big-endian"));
        assert!(open(&version(2)).unwrap().tensors().is_empty());
    }

    #[test]
    fn counts_beyond_the_file_are_refused_before_anything_is_allocated() {
        let many = u64::MAX.to_le_bytes();
        let mut tensors = whole();
        tensors[8..16].copy_from_slice(&many);
        let mut entries = whole();
        entries[16..24].copy_from_slice(&many);
        for content in [tensors, entries, after(b"words", 8, &many), after(b"words", 16, &many), after(b"one", 4, &many)] {
            let error = open(&content).expect_err("too many");
            assert!(matches!(error, ModelError::Truncated { .. } | ModelError::Malformed { .. }), "{error}");
        }
    }

    #[test]
    fn lies_about_tensors_are_refused_by_tensor() {
        for (content, expected) in [
            (after(b"one", 0, &[9]), "tensor `one` has 9 dimensions, expected 1 to 4"),
            (after(b"one", 0, &[0]), "tensor `one` has 0 dimensions, expected 1 to 4"),
            (after(b"two", 4, &[33]), "tensor `two` of shape [2, 33] is Q4_0, expected rows of a multiple of 32"),
            (after(b"two", 12, &u64::MAX.to_le_bytes()), "tensor `two` has the impossible shape"),
            (after(b"two", 24, &[1]), "tensor `two` lies at byte 1 of the data, expected a multiple of 32"),
            (after(b"two", 24, &[0]), "tensors `one` and `two` overlap"),
            (after(b"\x03\0\0\0\0\0\0\0tw", 0, b"\xff"), "is not UTF-8"),
            (after(b"words", 4, &[9]), "metadata `words` is an array of arrays"),
            (after(b"words", 0, &[99]), "metadata `words` has the unknown type 99"),
        ] {
            let message = message(&content);
            assert!(message.starts_with("`a.gguf` is malformed: ") && message.contains(expected), "{expected}: {message}");
        }
    }

    #[test]
    fn values_of_another_kind_are_errors_that_name_the_key() {
        let file = open(&whole()).unwrap();
        for error in [
            file.text("n").map(|_| ()).unwrap_err(),
            file.unsigned("flag").map(|_| ()).unwrap_err(),
            file.float("flag").map(|_| ()).unwrap_err(),
            file.flag("n").map(|_| ()).unwrap_err(),
            file.texts("scores").map(|_| ()).unwrap_err(),
            file.numbers("words").map(|_| ()).unwrap_err(),
            file.numbers("n").map(|_| ()).unwrap_err(),
        ] {
            assert!(matches!(error, ModelError::Setting { .. }), "{error}");
        }
        assert_eq!((file.text("gone").unwrap(), file.array_length("words"), file.array_length("gone")), (None, 2, 0));
    }

    #[test]
    fn a_tensor_of_an_unknown_encoding_is_listed_all_the_same() {
        let file = open(&after(b"one", 12, &[39])).unwrap();
        assert_eq!((file.tensors()["one"].ggml_type, file.tensors()["one"].bytes.len()), (39, 0));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        /// Whatever the bytes, an error or a file all of whose contents can be read; never a panic.
        #[test]
        fn no_change_of_bytes_makes_the_reader_panic(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
            length in any::<prop::sample::Index>(),
            cut in any::<bool>(),
        ) {
            let mut content = whole();
            for (at, byte) in changes {
                let at = at.index(content.len());
                content[at] = byte;
            }
            if cut {
                content.truncate(length.index(content.len()));
            }
            if let Ok(file) = open(&content) {
                for key in file.metadata().keys() {
                    let _ = (file.texts(key), file.numbers(key), file.unsigned(key), file.float(key));
                }
                for entry in file.tensors().values() {
                    prop_assert!(file.mapped().bytes().get(entry.bytes.clone()).is_some());
                }
                let _ = super::super::config::read(&file);
                let _ = super::super::tokenizer::read(&file);
            }
        }
    }
}

//! Parses the headers of a GGUF file without trusting them.
//!
//! Layout (versions 2 and 3, little-endian): `GGUF`, u32 version, u64 number of tensors, u64 number
//! of metadata entries; entries (key, u32 type, value); tensors (name, u32 number of dimensions,
//! u64 each, u32 encoding, u64 offset); padding; the data. Every count is checked against the bytes
//! that are left before anything is allocated, and arrays stay in the file until they are needed,
//! so a file cannot cause an allocation larger than itself.

use std::collections::BTreeMap;
use std::ops::Range;

use super::block_types;
use super::value::{Array, Kind, TensorEntry, Value};
use crate::model::error::ModelError;
use crate::model::mapped::MappedFile;

/// The limit in ggml.
const MOST_DIMENSIONS: u32 = 4;
/// The limit in ggml is 64; names of models are shorter.
const LONGEST_NAME: usize = 1024;

/// A position in the file, and a name for what is being read there.
pub(super) struct Cursor<'a> {
    pub file: &'a MappedFile,
    pub at: usize,
    pub what: String,
}

type Metadata = BTreeMap<String, Value>;
type Places = Vec<(String, Range<usize>)>;

/// What the headers say.
pub(super) struct Contents {
    /// The metadata by key.
    pub metadata: Metadata,
    /// Where the type and the value of each key lie, in the order of the file.
    pub places: Places,
    /// The tensors by name.
    pub tensors: BTreeMap<String, TensorEntry>,
}

impl<'a> Cursor<'a> {
    fn malformed(&self, reason: String) -> ModelError {
        ModelError::Malformed {
            file: self.file.name(),
            reason,
        }
    }

    fn cut(&self, expected: u64) -> ModelError {
        let found = self.file.bytes().len() as u64;
        ModelError::Truncated {
            file: self.file.name(),
            what: self.what.clone(),
            expected,
            found,
        }
    }

    fn left(&self) -> usize {
        self.file.bytes().len().saturating_sub(self.at)
    }

    fn take(&mut self, count: u64) -> Result<&'a [u8], ModelError> {
        let end = usize::try_from(count)
            .ok()
            .and_then(|count| self.at.checked_add(count));
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

    pub fn text(&mut self) -> Result<&'a str, ModelError> {
        let length = self.number(8)?;
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes)
            .map_err(|_| self.malformed(format!("a text in {} is not UTF-8", self.what)))
    }

    /// A number of items, checked against the bytes that they need at least.
    fn count(&mut self, least_bytes: usize) -> Result<usize, ModelError> {
        let count = self.number(8)?;
        let most = (self.left() / least_bytes) as u64;
        if count > most {
            return Err(
                self.cut((self.at as u64).saturating_add(count.saturating_mul(least_bytes as u64)))
            );
        }
        Ok(count as usize)
    }

    pub fn value(&mut self, kind: Kind) -> Result<Value, ModelError> {
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
        Kind::of(number)
            .ok_or_else(|| self.malformed(format!("{} has the unknown type {number}", self.what)))
    }

    /// Skips an array and records its position.
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
                // `count` was checked against the bytes that are left, so the product is less than
                // the file's length.
                self.take((count * kind.least_bytes()) as u64)?;
            }
        }
        Ok(Array {
            kind,
            count,
            bytes: start..self.at,
        })
    }

    pub fn read_all(mut self) -> Result<Contents, ModelError> {
        self.what = "the header".into();
        let magic = self.take(4)?;
        if magic != b"GGUF" {
            return Err(self.malformed(format!(
                "it begins with `{}`, expected `GGUF`",
                magic.escape_ascii()
            )));
        }
        match self.number(4)? as u32 {
            2 | 3 => {}
            1 => return Err(self.malformed("it is GGUF version 1, expected 2 or 3".into())),
            swapped if matches!(swapped.swap_bytes(), 1..=3) => {
                return Err(
                    self.malformed("its numbers are big-endian, expected little-endian".into())
                );
            }
            other => {
                return Err(self.malformed(format!("it is GGUF version {other}, expected 2 or 3")));
            }
        }
        // A tensor has at least the length of its name, dimensions, type and offset; an entry at
        // least the length of its key, a type and a byte.
        let tensors = self.count(24)?;
        let entries = self.count(13)?;
        let (metadata, places) = self.metadata(entries)?;
        let tensors = self.tensors(tensors, alignment(&metadata, self.file)?)?;
        Ok(Contents {
            metadata,
            places,
            tensors,
        })
    }

    fn metadata(&mut self, count: usize) -> Result<(Metadata, Places), ModelError> {
        let mut metadata = BTreeMap::new();
        let mut places = Vec::new();
        for number in 0..count {
            self.what = format!("metadata entry {number}");
            let key = self.name()?;
            self.what = format!("metadata `{key}`");
            let start = self.at;
            let kind = self.kind()?;
            let value = self.value(kind)?;
            places.push((key.clone(), start..self.at));
            if metadata.insert(key.clone(), value).is_some() {
                return Err(self.malformed(format!("metadata `{key}` is there twice")));
            }
        }
        Ok((metadata, places))
    }

    fn name(&mut self) -> Result<String, ModelError> {
        let name = self.text()?;
        if name.is_empty() || name.len() > LONGEST_NAME {
            return Err(self.malformed(format!(
                "the name of {} has {} bytes, expected 1 to {LONGEST_NAME}",
                self.what,
                name.len()
            )));
        }
        Ok(name.to_string())
    }

    fn tensors(
        &mut self,
        count: usize,
        alignment: u64,
    ) -> Result<BTreeMap<String, TensorEntry>, ModelError> {
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
        let tensors = described
            .into_iter()
            .map(|(name, entry)| Ok((name.clone(), self.placed(&name, entry, data, alignment)?)));
        let tensors: BTreeMap<String, TensorEntry> = tensors.collect::<Result<_, ModelError>>()?;
        match overlap(&tensors) {
            Some((one, other)) => {
                Err(self.malformed(format!("tensors `{one}` and `{other}` overlap")))
            }
            None => Ok(tensors),
        }
    }

    /// Shape, encoding and offset of a tensor; `bytes.start` is the offset until the position of
    /// the data is known.
    fn description(&mut self, name: &str) -> Result<TensorEntry, ModelError> {
        let dimensions = self.number(4)? as u32;
        if !(1..=MOST_DIMENSIONS).contains(&dimensions) {
            return Err(self.malformed(format!(
                "tensor `{name}` has {dimensions} dimensions, expected 1 to {MOST_DIMENSIONS}"
            )));
        }
        let mut shape = Vec::with_capacity(dimensions as usize);
        for _ in 0..dimensions {
            let size = self.number(8)?;
            shape
                .push(usize::try_from(size).map_err(|_| {
                    self.malformed(format!("tensor `{name}` has a side of {size}"))
                })?);
        }
        shape.reverse();
        let ggml_type = self.number(4)? as u32;
        let offset = self.number(8)?;
        let start = usize::try_from(offset).map_err(|_| {
            self.malformed(format!("tensor `{name}` lies at byte {offset} of the data"))
        })?;
        Ok(TensorEntry {
            shape,
            ggml_type,
            bytes: start..start,
            part: 0,
        })
    }

    /// The size of a tensor in bytes; 0 for an unknown encoding, which is an error only if the
    /// tensor is used.
    fn length(&self, name: &str, shape: &[usize], ggml_type: u32) -> Result<usize, ModelError> {
        let impossible = || {
            self.malformed(format!(
                "tensor `{name}` has the impossible shape {shape:?}"
            ))
        };
        let mut leading = shape.iter().rev().skip(1);
        let rows = leading.try_fold(1usize, |rows, n| rows.checked_mul(*n));
        let rows = rows.ok_or_else(impossible)?;
        let Some((values, bytes)) = block_types::block(ggml_type) else {
            return Ok(0);
        };
        let columns = shape.last().copied().unwrap_or(0);
        if !columns.is_multiple_of(values) {
            let kind = block_types::name(ggml_type);
            let reason = format!(
                "tensor `{name}` of shape {shape:?} is {kind}, expected rows of a multiple of {values}"
            );
            return Err(self.malformed(reason));
        }
        let row = (columns / values).checked_mul(bytes);
        row.and_then(|row| row.checked_mul(rows))
            .ok_or_else(impossible)
    }

    /// The bytes of a tensor in its file, given the start of the data.
    fn placed(
        &self,
        name: &str,
        entry: TensorEntry,
        data: u64,
        alignment: u64,
    ) -> Result<TensorEntry, ModelError> {
        let TensorEntry {
            shape,
            ggml_type,
            bytes,
            part,
        } = entry;
        let offset = bytes.start as u64;
        if !offset.is_multiple_of(alignment) {
            return Err(self.malformed(format!("tensor `{name}` lies at byte {offset} of the data, expected a multiple of {alignment}")));
        }
        let impossible = || {
            self.malformed(format!(
                "tensor `{name}` has the impossible shape {shape:?}"
            ))
        };
        let start = data.checked_add(offset).ok_or_else(impossible)?;
        let length = self.length(name, &shape, ggml_type)?;
        let end = start.checked_add(length as u64).ok_or_else(impossible)?;
        let found = self.file.bytes().len() as u64;
        if end > found {
            return Err(ModelError::Truncated {
                file: self.file.name(),
                what: format!("tensor `{name}`"),
                expected: end,
                found,
            });
        }
        Ok(TensorEntry {
            shape,
            ggml_type,
            bytes: start as usize..end as usize,
            part,
        })
    }
}

/// Two tensors that share bytes of the file.
fn overlap(tensors: &BTreeMap<String, TensorEntry>) -> Option<(&str, &str)> {
    let mut sorted: Vec<_> = tensors
        .iter()
        .filter(|(_, entry)| !entry.bytes.is_empty())
        .collect();
    sorted.sort_by_key(|(_, entry)| entry.bytes.start);
    let mut neighbours = sorted.array_windows();
    let [(one, _), (other, _)] =
        neighbours.find(|[(_, one), (_, next)]| one.bytes.end > next.bytes.start)?;
    Some((one, other))
}

fn alignment(metadata: &BTreeMap<String, Value>, file: &MappedFile) -> Result<u64, ModelError> {
    match metadata.get("general.alignment") {
        None => Ok(32),
        Some(Value::Unsigned(n)) if n.is_power_of_two() && *n <= 1 << 20 => Ok(*n),
        Some(_) => Err(ModelError::Setting {
            file: file.name(),
            field: "general.alignment".into(),
            found: "another number or no number".into(),
            expected: "a power of two up to 1048576".into(),
        }),
    }
}

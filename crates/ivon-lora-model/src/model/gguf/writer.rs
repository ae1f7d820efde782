//! Metadata and tensors → a GGUF file (version 3), streamed; for adapters, test models and
//! converted weights.

use std::io::{self, Write};
use std::path::Path;

use super::quantize::encodable;
use crate::files::{self, FileError};
use crate::model::encoding::Encoding;

/// The alignment of tensors: GGUF's default, which need not be written.
const ALIGNMENT: u64 = 32;

/// A metadata value to be written.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Metadata {
    U32(u32),
    F32(f32),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    I32s(Vec<i32>),
    F32s(Vec<f32>),
    /// The type and the value of another file's key, as they lie there
    /// ([`GgufFile::stored_metadata`](super::GgufFile::stored_metadata)).
    Stored(Vec<u8>),
}

/// A file to be written: its metadata and the descriptions of its tensors.
#[derive(Clone, Debug, Default)]
pub struct GgufWriter {
    metadata: Vec<(String, Metadata)>,
    tensors: Vec<Planned>,
}

#[derive(Clone, Debug)]
struct Planned {
    name: String,
    shape: Vec<usize>,
    encoding: Encoding,
    bytes: u64,
}

impl Metadata {
    /// ggml's number for the type; none if it is stored with the value.
    fn number(&self) -> Option<u32> {
        Some(match self {
            Self::U32(_) => 4,
            Self::F32(_) => 6,
            Self::Bool(_) => 7,
            Self::Text(_) => 8,
            Self::Texts(_) | Self::I32s(_) | Self::F32s(_) => 9,
            Self::Stored(_) => return None,
        })
    }

    /// Writes type and value.
    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        if let Some(number) = self.number() {
            out.write_all(&number.to_le_bytes())?;
        }
        match self {
            Self::Stored(bytes) => out.write_all(bytes),
            Self::U32(number) => out.write_all(&number.to_le_bytes()),
            Self::F32(number) => out.write_all(&number.to_le_bytes()),
            Self::Bool(flag) => out.write_all(&[u8::from(*flag)]),
            Self::Text(text) => write_text(out, text),
            Self::Texts(texts) => write_array(out, 8, texts, |out, text| write_text(out, text)),
            Self::I32s(numbers) => write_array(out, 5, numbers, |out, number| {
                out.write_all(&number.to_le_bytes())
            }),
            Self::F32s(numbers) => write_array(out, 6, numbers, |out, number| {
                out.write_all(&number.to_le_bytes())
            }),
        }
    }
}

fn write_text(out: &mut impl Write, text: &str) -> io::Result<()> {
    out.write_all(&(text.len() as u64).to_le_bytes())?;
    out.write_all(text.as_bytes())
}

fn write_array<W: Write, T>(
    out: &mut W,
    kind: u32,
    values: &[T],
    each: impl Fn(&mut W, &T) -> io::Result<()>,
) -> io::Result<()> {
    out.write_all(&kind.to_le_bytes())?;
    out.write_all(&(values.len() as u64).to_le_bytes())?;
    values.iter().try_for_each(|value| each(out, value))
}

impl GgufWriter {
    /// An empty file for a model of this architecture.
    pub fn new(architecture: &str) -> Self {
        let mut writer = Self::default();
        writer.set("general.architecture", Metadata::Text(architecture.into()));
        writer
    }

    /// Adds an entry, or replaces the one with the same key.
    pub fn set(&mut self, key: &str, value: Metadata) {
        self.metadata.retain(|(known, _)| known != key);
        self.metadata.push((key.into(), value));
    }

    /// Declares a tensor by its GGUF name, rows first; tensors are written in the order of
    /// declaration.
    ///
    /// # Errors
    /// If its rows are not whole blocks, or it is already declared.
    pub fn tensor(
        &mut self,
        name: &str,
        shape: &[usize],
        encoding: Encoding,
    ) -> Result<(), String> {
        let Some(bytes) = encoded_bytes(shape, encoding) else {
            let encoding = encoding.name();
            return Err(format!(
                "tensor `{name}` of shape {shape:?} cannot be {encoding}"
            ));
        };
        if self.tensors.iter().any(|planned| planned.name == name) {
            return Err(format!("tensor `{name}` is there twice"));
        }
        self.tensors.push(Planned {
            name: name.into(),
            shape: shape.into(),
            encoding,
            bytes: bytes as u64,
        });
        Ok(())
    }

    /// Writes the file; `fill` is called for each tensor and writes its encoded bytes.
    ///
    /// # Errors
    /// If `fill` fails, the file cannot be written, or `fill` writes another number of bytes than
    /// declared.
    pub fn write(
        &self,
        path: &Path,
        mut fill: impl FnMut(&str, &mut dyn Write) -> io::Result<()>,
    ) -> Result<(), FileError> {
        files::write_with(path, |out| {
            let header = self.header()?;
            out.write_all(&header)?;
            pad(out, header.len() as u64)?;
            for planned in &self.tensors {
                let mut counted = CountingWriter {
                    out: &mut *out,
                    written: 0,
                };
                fill(&planned.name, &mut counted)?;
                if counted.written != planned.bytes {
                    let reason = format!(
                        "tensor `{}` got {} bytes, expected {}",
                        planned.name, counted.written, planned.bytes
                    );
                    return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
                }
                pad(out, planned.bytes)?;
            }
            Ok(())
        })
    }

    /// [`GgufWriter::write`] with numbers in f32 that are encoded row by row.
    ///
    /// # Errors
    /// As [`GgufWriter::write`]; also for a read-only encoding.
    pub fn write_f32(
        &self,
        path: &Path,
        mut values: impl FnMut(&str) -> Vec<f32>,
    ) -> Result<(), FileError> {
        self.write(path, |name, out| {
            let encoding = self
                .tensors
                .iter()
                .find(|planned| planned.name == name)
                .map(|planned| planned.encoding);
            let encode = encoding
                .and_then(encodable)
                .ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported))?;
            let mut bytes = Vec::new();
            encode(&values(name), &mut bytes);
            out.write_all(&bytes)
        })
    }

    fn header(&self) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        out.write_all(b"GGUF")?;
        out.write_all(&3u32.to_le_bytes())?;
        out.write_all(&(self.tensors.len() as u64).to_le_bytes())?;
        out.write_all(&(self.metadata.len() as u64).to_le_bytes())?;
        for (key, value) in &self.metadata {
            write_text(&mut out, key)?;
            value.write(&mut out)?;
        }
        let mut offset = 0u64;
        for planned in &self.tensors {
            write_text(&mut out, &planned.name)?;
            out.write_all(&(planned.shape.len() as u32).to_le_bytes())?;
            for side in planned.shape.iter().rev() {
                out.write_all(&(*side as u64).to_le_bytes())?;
            }
            out.write_all(&planned.encoding.ggml_type().to_le_bytes())?;
            out.write_all(&offset.to_le_bytes())?;
            offset += planned.bytes.next_multiple_of(ALIGNMENT);
        }
        Ok(out)
    }
}

/// The size of a tensor in bytes; none if its rows are not whole blocks, or it is too large.
fn encoded_bytes(shape: &[usize], encoding: Encoding) -> Option<usize> {
    let mut outer = shape.iter().rev().skip(1);
    let rows = outer.try_fold(1usize, |rows, n| rows.checked_mul(*n))?;
    let row = encoding.row_bytes(shape.last().copied().unwrap_or(1))?;
    row.checked_mul(rows)
}

/// Zeros up to the next aligned position after `length` bytes.
fn pad(out: &mut impl Write, length: u64) -> io::Result<()> {
    out.write_all(
        &[0; ALIGNMENT as usize][..(length.next_multiple_of(ALIGNMENT) - length) as usize],
    )
}

struct CountingWriter<'a, W> {
    out: &'a mut W,
    written: u64,
}

impl<W: Write> Write for CountingWriter<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::super::reader::GgufFile;
    use super::super::value::Value;
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.gguf");
        let mut writer = GgufWriter::new("llama");
        writer.set("n", Metadata::U32(7));
        writer.set("n", Metadata::U32(8));
        writer.set("x", Metadata::F32(0.5));
        writer.set("yes", Metadata::Bool(true));
        writer.set("words", Metadata::Texts(vec!["a".into(), "ö".into()]));
        writer.set("kinds", Metadata::I32s(vec![-1, 2]));
        writer.tensor("one", &[3], Encoding::F32).unwrap();
        writer.tensor("two", &[2, 32], Encoding::Q8_0).unwrap();
        let values = |name: &str| {
            if name == "one" {
                vec![1.0, -2.0, 3.5]
            } else {
                (0..64).map(|i| i as f32 - 32.0).collect()
            }
        };
        writer.write_f32(&path, values).unwrap();
        let file = GgufFile::open(&path).unwrap();
        assert_eq!(file.text("general.architecture").unwrap(), Some("llama"));
        assert_eq!(
            (
                file.unsigned("n").unwrap(),
                file.float("x").unwrap(),
                file.flag("yes").unwrap()
            ),
            (Some(8), Some(0.5), Some(true))
        );
        assert_eq!(file.texts("words").unwrap().unwrap(), ["a", "ö"]);
        assert_eq!(file.numbers("kinds").unwrap().unwrap(), [-1.0, 2.0]);
        assert!(matches!(file.metadata()["n"], Value::Unsigned(8)));
        let one = &file.tensors()["one"];
        assert_eq!(
            (one.shape.as_slice(), one.bytes.len()),
            ([3].as_slice(), 12)
        );
        assert_eq!(file.bytes(one)[..4], 1f32.to_le_bytes());
        assert_eq!(
            (
                file.tensors()["two"].shape.as_slice(),
                file.tensors()["two"].bytes.len()
            ),
            ([2, 32].as_slice(), 68)
        );
    }

    #[test]
    fn a_tensor_with_too_few_bytes_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.gguf");
        let mut writer = GgufWriter::new("llama");
        writer.tensor("one", &[3], Encoding::F32).unwrap();
        let message = writer
            .write(&path, |_, out| out.write_all(&[0; 8]))
            .unwrap_err()
            .to_string();
        assert!(
            message.ends_with("tensor `one` got 8 bytes, expected 12"),
            "{message}"
        );
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn impossible_tensors_are_refused_when_announced() {
        let mut writer = GgufWriter::new("llama");
        assert_eq!(
            writer.tensor("a", &[2, 33], Encoding::Q8_0).unwrap_err(),
            "tensor `a` of shape [2, 33] cannot be Q8_0"
        );
        writer.tensor("a", &[2], Encoding::F32).unwrap();
        assert_eq!(
            writer.tensor("a", &[2], Encoding::F32).unwrap_err(),
            "tensor `a` is there twice"
        );
    }
}

//! A base in GGUF and an adapter → a GGUF file of the weights W + s · B A, which needs no adapter.
//!
//! Metadata, tokenizer and what is no matrix stay as the base's file has them; all matrices are
//! written in one encoding. Rows and columns keep the order of that file.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::MergeSummary;
use super::delta::Delta;
use crate::lora::{Adapter, LoraError};
use crate::model::gguf::quantize::quantize;
use crate::model::gguf::{GgufFile, GgufWriter, Metadata, TensorEntry};
use crate::model::{Change, Checkpoint, Encoding, Order, StoredTensor};

const FORMAT: &str = "merged GGUF files";

/// Keys of the base's file that are not those of the merged one.
const OWN_KEYS: [&str; 3] = [
    "general.alignment",
    "general.file_type",
    "general.architecture",
];

/// Writes a base that is a GGUF file with the adapter merged in to the file `target`; matrices become
/// `encoding`, which is one that is written.
///
/// # Errors
/// [`LoraError::NotPortable`] if the base is no GGUF file, or the adapter changes embeddings or output
/// layer or is no fixed change of weights; if a matrix of the base cannot be read, or the file cannot
/// be written.
pub fn merge_into_gguf(
    target: &Path,
    checkpoint: &Checkpoint,
    adapter: &Adapter,
    encoding: Encoding,
) -> Result<MergeSummary, LoraError> {
    let refused = |what| LoraError::NotPortable {
        format: FORMAT,
        what,
    };
    let base = checkpoint.gguf();
    let base = base.ok_or_else(|| refused("a base that is no GGUF file"))?;
    let deltas = deltas(checkpoint, adapter)?;
    let writer = plan(base, checkpoint, encoding)?;
    let mut summary = MergeSummary {
        tensors: base.tensors().len(),
        merged: deltas.len(),
        bytes: 0,
        files: 1,
        largest_change: 0.0,
        untied: false,
    };
    let mut failed = None;
    let written = writer.write(target, |name, out| {
        let Some(entry) = base.tensors().get(name) else {
            return Err(io::Error::from(io::ErrorKind::InvalidData));
        };
        let delta = deltas.get(name);
        let bytes = match written_encoding(entry, encoding) {
            Some(encoding) => encoded(base, name, entry, delta, encoding),
            None => Ok((base.bytes(entry).to_vec(), 0.0)),
        };
        let (bytes, change) = bytes.map_err(|error| {
            failed = Some(error);
            io::Error::from(io::ErrorKind::InvalidData)
        })?;
        summary.largest_change = summary.largest_change.max(change);
        summary.bytes += bytes.len() as u64;
        out.write_all(&bytes)
    });
    match failed {
        Some(error) => Err(error),
        None => Ok(written.map(|()| summary)?),
    }
}

/// The change of a tensor of the file, and the order in which it has rows and columns.
struct OrderedDelta {
    delta: Delta,
    order: Order,
}

/// The changes by the names of the tensors in GGUF.
fn deltas(
    checkpoint: &Checkpoint,
    adapter: &Adapter,
) -> Result<BTreeMap<String, OrderedDelta>, LoraError> {
    let refused = |what| LoraError::NotPortable {
        format: FORMAT,
        what,
    };
    if adapter.has_sides() {
        return Err(LoraError::Contextual);
    }
    if adapter.tables().next().is_some() {
        return Err(refused("changes of embeddings or output layer"));
    }
    let mut deltas = BTreeMap::new();
    for (path, pair) in adapter.pairs() {
        let name = path.tensor("weight");
        let delta = Delta::of_pair(adapter, path, pair, &name)?;
        let named = checkpoint.config().in_gguf(path);
        let (name, order) = named.ok_or_else(|| refused("a layer without a name there"))?;
        deltas.insert(name, OrderedDelta { delta, order });
    }
    Ok(deltas)
}

/// The encoding in which a tensor is written anew: matrices whose rows are whole blocks. Everything else
/// stays as it is.
fn written_encoding(entry: &TensorEntry, encoding: Encoding) -> Option<Encoding> {
    let [_, columns] = entry.shape[..] else {
        return None;
    };
    let is_whole = columns.is_multiple_of(encoding.block().0);
    is_whole.then_some(encoding)
}

/// Metadata and tensors of the file to be written.
fn plan(
    base: &GgufFile,
    checkpoint: &Checkpoint,
    encoding: Encoding,
) -> Result<GgufWriter, LoraError> {
    let malformed = |reason: String| LoraError::Malformed {
        path: base.name().into(),
        expected: "a GGUF file whose tensors can be written again",
        reason,
    };
    let architecture = base.text("general.architecture").ok().flatten();
    let architecture = architecture.or(checkpoint.config().gguf_architecture());
    let mut writer = GgufWriter::new(architecture.unwrap_or_default());
    for (key, bytes) in base.stored_metadata() {
        if !OWN_KEYS.contains(&key) && !key.starts_with("split.") {
            writer.set(key, Metadata::Stored(bytes.to_vec()));
        }
    }
    if let Some(number) = file_type(encoding) {
        writer.set("general.file_type", Metadata::U32(number));
    }
    for (name, entry) in base.tensors() {
        let own = Encoding::from_ggml_type(entry.ggml_type);
        let written = written_encoding(entry, encoding).or(own);
        let written = written.ok_or_else(|| {
            malformed(format!("tensor `{name}` has an encoding that is not read"))
        })?;
        writer
            .tensor(name, &entry.shape, written)
            .map_err(malformed)?;
    }
    Ok(writer)
}

/// llama.cpp's number for a file whose matrices are mostly of this encoding.
fn file_type(encoding: Encoding) -> Option<u32> {
    match encoding {
        Encoding::F32 => Some(0),
        Encoding::F16 => Some(1),
        Encoding::Q4_0 => Some(2),
        Encoding::Q8_0 => Some(7),
        Encoding::BF16 => Some(32),
        _ => None,
    }
}

/// A matrix of the file with its change in an encoding, and the largest change of a weight.
fn encoded(
    base: &GgufFile,
    name: &str,
    entry: &TensorEntry,
    delta: Option<&OrderedDelta>,
    encoding: Encoding,
) -> Result<(Vec<u8>, f32), LoraError> {
    let malformed = |reason: &str| LoraError::Malformed {
        path: base.name().into(),
        expected: "a GGUF file whose tensors can be written again",
        reason: format!("tensor `{name}` {reason}"),
    };
    let stored_in = Encoding::from_ggml_type(entry.ggml_type);
    let stored_in = stored_in.ok_or_else(|| malformed("has an encoding that is not read"))?;
    let shape = entry.shape.clone();
    let bytes = base.bytes(entry);
    let stored = StoredTensor::new(name.into(), shape, stored_in, bytes, Change::default());
    let stored = stored.ok_or_else(|| malformed("has another length than its shape says"))?;
    if delta.is_none() && stored_in == encoding {
        return Ok((bytes.to_vec(), 0.0));
    }
    let mut values = stored.to_f32();
    let mut largest = 0.0;
    if let Some(OrderedDelta { delta, order }) = delta {
        let [rows, columns] = delta.shape();
        if entry.shape != [rows, columns] {
            return Err(LoraError::Shape {
                name: name.into(),
                expected: vec![rows, columns],
                found: entry.shape.clone(),
            });
        }
        let mut ordered = moved(&values, columns, |row, column| {
            order.stored_row(row) * columns + order.stored_column(column)
        });
        largest = delta.change_rows(0..rows, &mut ordered);
        for row in 0..rows {
            for column in 0..columns {
                let place = order.stored_row(row) * columns + order.stored_column(column);
                values[place] = ordered[row * columns + column];
            }
        }
    }
    if values.iter().any(|value| !value.is_finite()) {
        return Err(LoraError::NotFinite {
            name: name.into(),
            rounded: false,
        });
    }
    let mut out = Vec::new();
    match quantize(encoding, &values, &mut out) {
        true => Ok((out, largest)),
        false => Err(malformed("cannot be written in this encoding")),
    }
}

/// Values whose places are others.
fn moved(values: &[f32], columns: usize, from: impl Fn(usize, usize) -> usize) -> Vec<f32> {
    let places = 0..values.len();
    places
        .map(|place| values[from(place / columns, place % columns)])
        .collect()
}

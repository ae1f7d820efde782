//! Base and adapter → a Hugging Face folder with the weights W + s · B A, which needs no adapter;
//! with magnitudes, row i of the sum is scaled to the length m_i. A base with one table for both ends
//! gets two if the adapter does not change both ends alike.
//!
//! Sums are computed in f32 and rounded once, at the end. Tensors are processed in strips of rows,
//! so the memory does not grow with the model.

mod ends;
mod delta;
mod into_gguf;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::path::Path;

use serde_json::{Map, Value, json};

use self::delta::Delta;
use self::ends::Ends;
pub use self::into_gguf::merge_into_gguf;
use super::companions::Companions;
use super::store::header;
use super::{Adapter, LoraError, Precision};
use crate::files;
use crate::model::StoredTensor;

/// The number of values in a strip of rows.
const STRIP: usize = 1 << 20;

/// The weights of a base, by their Hugging Face names.
pub trait MergeBase {
    /// All names, sorted.
    fn names(&self) -> Vec<String>;

    /// The name under which a tensor is written.
    fn written_name<'a>(&'a self, name: &'a str) -> &'a str {
        name
    }

    /// `[…, columns]`.
    ///
    /// # Errors
    /// If there is no such tensor.
    fn shape(&self, name: &str) -> Result<Vec<usize>, LoraError>;

    /// Reads rows (the last axis; a vector is one row) as f32 into `out`, `[rows.len() · columns]`.
    ///
    /// # Errors
    /// If there is no such tensor.
    fn read_rows(&self, name: &str, rows: Range<usize>, out: &mut [f32]) -> Result<(), LoraError>;
}

/// A checkpoint as a base: its names, and a function that returns each stored tensor.
pub struct StoredBase<F> {
    /// All names, sorted.
    pub names: Vec<String>,
    /// The names under which tensors are written, where they are others.
    pub written: BTreeMap<String, String>,
    /// Returns the tensor with this name.
    pub tensor: F,
}

impl<'a, F, E> MergeBase for StoredBase<F>
where
    F: Fn(&str) -> Result<StoredTensor<'a>, E>,
    E: std::error::Error + Send + Sync + 'static,
{
    fn names(&self) -> Vec<String> {
        self.names.clone()
    }

    fn written_name<'b>(&'b self, name: &'b str) -> &'b str {
        self.written.get(name).map_or(name, String::as_str)
    }

    fn shape(&self, name: &str) -> Result<Vec<usize>, LoraError> {
        (self.tensor)(name)
            .map(|tensor| tensor.shape)
            .map_err(|error| LoraError::Base(Box::new(error)))
    }

    fn read_rows(&self, name: &str, rows: Range<usize>, out: &mut [f32]) -> Result<(), LoraError> {
        let tensor = (self.tensor)(name).map_err(|error| LoraError::Base(Box::new(error)))?;
        tensor.read_rows(rows, out);
        Ok(())
    }
}

/// Options for writing a merged model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MergeOptions {
    /// The number type of all weights.
    pub precision: Precision,
    /// The maximum size of the weights in a file in bytes, unless a single tensor is larger.
    pub shard_bytes: u64,
}

impl Default for MergeOptions {
    fn default() -> Self {
        Self {
            precision: Precision::BF16,
            shard_bytes: 5_000_000_000,
        }
    }
}

/// A summary of a merge.
#[derive(Clone, Debug, PartialEq)]
pub struct MergeSummary {
    /// Number of tensors written.
    pub tensors: usize,
    /// Number of weights that the adapter changed.
    pub merged: usize,
    /// Bytes of weights.
    pub bytes: u64,
    /// Number of weight files.
    pub files: usize,
    /// The largest change of any weight.
    pub largest_change: f32,
    /// Whether a base with one table for both ends became a model with two.
    pub untied: bool,
}

/// Writes `base` with the adapter merged in to the folder `target`, which replaces an existing one
/// as a whole.
///
/// # Errors
/// If the base lacks an adapted weight or it has another shape, a number overflows the precision,
/// or a file cannot be written; `target` is then unchanged.
pub fn merge(
    target: &Path,
    base: &impl MergeBase,
    companions: &Companions,
    adapter: &Adapter,
    options: MergeOptions,
) -> Result<MergeSummary, LoraError> {
    let ends = Ends::of(base, companions, adapter);
    let deltas = deltas(base, adapter, &ends)?;
    let shards = plan(base, &ends, options)?;
    let mut summary = MergeSummary {
        tensors: 0,
        merged: deltas.len(),
        bytes: 0,
        files: shards.len(),
        largest_change: 0.0,
        untied: ends.untied,
    };
    files::write_folder::<LoraError>(target, |folder| {
        let mut index = Map::new();
        for (number, shard) in shards.iter().enumerate() {
            let name = shard_name(number, shards.len());
            for tensor in shard {
                index.insert(base.written_name(&tensor.name).into(), json!(name));
                summary.tensors += 1;
                summary.bytes += tensor_bytes(&tensor.shape, options.precision);
            }
            let change = write_shard(&folder.join(name), shard, base, &deltas, options.precision)?;
            summary.largest_change = summary.largest_change.max(change);
        }
        if shards.len() > 1 {
            let index = json!({ "metadata": { "total_size": summary.bytes }, "weight_map": index });
            write_json(&folder.join("model.safetensors.index.json"), &index)?;
        }
        match ends.untied {
            true => write_companions(folder, &companions.untied(), options.precision),
            false => write_companions(folder, companions, options.precision),
        }
    })?;
    Ok(summary)
}

fn write_companions(
    folder: &Path,
    companions: &Companions,
    precision: Precision,
) -> Result<(), LoraError> {
    let config = companions.config_with(precision);
    write_json(&folder.join("config.json"), &config)?;
    for (name, bytes) in &companions.files {
        let path = folder.join(name);
        path.parent().map_or(Ok(()), files::create_folder)?;
        files::write_bytes(&path, bytes)?;
    }
    Ok(())
}

fn write_json(path: &Path, value: &Value) -> Result<(), LoraError> {
    let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.push('\n');
    Ok(files::write_bytes(path, text.as_bytes())?)
}

/// The deltas by the names of the weights that they change, checked against the base.
fn deltas(
    base: &impl MergeBase,
    adapter: &Adapter,
    ends: &Ends,
) -> Result<BTreeMap<String, Delta>, LoraError> {
    let names = base.names();
    let mut deltas = BTreeMap::new();
    if adapter.has_sides() {
        return Err(LoraError::Contextual);
    }
    for (path, pair) in adapter.pairs() {
        let name = path.tensor("weight");
        let delta = Delta::of_pair(adapter, path, pair, &name)?;
        check_delta(base, &names, &name, &delta)?;
        deltas.insert(name, delta);
    }
    for table in adapter.tables() {
        if let Some(name) = ends.target(table.table) {
            let delta = Delta::of_table(adapter, table, name)?;
            check_delta(base, &names, &ends.sources[table.table as usize], &delta)?;
            deltas.insert(name.clone(), delta);
        }
    }
    Ok(deltas)
}

/// Refuses a change of a weight that the base does not have, or has in another shape.
fn check_delta(
    base: &impl MergeBase,
    names: &[String],
    source: &str,
    delta: &Delta,
) -> Result<(), LoraError> {
    let name = source.to_string();
    if !names.contains(&name) {
        return Err(LoraError::NoBaseTensor { name });
    }
    let (expected, found) = (delta.shape().to_vec(), base.shape(&name)?);
    match found == expected {
        true => Ok(()),
        false => Err(LoraError::Shape {
            name,
            expected,
            found,
        }),
    }
}

/// A tensor of the merged model.
struct Merged {
    name: String,
    /// The tensor of the base of which it is made.
    source: String,
    shape: Vec<usize>,
}

type Shard = Vec<Merged>;

fn tensor_bytes(shape: &[usize], precision: Precision) -> u64 {
    (shape.iter().product::<usize>() * precision.size()) as u64
}

/// The tensors of each file, sorted by name.
fn plan(
    base: &impl MergeBase,
    ends: &Ends,
    options: MergeOptions,
) -> Result<Vec<Shard>, LoraError> {
    let mut shards: Vec<Shard> = Vec::new();
    let mut filled = 0;
    let mut tensors: Vec<_> = base
        .names()
        .into_iter()
        .map(|name| (name.clone(), name))
        .collect();
    tensors.extend(
        ends.added()
            .map(|(name, source)| (name.clone(), source.clone())),
    );
    tensors.sort();
    for (name, source) in tensors {
        let shape = base.shape(&source)?;
        let bytes = tensor_bytes(&shape, options.precision);
        let tensor = Merged {
            name,
            source,
            shape,
        };
        match shards.last_mut() {
            Some(shard) if filled + bytes <= options.shard_bytes => shard.push(tensor),
            _ => {
                shards.push(vec![tensor]);
                filled = 0;
            }
        }
        filled += bytes;
    }
    Ok(shards)
}

/// `model.safetensors`, or `model-00001-of-00002.safetensors`.
fn shard_name(number: usize, count: usize) -> String {
    if count == 1 {
        "model.safetensors".into()
    } else {
        format!("model-{:05}-of-{count:05}.safetensors", number + 1)
    }
}

/// Writes one file of weights; returns the largest change of an element.
fn write_shard(
    path: &Path,
    shard: &Shard,
    base: &impl MergeBase,
    deltas: &BTreeMap<String, Delta>,
    precision: Precision,
) -> Result<f32, LoraError> {
    let tensors = shard.iter();
    let tensors = tensors.map(|tensor| (base.written_name(&tensor.name), &tensor.shape[..]));
    let metadata = BTreeMap::from([("format".into(), "pt".into())]);
    let head = header(precision, tensors, &metadata);
    let mut largest = 0f32;
    let mut refused = None;
    let written = files::write_with(path, |file| {
        file.write_all(&head)?;
        for tensor in shard {
            match write_tensor(file, tensor, base, deltas.get(&tensor.name), precision)? {
                Ok(change) => largest = largest.max(change),
                Err(error) => {
                    refused = Some(error);
                    return Err(io::Error::from(io::ErrorKind::InvalidData));
                }
            }
        }
        Ok(())
    });
    match refused {
        Some(error) => Err(error),
        None => Ok(written.map(|()| largest)?),
    }
}

/// Writes one tensor strip by strip. The outer error is that of the file, the inner that of the
/// tensor.
fn write_tensor(
    file: &mut BufWriter<File>,
    tensor: &Merged,
    base: &impl MergeBase,
    delta: Option<&Delta>,
    precision: Precision,
) -> io::Result<Result<f32, LoraError>> {
    let (columns, outer) = tensor.shape.split_last().unwrap_or((&1, &[]));
    let (rows, columns) = (outer.iter().product::<usize>(), *columns);
    let strip = (STRIP / columns.max(1)).clamp(1, rows.max(1));
    let mut values = vec![0.0; strip * columns];
    let mut bytes = Vec::with_capacity(values.len() * precision.size());
    let mut largest = 0f32;
    for start in (0..rows).step_by(strip) {
        let range = start..rows.min(start + strip);
        let values = &mut values[..range.len() * columns];
        if let Err(error) = base.read_rows(&tensor.source, range.clone(), values) {
            return Ok(Err(error));
        }
        if let Some(delta) = delta {
            largest = largest.max(delta.change_rows(range, values));
        }
        bytes.clear();
        if !precision.append(values, &mut bytes) {
            let rounded = values.iter().all(|value| value.is_finite());
            return Ok(Err(LoraError::NotFinite {
                name: tensor.name.clone(),
                rounded,
            }));
        }
        file.write_all(&bytes)?;
    }
    Ok(Ok(largest))
}

#[cfg(test)]
mod tests;

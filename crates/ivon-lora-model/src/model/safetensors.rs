//! The weights of a Hugging Face folder: one `.safetensors` file, or several listed in
//! `model.safetensors.index.json`.
//!
//! A file is 8 bytes of header length, a JSON header `{name: {dtype, shape, data_offsets}}`, and
//! the data. The header is checked here rather than by the `safetensors` crate so that errors can
//! name the tensor and the bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use super::change::Change;
use super::encoding::Encoding;
use super::error::ModelError;
use super::mapped::{MappedFile, file_name};
use super::setting::setting;
use super::tensor::{RawTensor, StoredTensor};
use crate::files;

/// The maximum length of a header, as in the `safetensors` crate.
const LONGEST_HEADER: u64 = 100_000_000;
/// The maximum size of an index; a few hundred thousand tensors need much less.
const LONGEST_INDEX: u64 = 100_000_000;
/// The name of the weights if they are one file.
const USUAL: &str = "model.safetensors";
/// The name of the index.
pub(super) const INDEX: &str = "model.safetensors.index.json";

/// All tensors of a folder, from all of its files.
#[derive(Debug)]
pub(super) struct SafetensorsFolder {
    files: Vec<Arc<MappedFile>>,
    tensors: BTreeMap<String, Entry>,
    /// The file named in errors about missing tensors.
    main: String,
    /// The names in the files of tensors that have another one.
    renamed: BTreeMap<String, String>,
}

#[derive(Clone, Debug)]
struct Entry {
    file: usize,
    dtype: String,
    shape: Vec<usize>,
    /// The position in the file, header included.
    bytes: std::ops::Range<usize>,
}

#[derive(Deserialize)]
struct Header {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl SafetensorsFolder {
    /// Maps the weights of a folder and checks their headers: the file named in `config.json`
    /// (`transformers_weights`), else `model.safetensors`, else the files of the index, else the
    /// only other file of the folder. Adds notes about files that are ignored.
    ///
    /// # Errors
    /// If there are none, or a file or the index is malformed or truncated.
    pub fn open(
        folder: &Path,
        named: Option<&str>,
        notes: &mut Vec<String>,
    ) -> Result<Self, ModelError> {
        let (usual, index) = (folder.join(USUAL), folder.join(INDEX));
        match named {
            Some(name) => Self::open_named(folder, name),
            None if usual.is_file() => {
                if index.is_file() && !names_one_file_alone(&index) {
                    let said =
                        "which is what transformers loads; the files that the index names are not";
                    notes.push(format!("`{INDEX}` lies beside `{USUAL}`: the weights are those of `{USUAL}`, {said} read"));
                }
                Self::from_one_file(&usual)
            }
            None if index.is_file() => Self::from_index(folder, &index),
            None => Self::from_one_file(&only_file(folder)?),
        }
    }

    fn open_named(folder: &Path, name: &str) -> Result<Self, ModelError> {
        let path = folder.join(name);
        match is_plain(name) {
            true if name.ends_with(".safetensors.index.json") => Self::from_index(folder, &path),
            true if name.ends_with(".safetensors") => Self::from_one_file(&path),
            _ => Err(setting(
                "config.json",
                "transformers_weights",
                format!("`{name}`"),
                "a `.safetensors` file of the same folder",
            )),
        }
    }

    fn from_one_file(path: &Path) -> Result<Self, ModelError> {
        let file = Arc::new(MappedFile::open(path)?);
        let tensors = read_header(&file, 0)?;
        Ok(Self {
            main: file.name(),
            files: vec![file],
            tensors,
            renamed: BTreeMap::new(),
        })
    }

    /// All tensors of all files named in the index, as in transformers; the tensors that it lists
    /// must be among them.
    fn from_index(folder: &Path, index: &Path) -> Result<Self, ModelError> {
        let weight_map = read_index(index)?;
        let names: BTreeSet<&String> = weight_map.values().collect();
        let mut folder_files = Vec::with_capacity(names.len());
        let mut tensors = BTreeMap::new();
        for name in names {
            let path = folder.join(name);
            if !path.is_file() {
                return Err(ModelError::MissingShard {
                    index: file_name(index),
                    file: name.clone(),
                });
            }
            let file = Arc::new(MappedFile::open(&path)?);
            tensors.extend(read_header(&file, folder_files.len())?);
            folder_files.push(file);
        }
        match weight_map
            .into_iter()
            .find(|(tensor, _)| !tensors.contains_key(tensor))
        {
            Some((name, file)) => Err(ModelError::MissingTensor { file, name }),
            None => Ok(Self {
                files: folder_files,
                tensors,
                main: file_name(index),
                renamed: BTreeMap::new(),
            }),
        }
    }

    /// Renames tensors, except where the new name is already taken.
    pub fn rename(&mut self, rename: impl Fn(&str) -> Option<String>) {
        let renamed: Vec<_> = self
            .tensors
            .keys()
            .filter_map(|name| Some((name.clone(), rename(name)?)))
            .collect();
        for (from, to) in renamed.into_iter().filter(|(from, to)| from != to) {
            if !self.tensors.contains_key(&to)
                && let Some(entry) = self.tensors.remove(&from)
            {
                let stored = self.renamed.remove(&from).unwrap_or(from);
                self.renamed.insert(to.clone(), stored);
                self.tensors.insert(to, entry);
            }
        }
    }

    /// The names in the files of tensors that were renamed, by their names now.
    pub fn renamed(&self) -> &BTreeMap<String, String> {
        &self.renamed
    }

    /// All tensors as stored, sorted by name.
    pub fn raw(&self) -> impl Iterator<Item = RawTensor<'_>> {
        self.tensors.iter().map(|(name, entry)| {
            let file = &self.files[entry.file];
            let bytes = file.bytes().get(entry.bytes.clone()).unwrap_or_default();
            RawTensor {
                name: name.clone(),
                shape: &entry.shape,
                kind: entry.dtype.clone(),
                bytes,
                file,
                is_named: true,
            }
        })
    }

    /// The names of all tensors, sorted.
    #[cfg(test)]
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// A tensor by name.
    ///
    /// # Errors
    /// If it is missing or is not F32, F16 or BF16.
    pub fn tensor(&self, name: &str) -> Result<StoredTensor<'_>, ModelError> {
        let missing = || ModelError::MissingTensor {
            file: self.main.clone(),
            name: name.into(),
        };
        let entry = self.tensors.get(name).ok_or_else(missing)?;
        let file = &self.files[entry.file];
        let unsupported = || ModelError::Encoding {
            file: file.name(),
            name: name.into(),
            found: entry.dtype.clone(),
            supported: "F32, F16 and BF16",
        };
        let encoding = encoding(&entry.dtype).ok_or_else(unsupported)?;
        let bytes = &file.bytes()[entry.bytes.clone()];
        let tensor = StoredTensor::new(
            name.into(),
            entry.shape.clone(),
            encoding,
            bytes,
            Change::default(),
        )
        .ok_or_else(missing)?;
        Ok(StoredTensor {
            file: Some(file),
            ..tensor
        })
    }
}

/// Whether an index names only `model.safetensors`: then there is no contradiction.
fn names_one_file_alone(index: &Path) -> bool {
    read_index(index).is_ok_and(|weight_map| weight_map.values().all(|file| file == USUAL))
}

/// A name with a folder in it could refer to any file of the machine.
fn is_plain(name: &str) -> bool {
    !(name.is_empty() || name == ".." || name.contains(['/', '\\']))
}

/// Tensor → file; every file is a plain name.
fn read_index(path: &Path) -> Result<BTreeMap<String, String>, ModelError> {
    let malformed = |reason: String| ModelError::Malformed {
        file: file_name(path),
        reason,
    };
    let text = files::read_text(path, LONGEST_INDEX)?;
    let Index { weight_map } =
        serde_json::from_str(&text).map_err(|error| malformed(error.to_string()))?;
    match weight_map.values().find(|name| !is_plain(name)) {
        Some(name) => Err(malformed(format!("`{name}` is not a plain file name"))),
        None => Ok(weight_map),
    }
}

/// The files named in an index.
///
/// # Errors
/// If it cannot be read or is malformed.
pub(super) fn indexed_files(path: &Path) -> Result<BTreeSet<String>, ModelError> {
    Ok(read_index(path)?.into_values().collect())
}

/// The only `.safetensors` file of a folder without a `model.safetensors`.
fn only_file(folder: &Path) -> Result<std::path::PathBuf, ModelError> {
    let names = files::names_in(folder)?;
    let no_model = |found: String| ModelError::NoModel {
        path: folder.display().to_string(),
        found,
        expected: "`model.safetensors` or `model.safetensors.index.json` beside `config.json`",
    };
    let found: Vec<&String> = names
        .iter()
        .filter(|name| name.ends_with(".safetensors"))
        .collect();
    match found[..] {
        [one] => Ok(folder.join(one)),
        [] => Err(no_model(
            match names.iter().find(|name| name.ends_with(".bin")) {
                Some(pickle) => format!("`{pickle}`"),
                None => "no weights".into(),
            },
        )),
        _ => Err(no_model(format!(
            "{} `.safetensors` files without an index",
            found.len()
        ))),
    }
}

fn encoding(dtype: &str) -> Option<Encoding> {
    match dtype {
        "F32" => Some(Encoding::F32),
        "F16" => Some(Encoding::F16),
        "BF16" => Some(Encoding::BF16),
        _ => None,
    }
}

/// The size of a number in bytes, for every dtype of the format.
fn dtype_bytes(dtype: &str) -> Option<u64> {
    Some(match dtype {
        "F64" | "I64" | "U64" | "C64" => 8,
        "F32" | "I32" | "U32" => 4,
        "F16" | "BF16" | "I16" | "U16" => 2,
        "BOOL" | "I8" | "U8" | "F8_E4M3" | "F8_E5M2" | "F8_E8M0" | "F8_E4M3FNUZ"
        | "F8_E5M2FNUZ" => 1,
        _ => return None,
    })
}

/// Reads and checks the header of a file: every tensor must be within the file and as long as its
/// shape implies, and no two may overlap.
fn read_header(file: &MappedFile, number: usize) -> Result<BTreeMap<String, Entry>, ModelError> {
    let (header, start) = header_bytes(file)?;
    let mut header: BTreeMap<String, serde_json::Value> =
        serde_json::from_slice(header).map_err(|error| {
            let reason = format!("its header is not a JSON object of tensors, {error}");
            malformed(file, reason)
        })?;
    header.remove("__metadata__");
    let mut tensors = BTreeMap::new();
    for (name, value) in header {
        let entry = read_entry(file, &name, value, start)?;
        let (begin, end) = entry.data_offsets;
        let placed = Entry {
            file: number,
            dtype: entry.dtype,
            shape: entry.shape.iter().map(|n| *n as usize).collect(),
            bytes: (start + begin) as usize..(start + end) as usize,
        };
        tensors.insert(name, placed);
    }
    match overlap(&tensors) {
        Some((one, other)) => {
            let reason = format!("tensors `{one}` and `{other}` overlap");
            Err(malformed(file, reason))
        }
        None => Ok(tensors),
    }
}

/// The text of the header, and the position of the data after it.
fn header_bytes(file: &MappedFile) -> Result<(&[u8], u64), ModelError> {
    let length = file.bytes().first_chunk::<8>();
    let length = length.ok_or_else(|| truncated(file, "the header's length".into(), 8))?;
    let length = u64::from_le_bytes(*length);
    if length > LONGEST_HEADER {
        let reason = format!("its header has {length} bytes, expected at most {LONGEST_HEADER}");
        return Err(malformed(file, reason));
    }
    let start = 8 + length;
    let header = file.bytes().get(8..start as usize);
    let header = header.ok_or_else(|| truncated(file, "the header".into(), start))?;
    Ok((header, start))
}

/// A tensor's entry in the header, checked against the length of the file.
fn read_entry(
    file: &MappedFile,
    name: &str,
    value: serde_json::Value,
    start: u64,
) -> Result<Header, ModelError> {
    let entry = Header::deserialize(value).map_err(|error| {
        let reason = format!("the header of tensor `{name}` is wrong, {error}");
        malformed(file, reason)
    })?;
    if let Some(reason) = wrong_length(&entry) {
        return Err(malformed(file, format!("tensor `{name}` {reason}")));
    }
    let (_, end) = entry.data_offsets;
    match start.checked_add(end) {
        Some(end) if end <= file.bytes().len() as u64 => Ok(entry),
        Some(end) => Err(truncated(file, format!("tensor `{name}`"), end)),
        None => {
            let reason = format!("tensor `{name}` ends at byte {end} of its data");
            Err(malformed(file, reason))
        }
    }
}

fn malformed(file: &MappedFile, reason: String) -> ModelError {
    ModelError::Malformed {
        file: file.name(),
        reason,
    }
}

fn truncated(file: &MappedFile, what: String, expected: u64) -> ModelError {
    ModelError::Truncated {
        file: file.name(),
        what,
        expected,
        found: file.bytes().len() as u64,
    }
}

/// The contradiction between a tensor's dtype and shape and its length in bytes, if there is one.
fn wrong_length(entry: &Header) -> Option<String> {
    let (begin, end) = entry.data_offsets;
    let Some(size) = dtype_bytes(&entry.dtype) else {
        return Some(format!("has the unknown dtype `{}`", entry.dtype));
    };
    let expected = entry
        .shape
        .iter()
        .try_fold(size, |bytes, n| bytes.checked_mul(*n));
    match (expected, end.checked_sub(begin)) {
        (Some(expected), Some(found)) if expected == found => None,
        (Some(expected), Some(found)) => Some(format!(
            "of shape {:?} and dtype {} has {found} bytes, expected {expected}",
            entry.shape, entry.dtype
        )),
        (None, _) => Some(format!("has the impossible shape {:?}", entry.shape)),
        (_, None) => Some(format!(
            "has the offsets {begin} to {end}, expected ascending ones"
        )),
    }
}

fn overlap(tensors: &BTreeMap<String, Entry>) -> Option<(&str, &str)> {
    let mut sorted: Vec<_> = tensors
        .iter()
        .filter(|(_, entry)| !entry.bytes.is_empty())
        .collect();
    sorted.sort_by_key(|(_, entry)| entry.bytes.start);
    let clash = sorted
        .windows(2)
        .find(|pair| pair[0].1.bytes.end > pair[1].1.bytes.start)?;
    Some((clash[0].0, clash[1].0))
}

#[cfg(test)]
mod tests;

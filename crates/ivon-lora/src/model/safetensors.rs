//! The weights of a Hugging Face folder: one `.safetensors` file, or many named by `model.safetensors.index.json`.
//!
//! A file is 8 bytes of header length, a JSON header `{name: {dtype, shape, data_offsets}}`, and the numbers. The
//! header is checked here rather than by the `safetensors` crate so that errors can name the tensor and the bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;

use super::mapped::MappedFile;
use super::{Encoding, ModelError, StoredTensor};
use crate::files;

/// A header longer than this is refused, as by the `safetensors` crate.
const LONGEST_HEADER: u64 = 100_000_000;
/// An index of a few hundred thousand tensors is well below this.
const LONGEST_INDEX: u64 = 100_000_000;
/// The name of the list of files.
pub(super) const INDEX: &str = "model.safetensors.index.json";

/// All tensors of a folder, wherever they lie.
#[derive(Debug)]
pub(super) struct SafetensorsFolder {
    files: Vec<MappedFile>,
    tensors: BTreeMap<String, Entry>,
    /// The file that errors about absent tensors name.
    main: String,
}

#[derive(Clone, Debug)]
struct Entry {
    file: usize,
    dtype: String,
    shape: Vec<usize>,
    /// In the file, header included.
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
    /// Maps the weights of a folder and checks their headers.
    ///
    /// # Errors
    /// If there are none, or a file or the index is malformed or cut short.
    pub fn open(folder: &Path) -> Result<Self, ModelError> {
        let index = folder.join(INDEX);
        if index.exists() { Self::from_index(folder, &index) } else { Self::from_one_file(&only_file(folder)?) }
    }

    fn from_one_file(path: &Path) -> Result<Self, ModelError> {
        let file = MappedFile::open(path)?;
        let tensors = read_header(&file, 0)?;
        Ok(Self { main: file.name(), files: vec![file], tensors })
    }

    fn from_index(folder: &Path, index: &Path) -> Result<Self, ModelError> {
        let weight_map = read_index(index)?;
        let names: BTreeSet<&String> = weight_map.values().collect();
        let mut folder_files = Vec::with_capacity(names.len());
        let mut headers = BTreeMap::new();
        for name in names {
            let file = MappedFile::open(&folder.join(name))?;
            headers.insert(name.clone(), read_header(&file, folder_files.len())?);
            folder_files.push(file);
        }
        let mut tensors = BTreeMap::new();
        for (tensor, file) in weight_map {
            let entry = headers.get_mut(&file).and_then(|header| header.remove(&tensor));
            let entry = entry.ok_or_else(|| ModelError::MissingTensor { file: file.clone(), name: tensor.clone() })?;
            tensors.insert(tensor, entry);
        }
        Ok(Self { files: folder_files, tensors, main: INDEX.into() })
    }

    /// The names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The shape of a tensor.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|entry| entry.shape.as_slice())
    }

    /// A tensor by name.
    ///
    /// # Errors
    /// If it is not there or its numbers are neither F32, F16 nor BF16.
    pub fn tensor(&self, name: &str) -> Result<StoredTensor<'_>, ModelError> {
        let missing = || ModelError::MissingTensor { file: self.main.clone(), name: name.into() };
        let entry = self.tensors.get(name).ok_or_else(missing)?;
        let file = &self.files[entry.file];
        let unsupported =
            || ModelError::Encoding { file: file.name(), name: name.into(), found: entry.dtype.clone(), supported: "F32, F16 and BF16" };
        let encoding = encoding(&entry.dtype).ok_or_else(unsupported)?;
        let bytes = &file.bytes()[entry.bytes.clone()];
        let tensor = StoredTensor::new(name.into(), entry.shape.clone(), encoding, bytes, None).ok_or_else(missing)?;
        Ok(StoredTensor { file: Some(file), ..tensor })
    }
}

/// Tensor → file, every file a plain name.
fn read_index(path: &Path) -> Result<BTreeMap<String, String>, ModelError> {
    let malformed = |reason: String| ModelError::Malformed { file: INDEX.into(), reason };
    let text = files::read_text(path, LONGEST_INDEX)?;
    let Index { weight_map } = serde_json::from_str(&text).map_err(|error| malformed(error.to_string()))?;
    // A name with a folder in it could reach any file of the machine.
    let outside = |name: &&String| name.is_empty() || *name == ".." || name.contains(['/', '\\']);
    match weight_map.values().find(outside) {
        Some(name) => Err(malformed(format!("`{name}` is not a plain file name"))),
        None => Ok(weight_map),
    }
}

/// The files that an index names.
///
/// # Errors
/// If it cannot be read or is malformed.
pub(super) fn indexed_files(path: &Path) -> Result<BTreeSet<String>, ModelError> {
    Ok(read_index(path)?.into_values().collect())
}

/// `model.safetensors`, else the folder's one other `.safetensors` file.
fn only_file(folder: &Path) -> Result<std::path::PathBuf, ModelError> {
    let usual = folder.join("model.safetensors");
    if usual.exists() {
        return Ok(usual);
    }
    let names = files_of(folder)?;
    let no_model = |found: String| ModelError::NoModel {
        path: folder.display().to_string(),
        found,
        expected: "`model.safetensors` or `model.safetensors.index.json` beside `config.json`",
    };
    let found: Vec<&String> = names.iter().filter(|name| name.ends_with(".safetensors")).collect();
    match found[..] {
        [one] => Ok(folder.join(one)),
        [] => Err(no_model(match names.iter().find(|name| name.ends_with(".bin")) {
            Some(pickle) => format!("`{pickle}`"),
            None => "no weights".into(),
        })),
        _ => Err(no_model(format!("{} `.safetensors` files without an index", found.len()))),
    }
}

/// The sorted names of what lies in a folder.
pub(super) fn files_of(folder: &Path) -> Result<Vec<String>, ModelError> {
    let failed = |source| files::FileError::Io { action: "read", path: folder.into(), source };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        names.push(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn encoding(dtype: &str) -> Option<Encoding> {
    match dtype {
        "F32" => Some(Encoding::F32),
        "F16" => Some(Encoding::F16),
        "BF16" => Some(Encoding::BF16),
        _ => None,
    }
}

/// Bytes of a number, for every dtype of the format.
fn dtype_bytes(dtype: &str) -> Option<u64> {
    Some(match dtype {
        "F64" | "I64" | "U64" | "C64" => 8,
        "F32" | "I32" | "U32" => 4,
        "F16" | "BF16" | "I16" | "U16" => 2,
        "BOOL" | "I8" | "U8" | "F8_E4M3" | "F8_E5M2" | "F8_E8M0" => 1,
        _ => return None,
    })
}

/// Reads and checks the header of a file: every tensor within the file, as long as its shape says, no two overlapping.
fn read_header(file: &MappedFile, number: usize) -> Result<BTreeMap<String, Entry>, ModelError> {
    let malformed = |reason: String| ModelError::Malformed { file: file.name(), reason };
    let found = file.bytes().len() as u64;
    let cut = |what: String, expected: u64| ModelError::Truncated { file: file.name(), what, expected, found };
    let length = file.bytes().first_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes));
    let length = length.ok_or_else(|| cut("the header's length".into(), 8))?;
    if length > LONGEST_HEADER {
        return Err(malformed(format!("its header has {length} bytes, expected at most {LONGEST_HEADER}")));
    }
    let start = 8 + length;
    let header = file.bytes().get(8..start as usize).ok_or_else(|| cut("the header".into(), start))?;
    let mut header: BTreeMap<String, serde_json::Value> =
        serde_json::from_slice(header).map_err(|error| malformed(format!("its header is not a JSON object of tensors, {error}")))?;
    header.remove("__metadata__");
    let mut tensors = BTreeMap::new();
    for (name, value) in header {
        let entry = Header::deserialize(value).map_err(|error| malformed(format!("the header of tensor `{name}` is wrong, {error}")))?;
        let (begin, end) = entry.data_offsets;
        if let Some(reason) = wrong_length(&entry) {
            return Err(malformed(format!("tensor `{name}` {reason}")));
        }
        match start.checked_add(end) {
            Some(end) if end <= found => {}
            Some(end) => return Err(cut(format!("tensor `{name}`"), end)),
            None => return Err(malformed(format!("tensor `{name}` ends at byte {end} of its data"))),
        }
        let shape = entry.shape.iter().map(|n| *n as usize).collect();
        let bytes = (start + begin) as usize..(start + end) as usize;
        tensors.insert(name, Entry { file: number, dtype: entry.dtype, shape, bytes });
    }
    match overlap(&tensors) {
        Some((one, other)) => Err(malformed(format!("tensors `{one}` and `{other}` overlap"))),
        None => Ok(tensors),
    }
}

/// What is wrong between a tensor's dtype and shape and the length of its bytes.
fn wrong_length(entry: &Header) -> Option<String> {
    let (begin, end) = entry.data_offsets;
    let Some(size) = dtype_bytes(&entry.dtype) else { return Some(format!("has the unknown dtype `{}`", entry.dtype)) };
    let expected = entry.shape.iter().try_fold(size, |bytes, n| bytes.checked_mul(*n));
    match (expected, end.checked_sub(begin)) {
        (Some(expected), Some(found)) if expected == found => None,
        (Some(expected), Some(found)) => {
            Some(format!("of shape {:?} and dtype {} has {found} bytes, expected {expected}", entry.shape, entry.dtype))
        }
        (None, _) => Some(format!("has the impossible shape {:?}", entry.shape)),
        (_, None) => Some(format!("has the offsets {begin} to {end}, expected ascending ones")),
    }
}

fn overlap(tensors: &BTreeMap<String, Entry>) -> Option<(&str, &str)> {
    let mut sorted: Vec<_> = tensors.iter().filter(|(_, entry)| !entry.bytes.is_empty()).collect();
    sorted.sort_by_key(|(_, entry)| entry.bytes.start);
    let clash = sorted.windows(2).find(|pair| pair[0].1.bytes.end > pair[1].1.bytes.start)?;
    Some((clash[0].0, clash[1].0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A safetensors file from its header and data.
    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
    }

    fn open(content: &[u8]) -> Result<SafetensorsFolder, ModelError> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("model.safetensors"), content).unwrap();
        SafetensorsFolder::open(folder.path())
    }

    fn message(content: &[u8]) -> String {
        open(content).expect_err("malformed").to_string()
    }

    const TWO: &str = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F16","shape":[1,2],"data_offsets":[8,12]}}"#;
    const DATA: [u8; 12] = [0, 0, 128, 63, 0, 0, 0, 192, 0, 60, 0, 56];

    #[test]
    fn tensors_are_found_by_name_in_any_dtype_that_is_read() {
        let folder = open(&file(TWO, &DATA)).unwrap();
        assert_eq!(folder.names().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(folder.tensor("a").unwrap().to_f32(), [1.0, -2.0]);
        let b = folder.tensor("b").unwrap();
        assert_eq!((b.shape.as_slice(), b.to_f32()), ([1, 2].as_slice(), vec![1.0, 0.5]));
        assert_eq!(folder.tensor("c").unwrap_err().to_string(), "tensor `c` is missing from `model.safetensors`");
    }

    #[test]
    fn a_file_cut_anywhere_says_which_tensor_and_how_many_bytes() {
        let whole = file(TWO, &DATA);
        for length in 0..whole.len() {
            let error = open(&whole[..length]).expect_err("cut short");
            assert!(matches!(error, ModelError::Truncated { .. }), "{length}: {error}");
        }
        let at = whole.len();
        assert_eq!(
            message(&whole[..at - 1]),
            format!("`model.safetensors` is cut short: tensor `b` ends at byte {at}, the file at byte {}", at - 1)
        );
    }

    #[test]
    fn headers_that_lie_are_refused_by_tensor() {
        for (header, expected) in [
            (r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#, "tensor `a` of shape [3] and dtype F32 has 8 bytes, expected 12"),
            (r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#, "tensor `a` has the offsets 8 to 0, expected ascending ones"),
            (r#"{"a":{"dtype":"X9","shape":[2],"data_offsets":[0,8]}}"#, "tensor `a` has the unknown dtype `X9`"),
            (
                r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}}"#,
                "tensor `a` has the impossible shape [4294967296, 4294967296]",
            ),
            (
                r#"{"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},"b":{"dtype":"U8","shape":[8],"data_offsets":[4,12]}}"#,
                "tensors `a` and `b` overlap",
            ),
            (r#"{"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,8]}}"#, "the header of tensor `a` is wrong"),
            (r#"{"a":7}"#, "the header of tensor `a` is wrong"),
            ("[]", "its header is not a JSON object of tensors"),
        ] {
            let message = message(&file(header, &DATA));
            assert!(message.starts_with("`model.safetensors` is malformed: ") && message.contains(expected), "{message}");
        }
        let message = message(&[&u64::MAX.to_le_bytes()[..], &DATA].concat());
        assert!(message.contains("its header has 18446744073709551615 bytes, expected at most 100000000"), "{message}");
    }

    #[test]
    fn a_dtype_that_is_not_read_is_refused_only_when_asked_for() {
        let folder = open(&file(r#"{"a":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]}}"#, &DATA)).unwrap();
        let message = folder.tensor("a").unwrap_err().to_string();
        assert_eq!(message, "tensor `a` of `model.safetensors` is stored as F8_E4M3, supported are F32, F16 and BF16");
    }

    #[test]
    fn an_index_leads_to_the_files_and_is_held_to_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        std::fs::write(path.join("one.safetensors"), file(TWO, &DATA)).unwrap();
        std::fs::write(path.join("two.safetensors"), file(r#"{"c":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}}"#, &[128, 63]))
            .unwrap();
        let open = |map: &str| {
            std::fs::write(path.join(INDEX), format!(r#"{{"metadata":{{}},"weight_map":{map}}}"#)).unwrap();
            SafetensorsFolder::open(path)
        };
        let both = open(r#"{"a":"one.safetensors","c":"two.safetensors"}"#).unwrap();
        assert_eq!(both.names().collect::<Vec<_>>(), ["a", "c"]);
        assert_eq!((both.tensor("a").unwrap().to_f32(), both.tensor("c").unwrap().to_f32()), (vec![1.0, -2.0], vec![1.0]));
        let message = |map| open(map).expect_err("wrong index").to_string();
        assert_eq!(message(r#"{"d":"one.safetensors"}"#), "tensor `d` is missing from `one.safetensors`");
        assert!(message(r#"{"d":"../one.safetensors"}"#).contains("`../one.safetensors` is not a plain file name"));
        assert!(message(r#"{"d":"gone.safetensors"}"#).contains("gone.safetensors"));
        assert!(message("7").contains("is malformed"));
    }

    #[test]
    fn a_folder_without_weights_says_what_it_found_instead() {
        let folder = tempfile::tempdir().unwrap();
        let error = || SafetensorsFolder::open(folder.path()).unwrap_err();
        assert!(error().to_string().contains("found no weights"));
        std::fs::write(folder.path().join("pytorch_model.bin"), "").unwrap();
        assert!(error().to_string().contains("found `pytorch_model.bin`"));
        assert!(error().hint().unwrap().contains("safe_serialization"));
        for name in ["x.safetensors", "y.safetensors"] {
            std::fs::write(folder.path().join(name), file(TWO, &DATA)).unwrap();
        }
        assert!(error().to_string().contains("found 2 `.safetensors` files without an index"));
    }
}

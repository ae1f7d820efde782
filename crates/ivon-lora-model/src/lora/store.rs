//! Matrices ↔ safetensors files. They are read with the `safetensors` crate but written here,
//! because that crate keeps metadata in a hash map (so the order, and the bytes, differ between
//! runs) and needs each tensor in one piece.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use half::{bf16, f16};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::adapter::MAGNITUDES;
use super::parameters::PEFT_SUFFIX;
use super::{HostMatrix, LoraError};
use crate::files;
use crate::guard::guard_result;

/// No adapter is nearly as large; it prevents a wrong path from filling the memory.
const LARGEST_FILE: u64 = 16 << 30;

/// The number type of stored values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits, IEEE half: at most 65504.
    F16,
    /// 16 bits, the range of `F32`.
    BF16,
}

impl Precision {
    /// The size of a number in bytes.
    pub fn size(self) -> usize {
        if self == Self::F32 { 4 } else { 2 }
    }

    /// The name in PyTorch, as in `config.json`.
    pub(super) fn torch_name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::BF16 => "bfloat16",
        }
    }

    fn safetensors_name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
        }
    }

    /// Appends numbers to `bytes`, rounded to nearest, ties to even; returns whether all are finite
    /// after rounding.
    pub(super) fn append(self, values: &[f32], bytes: &mut Vec<u8>) -> bool {
        let mut finite = true;
        for &value in values {
            match self {
                Self::F32 => {
                    finite &= value.is_finite();
                    bytes.extend(value.to_le_bytes());
                }
                Self::F16 => {
                    let rounded = f16::from_f32(value);
                    finite &= rounded.is_finite();
                    bytes.extend(rounded.to_le_bytes());
                }
                Self::BF16 => {
                    let rounded = bf16::from_f32(value);
                    finite &= rounded.is_finite();
                    bytes.extend(rounded.to_le_bytes());
                }
            }
        }
        finite
    }
}

/// The start of a safetensors file: length and JSON, keys in the given order, padded to 8 bytes.
/// The data of the tensors follow in the same order without gaps.
pub(super) fn header<'a>(
    precision: Precision,
    tensors: impl Iterator<Item = (&'a str, &'a [usize])>,
    metadata: &Metadata,
) -> Vec<u8> {
    let mut map = Map::new();
    map.insert("__metadata__".into(), json!(metadata));
    let mut offset = 0;
    for (name, shape) in tensors {
        let end = offset + shape.iter().product::<usize>() * precision.size();
        map.insert(name.into(), json!({ "dtype": precision.safetensors_name(), "shape": shape, "data_offsets": [offset, end] }));
        offset = end;
    }
    let mut text = Value::Object(map).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.append(&mut text);
    bytes
}

/// Whether a matrix is stored as a vector, its only column: the magnitudes of a pair.
fn is_column(name: &str) -> bool {
    let path = name.strip_suffix(PEFT_SUFFIX).unwrap_or(name);
    path.ends_with(MAGNITUDES)
}

/// Matrices by name.
pub(crate) type Matrices = BTreeMap<String, HostMatrix>;
/// The strings of a file's `__metadata__`.
pub(crate) type Metadata = BTreeMap<String, String>;

/// Writes matrices in f32, sorted by name, with `format` = `pt` added to the metadata; equal input
/// gives equal bytes.
///
/// # Errors
/// If a number is not finite or the file cannot be written.
pub fn write_matrices(
    path: &Path,
    matrices: &Matrices,
    mut metadata: Metadata,
) -> Result<(), LoraError> {
    for (name, matrix) in matrices {
        check_finite(name, &matrix.values)?;
    }
    metadata.insert("format".into(), "pt".into());
    let shape = |(name, matrix): (&String, &HostMatrix)| match is_column(name) {
        true => matrix.shape[..1].to_vec(),
        false => matrix.shape.to_vec(),
    };
    let shapes: Vec<Vec<usize>> = matrices.iter().map(shape).collect();
    let names = matrices.keys().map(String::as_str);
    let tensors = names.zip(shapes.iter().map(Vec::as_slice));
    let head = header(Precision::F32, tensors, &metadata);
    files::write_with(path, |file| -> io::Result<()> {
        file.write_all(&head)?;
        let mut bytes = Vec::new();
        for matrix in matrices.values() {
            bytes.clear();
            Precision::F32.append(&matrix.values, &mut bytes);
            file.write_all(&bytes)?;
        }
        Ok(())
    })?;
    Ok(())
}

/// Reads every matrix of a file as f32, with the file's metadata.
///
/// # Errors
/// If the file is malformed, or a tensor is not a finite F32, F16 or BF16 matrix.
pub fn read_matrices(path: &Path) -> Result<(Matrices, Metadata), LoraError> {
    let bytes = files::read_bytes(path, LARGEST_FILE)?;
    let malformed = |reason: String| LoraError::Malformed {
        path: path.into(),
        expected: "a safetensors file",
        reason,
    };
    let (_, header) =
        guard_result("safetensors", || SafeTensors::read_metadata(&bytes)).map_err(malformed)?;
    let metadata = header
        .metadata()
        .clone()
        .unwrap_or_default()
        .into_iter()
        .collect();
    let file =
        guard_result("safetensors", || SafeTensors::deserialize(&bytes)).map_err(malformed)?;
    let mut names = file.names();
    names.sort_unstable();
    let mut matrices = BTreeMap::new();
    for name in names {
        let view = file
            .tensor(name)
            .map_err(|error| malformed(error.to_string()))?;
        matrices.insert(name.to_string(), read_matrix(path, name, &view)?);
    }
    Ok((matrices, metadata))
}

fn read_matrix(path: &Path, name: &str, view: &TensorView<'_>) -> Result<HostMatrix, LoraError> {
    if view.shape().contains(&0) {
        return Err(LoraError::Empty {
            path: path.into(),
            name: name.into(),
            found: view.shape().into(),
        });
    }
    let [rows, columns] = match *view.shape() {
        [rows, columns] => [rows, columns],
        [rows] if is_column(name) => [rows, 1],
        ref shape => {
            return Err(LoraError::UnknownTensor {
                path: path.into(),
                name: name.into(),
                reason: format!("its shape is {shape:?}"),
            });
        }
    };
    let values = widen(view.dtype(), view.data()).ok_or_else(|| LoraError::Type {
        name: name.into(),
        found: view.dtype().to_string(),
    })?;
    check_finite(name, &values)?;
    Ok(HostMatrix::new([rows, columns], values))
}

fn check_finite(name: &str, values: &[f32]) -> Result<(), LoraError> {
    if values.iter().all(|value| value.is_finite()) {
        return Ok(());
    }
    Err(LoraError::NotFinite {
        name: name.into(),
        rounded: false,
    })
}

/// Stored numbers as f32; none for a type that adapters do not use.
fn widen(dtype: Dtype, bytes: &[u8]) -> Option<Vec<f32>> {
    let halves = bytes.as_chunks::<2>().0.iter();
    match dtype {
        Dtype::F32 => Some(
            bytes
                .as_chunks::<4>()
                .0
                .iter()
                .map(|&bytes| f32::from_le_bytes(bytes))
                .collect(),
        ),
        Dtype::F16 => Some(
            halves
                .map(|&bytes| f16::from_le_bytes(bytes).to_f32())
                .collect(),
        ),
        Dtype::BF16 => Some(
            halves
                .map(|&bytes| bf16::from_le_bytes(bytes).to_f32())
                .collect(),
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::golden;

    #[test]
    fn the_reference_library_writes_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        for family in ["llama", "qwen3"] {
            let theirs = golden()
                .join("tiny")
                .join(family)
                .join("adapter/adapter_model.safetensors");
            let (matrices, metadata) = read_matrices(&theirs).unwrap();
            let ours = folder.path().join(family);
            write_matrices(&ours, &matrices, metadata).unwrap();
            assert_eq!(std::fs::read(ours).unwrap(), std::fs::read(theirs).unwrap());
        }
    }

    #[test]
    fn sixteen_bit_adapters_are_widened_without_loss() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let values = [1.5f32, -0.25, 0.0, 3.0];
        for precision in [Precision::F16, Precision::BF16, Precision::F32] {
            let mut bytes = header(
                precision,
                [("x", [2, 2].as_slice())].into_iter(),
                &BTreeMap::new(),
            );
            assert!(precision.append(&values, &mut bytes));
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(
                read_matrices(&path).unwrap().0["x"],
                HostMatrix {
                    shape: [2, 2],
                    values: values.into()
                }
            );
        }
    }

    #[test]
    fn malformed_files_are_refused_with_a_sentence() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let refused = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            read_matrices(&path).unwrap_err()
        };
        let whole =
            std::fs::read(golden().join("tiny/llama/adapter/adapter_model.safetensors")).unwrap();
        for length in [0, 7, 8, 100, whole.len() - 1] {
            assert!(
                matches!(refused(&whole[..length]), LoraError::Malformed { .. }),
                "{length}"
            );
        }
        assert!(matches!(
            refused(&u64::MAX.to_le_bytes()),
            LoraError::Malformed { .. }
        ));

        let one = |shape: &[usize], values: &[f32]| {
            let mut bytes = header(Precision::F32, [("x", shape)].into_iter(), &BTreeMap::new());
            Precision::F32.append(values, &mut bytes);
            bytes
        };
        assert!(
            refused(&one(&[2], &[0.0; 2]))
                .to_string()
                .ends_with("belongs to no adapted layer of this model: its shape is [2]")
        );
        let empty = refused(&one(&[0], &[]));
        assert!(
            empty
                .to_string()
                .ends_with("is empty (shape [0]), expected the numbers of A or B"),
            "{empty}"
        );
        assert!(empty.hint().unwrap().contains("ZeRO-3"));
        assert_eq!(
            refused(&one(&[1, 1], &[f32::NAN])).to_string(),
            "tensor `x` holds a number that is not finite"
        );
        let integers = String::from_utf8_lossy(&one(&[1, 1], &[0.0])).replace("F32", "I32");
        assert_eq!(
            refused(integers.as_bytes()).to_string(),
            "tensor `x` has type I32, expected F32, F16 or BF16"
        );
    }
}

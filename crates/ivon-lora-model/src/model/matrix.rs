//! A frozen matrix `[out, in]`, owned, in the encoding chosen for the run.

use std::ops::{Deref, Range};

use half::bf16;

use super::blocks::{dequantize_row, quantize_q8_0};
use super::change::Change;
use super::compute::Compute;
use super::encoding::Encoding;
use super::mapped::MappedBytes;
use super::tensor::StoredTensor;

/// Columns of a panel. A product that sums over rows reads panels directly; one that sums over
/// columns transposes them in 16 × 16 tiles.
pub const PANEL: usize = 16;

/// A frozen matrix.
#[derive(Clone, Debug)]
pub struct FrozenMatrix {
    rows: usize,
    columns: usize,
    values: Values,
    compute: Compute,
}

/// The values of a matrix.
#[derive(Clone, Debug)]
pub enum Values {
    /// f32 in panels, `[⌈columns / PANEL⌉, rows, PANEL]`, padded with zeros.
    F32(Vec<f32>),
    /// In the checkpoint's encoding, row by row.
    Encoded {
        /// The encoding.
        encoding: Encoding,
        /// The raw bytes.
        bytes: Bytes,
    },
}

/// The bytes of an encoded matrix.
#[derive(Clone, Debug)]
pub enum Bytes {
    /// In memory.
    Owned(Vec<u8>),
    /// In the checkpoint's file: only the rows that are read are in memory.
    Mapped(MappedBytes),
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Owned(bytes) => bytes,
            Self::Mapped(bytes) => bytes,
        }
    }
}

impl FrozenMatrix {
    /// A matrix from f32 values, row by row, rows · columns of them.
    pub fn new(rows: usize, columns: usize, values: Vec<f32>) -> Self {
        assert_eq!(
            values.len(),
            rows * columns,
            "a matrix of {rows} × {columns}"
        );
        let mut panels = vec![0.0; rows * columns.next_multiple_of(PANEL)];
        for (index, panel) in panels.chunks_exact_mut((rows * PANEL).max(1)).enumerate() {
            let first = index * PANEL;
            let count = PANEL.min(columns - first);
            for (row, to) in panel.chunks_exact_mut(PANEL).enumerate() {
                to[..count].copy_from_slice(&values[row * columns + first..][..count]);
            }
        }
        Self {
            rows,
            columns,
            values: Values::F32(panels),
            compute: Compute::F32,
        }
    }

    /// Converts a stored tensor to f32.
    pub fn widened(stored: &StoredTensor<'_>) -> Self {
        Self::new(stored.rows(), stored.columns(), stored.to_f32())
    }

    /// Converts a stored tensor to bf16, rounding to nearest even.
    pub fn rounded(stored: &StoredTensor<'_>) -> Self {
        let bytes = stored
            .to_f32()
            .into_iter()
            .flat_map(|value| bf16::from_f32(value).to_le_bytes())
            .collect();
        Self {
            rows: stored.rows(),
            columns: stored.columns(),
            values: Values::Encoded {
                encoding: Encoding::BF16,
                bytes: Bytes::Owned(bytes),
            },
            compute: Compute::F32,
        }
    }

    /// Reads a stored tensor and rounds it to blocks of Q8_0; one that has these is copied. None if
    /// its rows are no whole number of blocks.
    pub fn in_blocks(stored: &StoredTensor<'_>) -> Option<Self> {
        if stored.encoding == Encoding::Q8_0
            && let Some(copy) = Self::copied(stored)
        {
            return Some(copy);
        }
        let mut row = vec![0.0; stored.columns()];
        let length = Encoding::Q8_0.row_bytes(row.len())?;
        let mut bytes = Vec::with_capacity(stored.rows() * length);
        for index in 0..stored.rows() {
            stored.read_rows(index..index + 1, &mut row);
            quantize_q8_0(&row, &mut bytes);
        }
        Some(Self {
            rows: stored.rows(),
            columns: stored.columns(),
            values: Values::Encoded {
                encoding: Encoding::Q8_0,
                bytes: Bytes::Owned(bytes),
            },
            compute: Compute::F32,
        })
    }

    /// Copies a stored tensor in its encoding, with rows and columns in Hugging Face's order; f32
    /// becomes panels, and so do blocks within which columns have moved (Qwen3.5's output
    /// projection, if 256 columns are one block and 128 one head).
    pub fn kept(stored: &StoredTensor<'_>) -> Self {
        let copy = match stored.encoding {
            Encoding::F32 => None,
            _ => Self::copied(stored),
        };
        copy.unwrap_or_else(|| Self::widened(stored))
    }

    fn copied(stored: &StoredTensor<'_>) -> Option<Self> {
        let values = Values::Encoded {
            encoding: stored.encoding,
            bytes: Bytes::Owned(stored.encoded()?),
        };
        Some(Self {
            rows: stored.rows(),
            columns: stored.columns(),
            values,
            compute: Compute::F32,
        })
    }

    /// A stored tensor as it lies in its file, which stays mapped; copied if the file has it in
    /// another order than the checkpoint.
    pub fn mapped(stored: &StoredTensor<'_>) -> Self {
        let is_unchanged = stored.change == Change::default();
        let file = stored.file.filter(|_| is_unchanged);
        match file.and_then(|file| MappedBytes::of(file, stored.bytes)) {
            Some(bytes) => Self {
                rows: stored.rows(),
                columns: stored.columns(),
                values: Values::Encoded {
                    encoding: stored.encoding,
                    bytes: Bytes::Mapped(bytes),
                },
                compute: Compute::F32,
            },
            None => Self::kept(stored),
        }
    }

    /// The same matrix, whose products are computed in these numbers from now on.
    pub fn computed_in(self, compute: Compute) -> Self {
        Self { compute, ..self }
    }

    /// In which numbers its products are computed.
    pub fn compute(&self) -> Compute {
        self.compute
    }

    /// Number of rows (outputs).
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns (inputs).
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The values.
    pub(crate) fn values(&self) -> &Values {
        &self.values
    }

    /// The size of its numbers in bytes, in memory or in the file.
    pub fn bytes(&self) -> usize {
        match &self.values {
            Values::F32(values) => values.len() * 4,
            Values::Encoded { bytes, .. } => bytes.len(),
        }
    }

    /// Writes row `index` to `out` (`[columns]`).
    pub fn row(&self, index: usize, out: &mut [f32]) {
        self.part(index, 0..self.columns, out);
    }

    /// The number of columns that are decoded together: a block of the encoding.
    pub fn unit(&self) -> usize {
        match &self.values {
            Values::F32(_) => 1,
            Values::Encoded { encoding, .. } => encoding.block().0,
        }
    }

    /// The bytes of columns `columns` of row `index`, if it is encoded; both ends are multiples of
    /// [`Self::unit`].
    pub(crate) fn encoded(
        &self,
        index: usize,
        columns: &Range<usize>,
    ) -> Option<(Encoding, &[u8])> {
        let Values::Encoded { encoding, bytes } = &self.values else {
            return None;
        };
        let (unit, block) = encoding.block();
        let row = index * (self.columns / unit) * block;
        let part = row + columns.start / unit * block..row + columns.end / unit * block;
        Some((*encoding, &bytes[part]))
    }

    /// Writes columns `columns` of row `index` to `out`; both ends are multiples of [`Self::unit`].
    pub fn part(&self, index: usize, columns: Range<usize>, out: &mut [f32]) {
        match &self.values {
            Values::F32(values) => {
                for (column, out) in columns.zip(out) {
                    *out = values[(column / PANEL * self.rows + index) * PANEL + column % PANEL];
                }
            }
            Values::Encoded { encoding, bytes } => {
                let (unit, block) = encoding.block();
                let row = index * (self.columns / unit) * block;
                dequantize_row(
                    *encoding,
                    &bytes[row + columns.start / unit * block..row + columns.end / unit * block],
                    out,
                );
            }
        }
    }

    /// Rows picked by index, concatenated, `[indices.len() · columns]`.
    pub fn gather(&self, indices: &[u32]) -> Vec<f32> {
        let mut out = vec![0.0; indices.len() * self.columns];
        for (row, &index) in out.chunks_exact_mut(self.columns.max(1)).zip(indices) {
            self.row(index as usize, row);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Change;

    #[test]
    fn blocks_of_q8_0_are_near_what_was_rounded_and_need_whole_ones() {
        let numbers: Vec<f32> = (0..128)
            .map(|i| ((i * 37 % 64) as f32 - 32.0) / 10.0)
            .collect();
        let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
        let stored = |columns: usize| {
            let shape = vec![128 / columns, columns];
            StoredTensor::new("w".into(), shape, Encoding::F32, &bytes, Change::default()).unwrap()
        };
        let matrix = FrozenMatrix::in_blocks(&stored(64)).unwrap();
        assert_eq!((matrix.bytes(), matrix.unit()), (4 * 34, 32));
        for (found, expected) in matrix.gather(&[0, 1]).into_iter().zip(&numbers) {
            assert!(
                (found - expected).abs() <= 3.2 / 254.0 * 1.1,
                "{found} for {expected}"
            );
        }
        let Values::Encoded { bytes, .. } = matrix.values() else {
            panic!("blocks");
        };
        let again = StoredTensor::new(
            "w".into(),
            vec![2, 64],
            Encoding::Q8_0,
            bytes,
            Change::default(),
        );
        let again = FrozenMatrix::in_blocks(&again.unwrap()).unwrap();
        assert_eq!(again.gather(&[0, 1]), matrix.gather(&[0, 1]));
        assert!(FrozenMatrix::in_blocks(&stored(16)).is_none());
    }

    #[test]
    fn rounding_keeps_eight_bits_of_each_number() {
        let numbers = [1.0f32, -0.3, 3.7, 1e-20, 65_504.0, 0.0, -7e8, 2.5];
        let bytes: Vec<u8> = numbers
            .iter()
            .flat_map(|number| number.to_le_bytes())
            .collect();
        let stored = StoredTensor::new(
            "w".into(),
            vec![2, 4],
            Encoding::F32,
            &bytes,
            Change::default(),
        )
        .unwrap();
        let matrix = FrozenMatrix::rounded(&stored);
        assert_eq!(matrix.bytes(), 16);
        for (found, expected) in matrix.gather(&[0, 1]).into_iter().zip(numbers) {
            assert!(
                (found - expected).abs() <= expected.abs() / 256.0,
                "{found} for {expected}"
            );
        }
    }
}

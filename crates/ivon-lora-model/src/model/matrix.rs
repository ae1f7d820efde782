//! A frozen matrix `[out, in]`, owned, in the encoding that the run keeps it in.

use std::ops::Range;

use half::bf16;

use super::blocks::dequantize_row;
use super::encoding::Encoding;
use super::tensor::StoredTensor;

/// Columns of a panel. A product that sums along the rows' side reads panels as they lie; one that
/// sums along the columns turns them, sixteen by sixteen.
pub const PANEL: usize = 16;

/// A frozen matrix.
#[derive(Clone, Debug)]
pub struct FrozenMatrix {
    rows: usize,
    columns: usize,
    values: Values,
}

/// Where the numbers are.
#[derive(Clone, Debug)]
pub enum Values {
    /// As f32 in panels, `[⌈columns / PANEL⌉, rows, PANEL]`; what has no column is 0.
    F32(Vec<f32>),
    /// In the blocks of the checkpoint, row after row.
    Encoded {
        /// How they are encoded.
        encoding: Encoding,
        /// The raw bytes.
        bytes: Vec<u8>,
    },
}

impl FrozenMatrix {
    /// A matrix of f32 numbers, row by row; `values` has rows · columns of them.
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
        }
    }

    /// Reads a stored tensor as f32.
    pub fn widened(stored: &StoredTensor<'_>) -> Self {
        Self::new(stored.rows(), stored.columns(), stored.to_f32())
    }

    /// Reads a stored tensor and rounds it to bf16, to even.
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
                bytes,
            },
        }
    }

    /// Copies a stored tensor in the encoding it has, rows in Hugging Face's order; f32 is widened.
    pub fn kept(stored: &StoredTensor<'_>) -> Self {
        if stored.encoding == Encoding::F32 {
            return Self::widened(stored);
        }
        let mut bytes = Vec::with_capacity(stored.bytes.len());
        for row in 0..stored.rows() {
            bytes.extend_from_slice(stored.row_bytes(row));
        }
        let values = Values::Encoded {
            encoding: stored.encoding,
            bytes,
        };
        Self {
            rows: stored.rows(),
            columns: stored.columns(),
            values,
        }
    }

    /// Number of rows (outputs).
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns (inputs).
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The numbers as they are kept.
    pub fn values(&self) -> &Values {
        &self.values
    }

    /// Bytes in memory.
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

    /// Numbers that must be read together: a block of the encoding.
    pub fn unit(&self) -> usize {
        match &self.values {
            Values::F32(_) => 1,
            Values::Encoded { encoding, .. } => encoding.block().0,
        }
    }

    /// Writes columns `columns` of row `index` to `out`; they begin and end at multiples of
    /// [`Self::unit`].
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

    /// Rows picked by index, end to end, `[indices.len() · columns]`.
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

    #[test]
    fn rounding_keeps_eight_bits_of_each_number() {
        let numbers = [1.0f32, -0.3, 3.7, 1e-20, 65_504.0, 0.0, -7e8, 2.5];
        let bytes: Vec<u8> = numbers
            .iter()
            .flat_map(|number| number.to_le_bytes())
            .collect();
        let stored =
            StoredTensor::new("w".into(), vec![2, 4], Encoding::F32, &bytes, None).unwrap();
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

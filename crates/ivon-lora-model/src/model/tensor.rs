//! A tensor of a checkpoint file: encoded bytes, read row by row as f32.

use std::ops::Range;
use std::sync::Arc;

use super::blocks;
use super::change::{Change, NumberChange, Order};
use super::encoding::Encoding;
use super::mapped::MappedFile;

/// A tensor of a memory-mapped file, with its Hugging Face name, shape and row order, whatever the
/// conventions of the file.
#[derive(Clone, Debug)]
pub struct StoredTensor<'a> {
    /// The name in the Hugging Face checkpoint, such as `model.layers.0.self_attn.q_proj.weight`.
    pub name: String,
    /// `[rows, columns]` or `[columns]`.
    pub shape: Vec<usize>,
    /// The encoding.
    pub encoding: Encoding,
    /// The encoded bytes, as they are in the file.
    pub bytes: &'a [u8],
    /// How the file differs from the checkpoint; reading undoes it.
    pub change: Change,
    /// The memory-mapped file with the bytes, if there is one.
    pub(super) file: Option<&'a Arc<MappedFile>>,
}

/// A tensor as stored, whether or not its encoding is supported.
#[derive(Clone, Debug)]
pub struct RawTensor<'a> {
    /// Its name in the Hugging Face checkpoint, or else that in the file.
    pub name: String,
    /// `[rows, columns]`, `[columns]`, …
    pub shape: &'a [usize],
    /// Its number type, as named in the file: `BF16`, `I64`, `IQ4_XS`.
    pub kind: String,
    /// Its bytes.
    pub bytes: &'a [u8],
    /// Whether `name` is Hugging Face's.
    pub(super) is_named: bool,
    pub(super) file: &'a MappedFile,
}

impl RawTensor<'_> {
    /// Releases the memory of the tensor's pages.
    pub fn release(&self) {
        if let Some(range) = self.file.range_of(self.bytes) {
            self.file.release(range);
        }
    }
}

/// The number of encoded bytes that [`StoredTensor::to_f32`] reads before it releases their pages.
const READ_AT_ONCE: usize = 4 << 20;

impl<'a> StoredTensor<'a> {
    /// A tensor from its parts; `None` if the length of `bytes` does not fit shape and encoding, or
    /// a tensor of this shape cannot have been changed like that.
    pub fn new(
        name: String,
        shape: Vec<usize>,
        encoding: Encoding,
        bytes: &'a [u8],
        change: Change,
    ) -> Option<Self> {
        let tensor = Self {
            name,
            shape,
            encoding,
            bytes,
            change,
            file: None,
        };
        let expected = encoding
            .row_bytes(tensor.columns())?
            .checked_mul(tensor.rows())?;
        let fits = change.fits(tensor.rows(), tensor.columns());
        (bytes.len() == expected && fits).then_some(tensor)
    }

    /// The number of values in a row.
    pub fn columns(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Number of rows; 1 for a vector.
    pub fn rows(&self) -> usize {
        self.shape.iter().rev().skip(1).product()
    }

    /// The bytes of a row of the checkpoint, columns in the order of the file.
    fn stored_row(&self, row: usize) -> &'a [u8] {
        let length = self.bytes.len() / self.rows().max(1);
        let stored = self.change.stored_row(row);
        &self.bytes[stored * length..(stored + 1) * length]
    }

    /// The encoded bytes in Hugging Face's order; none if numbers move within blocks, or are others
    /// in the file.
    pub fn encoded(&self) -> Option<Vec<u8>> {
        let (unit, block) = self.encoding.block();
        let moved = match self.change.order {
            Order::Columns(heads) => Some(heads),
            _ => None,
        };
        let in_blocks = moved.is_none_or(|heads| {
            heads.width.is_multiple_of(unit) && heads.first.is_multiple_of(unit)
        });
        if !in_blocks || self.change.number != NumberChange::Kept {
            return None;
        }
        let mut bytes = Vec::with_capacity(self.bytes.len());
        for row in (0..self.rows()).map(|row| self.stored_row(row)) {
            match moved {
                None => bytes.extend_from_slice(row),
                Some(heads) => {
                    for column in (0..self.columns()).step_by(unit) {
                        bytes.extend_from_slice(
                            &row[heads.stored(column) / unit * block..][..block],
                        );
                    }
                }
            }
        }
        Some(bytes)
    }

    /// Reads rows as f32 into `out` (`[rows.len() · columns]`), undoing quantisation and what the
    /// converter changed.
    ///
    /// # Panics
    /// If there are no such rows, or the length of `out` does not fit.
    pub fn read_rows(&self, rows: Range<usize>, out: &mut [f32]) {
        let columns = self.columns();
        assert_eq!(
            out.len(),
            rows.len() * columns,
            "room for {} rows of {columns}",
            rows.len()
        );
        if out.is_empty() {
            return;
        }
        let mut stored = Vec::new();
        for (row, out) in rows.zip(out.chunks_exact_mut(columns)) {
            blocks::dequantize_row(self.encoding, self.stored_row(row), out);
            if let Order::Columns(heads) = self.change.order {
                stored.clear();
                stored.extend_from_slice(out);
                let from = |column| stored[heads.stored(column)];
                out.iter_mut()
                    .enumerate()
                    .for_each(|(column, to)| *to = from(column));
            }
        }
        if self.change.number != NumberChange::Kept {
            let undo = |number: &mut f32| *number = self.change.number.undo(*number);
            out.iter_mut().for_each(undo);
        }
    }

    /// The whole tensor as f32, row by row; the pages read are released on the way.
    pub fn to_f32(&self) -> Vec<f32> {
        let (rows, columns) = (self.rows(), self.columns());
        let mut out = vec![0.0; rows * columns];
        if out.is_empty() {
            return out;
        }
        let row_bytes = (self.bytes.len() / rows).max(1);
        let at_once = (READ_AT_ONCE / row_bytes).max(1);
        for (index, out) in out.chunks_mut(at_once * columns).enumerate() {
            let first = index * at_once;
            let read = first..(first + at_once).min(rows);
            self.read_rows(read.clone(), out);
            self.release_bytes(read.start * row_bytes..read.end * row_bytes);
        }
        self.release();
        out
    }

    /// Releases the memory of the tensor's pages; reading the tensor again reads the file again.
    pub fn release(&self) {
        self.release_bytes(0..self.bytes.len());
    }

    fn release_bytes(&self, part: Range<usize>) {
        if let Some((file, range)) = self
            .file
            .and_then(|file| Some((file, file.range_of(self.bytes)?)))
        {
            file.release(range.start + part.start..range.start + part.end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Regrouped;

    fn tensor<'a>(
        shape: &[usize],
        bytes: &'a [u8],
        permuted: Option<usize>,
    ) -> Option<StoredTensor<'a>> {
        let order = permuted.map_or(Order::Kept, Order::Interleaved);
        let change = Change::of_order(order);
        StoredTensor::new("t".into(), shape.to_vec(), Encoding::F32, bytes, change)
    }

    #[test]
    fn rows_of_two_heads_of_four_come_back_in_halves() {
        // llama.cpp: reshape(heads, 2, d/2, columns).swapaxes(1, 2), so rows 0 1 2 3 are stored as
        // 0 2 1 3.
        let stored: Vec<u8> = [0.0f32, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]
            .iter()
            .flat_map(|x| x.to_le_bytes())
            .collect();
        let tensor = tensor(&[8, 1], &stored, Some(4)).unwrap();
        assert_eq!(tensor.to_f32(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
        let mut middle = [0.0; 3];
        tensor.read_rows(1..4, &mut middle);
        assert_eq!(middle, [1.0, 2.0, 3.0]);
    }

    #[test]
    fn columns_of_regrouped_heads_come_back_and_blocks_move_whole_or_not_at_all() {
        let heads = |width| Regrouped {
            first: 0,
            groups: 2,
            heads: 4,
            width,
        };
        let stored: Vec<u8> = [0.0f32, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]
            .iter()
            .flat_map(|x| x.to_le_bytes())
            .collect();
        let order = |width| Change::of_order(Order::Columns(heads(width)));
        let tensor =
            StoredTensor::new("t".into(), vec![2, 4], Encoding::F32, &stored, order(1)).unwrap();
        assert_eq!(tensor.to_f32(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
        let bytes: Vec<u8> = tensor
            .to_f32()
            .iter()
            .flat_map(|x| x.to_le_bytes())
            .collect();
        assert_eq!(tensor.encoded().unwrap(), bytes);
        // Four blocks of Q8_0, each with its scale: heads of one block, and of half a block.
        let stored: Vec<u8> = (0..136).map(|index| index / 34).collect();
        let blocks = |columns: usize, width| {
            let shape = vec![128 / columns, columns];
            let tensor =
                StoredTensor::new("t".into(), shape, Encoding::Q8_0, &stored, order(width));
            tensor.unwrap().encoded()
        };
        let firsts: Vec<u8> = blocks(128, 32).unwrap().into_iter().step_by(34).collect();
        assert_eq!(firsts, [0, 2, 1, 3]);
        assert!(blocks(64, 16).is_none());
    }

    #[test]
    fn bytes_of_another_length_and_heads_that_do_not_divide_are_refused() {
        assert!(tensor(&[2, 2], &[0; 15], None).is_none());
        assert!(tensor(&[usize::MAX, 8], &[0; 16], None).is_none());
        assert!(tensor(&[6, 1], &[0; 24], Some(4)).is_none());
        let change = Change::default();
        let half = StoredTensor::new("t".into(), vec![1, 33], Encoding::Q8_0, &[0; 34], change);
        assert!(half.is_none());
    }

    #[test]
    fn numbers_at_an_odd_address_are_read() {
        let mut bytes = vec![0u8];
        bytes.extend([1.5f32, -2.0].iter().flat_map(|x| x.to_le_bytes()));
        assert_eq!(
            tensor(&[2], &bytes[1..], None).unwrap().to_f32(),
            [1.5, -2.0]
        );
    }

    #[test]
    fn a_tensor_without_rows_is_empty() {
        assert!(tensor(&[0, 4], &[], None).unwrap().to_f32().is_empty());
        assert!(tensor(&[4, 0], &[], None).unwrap().to_f32().is_empty());
    }

    #[test]
    fn every_encoding_keeps_its_name_and_number() {
        for (encoding, name, number) in Encoding::ALL {
            assert_eq!((encoding.name(), encoding.ggml_type()), (name, number));
            assert_eq!(Encoding::from_ggml_type(number), Some(encoding));
        }
        assert_eq!(Encoding::from_ggml_type(9), None);
    }
}

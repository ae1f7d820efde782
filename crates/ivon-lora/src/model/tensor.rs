//! A tensor as it lies in a checkpoint's file: raw bytes of some encoding, read row by row as f32.

use std::ops::Range;

/// How the numbers of a stored tensor are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Encoding {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
}

/// A tensor of a memory-mapped file, under its Hugging Face name and in Hugging Face's shape and row order
/// whatever the file's own conventions are.
#[derive(Clone, Debug)]
pub struct StoredTensor<'a> {
    /// The name in the Hugging Face checkpoint, such as `model.layers.0.self_attn.q_proj.weight`.
    pub name: String,
    /// `[rows, columns]` or `[columns]`.
    pub shape: Vec<usize>,
    /// How the numbers are encoded.
    pub encoding: Encoding,
    /// The raw bytes, rows in the file's own order.
    pub bytes: &'a [u8],
    /// For a Llama GGUF's q and k projections, whose rows are permuted within each head: the head's width.
    pub rotary_permuted: Option<usize>,
}

impl StoredTensor<'_> {
    /// Numbers in a row.
    pub fn columns(&self) -> usize {
        self.shape.last().copied().unwrap_or(0)
    }

    /// Number of rows; 1 for a vector.
    pub fn rows(&self) -> usize {
        if self.shape.len() == 2 { self.shape[0] } else { 1 }
    }

    /// Reads rows as f32 into `out` (`[rows.len() · columns]`), un-permuting and dequantising.
    pub fn read_rows(&self, rows: Range<usize>, out: &mut [f32]) {
        let _ = (rows, out);
        unimplemented!("helper: model")
    }

    /// The whole tensor as f32, row by row; the file's pages are given back as it goes.
    pub fn to_f32(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.rows() * self.columns()];
        self.read_rows(0..self.rows(), &mut out);
        out
    }
}

//! The change of one weight of a merged model.

use std::ops::Range;

use burn::tensor::Tensor;
use rayon::prelude::*;

use crate::lora::{AdaptedTable, Adapter, HostMatrix, LoraError, LoraPair, TableChange};
use crate::model::{LinearPath, Table};

/// The change of a weight.
pub enum Delta {
    /// s · B A is added, and rows are scaled to their magnitudes.
    LowRank {
        a: HostMatrix,
        b: HostMatrix,
        scaling: f32,
        magnitudes: Option<HostMatrix>,
    },
    /// Another matrix stands in its place.
    Whole(HostMatrix),
}

impl Delta {
    /// Of a linear layer; `name` is its weight's.
    pub fn of_pair(
        adapter: &Adapter,
        path: LinearPath,
        pair: &LoraPair,
        name: &str,
    ) -> Result<Self, LoraError> {
        let read = |tensor: Tensor<2>| HostMatrix::read(name, tensor);
        let magnitudes = pair.lora_magnitude_vector.as_ref();
        Ok(Self::LowRank {
            a: read(pair.lora_A.val())?,
            b: read(pair.lora_B.val())?,
            scaling: adapter.scaling.of(path) as f32,
            magnitudes: magnitudes
                .map(|magnitudes| read(magnitudes.val()))
                .transpose()?,
        })
    }

    /// Of a table.
    pub fn of_table(
        adapter: &Adapter,
        table: &AdaptedTable,
        name: &str,
    ) -> Result<Self, LoraError> {
        let read = |tensor: Tensor<2>| HostMatrix::read(name, tensor);
        let scaling = adapter.scaling.of_table(table.table) as f32;
        let (a, b) = match (&table.change, table.table) {
            (TableChange::Whole(weight), _) => return Ok(Self::Whole(read(weight.val())?)),
            (TableChange::LowRank { a, b }, Table::EmbedTokens) => {
                (b.val().transpose(), a.val().transpose())
            }
            (TableChange::LowRank { a, b }, Table::LmHead) => (a.val(), b.val()),
        };
        Ok(Self::LowRank {
            a: read(a)?,
            b: read(b)?,
            scaling,
            magnitudes: None,
        })
    }

    /// The shape of the weight.
    pub fn shape(&self) -> [usize; 2] {
        match self {
            Self::LowRank { a, b, .. } => [b.shape[0], a.shape[1]],
            Self::Whole(matrix) => matrix.shape,
        }
    }

    /// Changes one row; returns the largest change of an element.
    fn change_row(&self, row: usize, out: &mut [f32]) -> f32 {
        let (a, b, scaling, magnitudes) = match self {
            Self::LowRank {
                a,
                b,
                scaling,
                magnitudes,
            } => (a, b, *scaling, magnitudes),
            Self::Whole(matrix) => {
                let new = &matrix.values[row * out.len()..][..out.len()];
                let changes = out.iter().zip(new).map(|(old, new)| (new - old).abs());
                let largest = changes.fold(0.0, f32::max);
                out.copy_from_slice(new);
                return largest;
            }
        };
        let factors = LowRankRow {
            a,
            factors: &b.values[row * a.shape[0]..][..a.shape[0]],
            scaling,
            magnitude: magnitudes.as_ref().map(|of| of.values[row]),
        };
        factors.add(out)
    }

    /// Changes these rows; returns the largest change of an element.
    pub fn change_rows(&self, rows: Range<usize>, out: &mut [f32]) -> f32 {
        out.par_chunks_mut(self.shape()[1])
            .enumerate()
            .map(|(index, row)| self.change_row(rows.start + index, row))
            .reduce(|| 0.0, f32::max)
    }
}

/// What is added to one row.
struct LowRankRow<'a> {
    a: &'a HostMatrix,
    /// The row of B.
    factors: &'a [f32],
    scaling: f32,
    magnitude: Option<f32>,
}

impl LowRankRow<'_> {
    /// Adds s · B A to the row, and scales it to its magnitude; returns the largest change of an
    /// element.
    fn add(&self, out: &mut [f32]) -> f32 {
        let columns = self.a.shape[1];
        let mut change = vec![0.0; columns];
        let rows = self.a.values.chunks_exact(columns);
        for (&factor, a) in self.factors.iter().zip(rows) {
            change
                .iter_mut()
                .zip(a)
                .for_each(|(sum, a)| *sum += factor * a);
        }
        let mut largest = 0f32;
        let Some(magnitude) = self.magnitude else {
            for (weight, change) in out.iter_mut().zip(change) {
                *weight += self.scaling * change;
                largest = largest.max((self.scaling * change).abs());
            }
            return largest;
        };
        let sum = |(weight, change): (&f32, &f32)| weight + self.scaling * change;
        let sums: Vec<f32> = out.iter().zip(&change).map(sum).collect();
        let length = sums.iter().map(|sum| sum * sum).sum::<f32>().sqrt();
        // A row of zeros stays zero.
        let factor = magnitude / if length == 0.0 { 1.0 } else { length };
        for (weight, sum) in out.iter_mut().zip(sums) {
            largest = largest.max((factor * sum - *weight).abs());
            *weight = factor * sum;
        }
        largest
    }
}

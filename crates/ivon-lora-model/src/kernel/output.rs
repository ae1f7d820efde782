//! What the products with frozen matrices read and write.

use std::ops::Range;

use rayon::prelude::*;

use super::product::Shared;
use crate::model::FrozenMatrix;

/// A product of [`super::apply`]: y `[n, out]` ← (onto +) x · Wᵀ with W `[out, in]`.
pub struct Output<'a> {
    /// W `[out, in]`.
    pub matrix: &'a FrozenMatrix,
    /// y `[n, out]`.
    pub y: &'a mut [f32],
    /// The matrix to add, `[n, out]`.
    pub onto: Option<&'a [f32]>,
}

/// The side of W `[out, in]` over which a product sums.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Over `in`; the result has `out` columns.
    Forward,
    /// Over `out`; the result has `in` columns.
    Backward,
}

impl Direction {
    /// The depth of a product with some rows of a matrix, and the columns of its result.
    pub fn shape(self, matrix: &FrozenMatrix, rows: &Range<usize>) -> [usize; 2] {
        match self {
            Self::Forward => [matrix.columns(), rows.len()],
            Self::Backward => [rows.len(), matrix.columns()],
        }
    }
}

/// The matrix to which a product is added.
#[derive(Clone, Copy)]
pub enum Onto<'a> {
    Nothing,
    /// The result itself.
    Result,
    /// Another matrix of the result's shape.
    Other(&'a [f32]),
}

/// Columns in blocks of this width, the last as wide as what is left.
pub fn column_blocks(columns: usize, width: usize) -> Vec<Range<usize>> {
    let starts = (0..columns).step_by(width);
    starts
        .map(|start| start..columns.min(start + width))
        .collect()
}

/// Writes the sum of products to `out`, onto what is there if `add`: each block of columns is one task
/// and takes the products in their order, so that the result does not depend on the threads.
pub fn sum_of_products<P: Sync>(
    products: &[P],
    blocks: Vec<Range<usize>>,
    out: &mut [f32],
    add: bool,
    multiply: impl Fn(&P, Range<usize>, Shared<'_>, Onto<'_>) + Sync,
) {
    let out = Shared::new(out);
    blocks.into_par_iter().with_max_len(1).for_each(|block| {
        for (index, product) in products.iter().enumerate() {
            let onto = match add || index > 0 {
                true => Onto::Result,
                false => Onto::Nothing,
            };
            multiply(product, block.clone(), out, onto);
        }
    });
}

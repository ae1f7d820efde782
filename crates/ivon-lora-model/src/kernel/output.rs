//! What the products with frozen matrices read and write.

use std::ops::Range;

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

//! Watching a backward pass: what goes into A and B of each adapted projection, token by token, and
//! the gradient of what comes out. Only the CPU operation can be watched.

use std::fmt::Debug;

use crate::model::Projection;

/// An adapted projection on the way back. A row is a token that goes through it: of the last layer
/// all but keys and values see only the tokens that are asked for.
#[derive(Clone, Copy, Debug)]
pub struct Observation<'a> {
    /// The decoder layer, from 0.
    pub layer: usize,
    /// The projection in it.
    pub projection: Projection,
    /// The number of rows, n.
    pub rows: usize,
    /// The input of A, `[n, in]`.
    pub input: &'a [f32],
    /// The input of B, `[n, r]`.
    pub low: &'a [f32],
    /// The gradient of A's output, `[n, r]`.
    pub d_low: &'a [f32],
    /// The gradient of the projection's output, `[n, out]`; that of B's output is s times it.
    pub dy: &'a [f32],
}

/// Hears of every adapted projection in a backward pass, the last layer first.
pub trait Observer: Debug + Send + Sync {
    /// Sees one projection.
    fn see(&self, seen: Observation<'_>);
}

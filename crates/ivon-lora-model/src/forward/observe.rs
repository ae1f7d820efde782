//! Observing a backward pass: the inputs of A and B of each adapted projection, token by token, and
//! the gradient of the output. Only the CPU operation can be observed.

use std::fmt::Debug;

use crate::model::LinearPath;

/// An adapted projection in a backward pass. A row is a token that it processes: in the last layer
/// all projections but keys and values process only the requested tokens.
#[derive(Clone, Copy, Debug)]
pub struct Observation<'a> {
    /// The linear layer.
    pub path: LinearPath,
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

/// Receives every adapted projection of a backward pass, the last layer first.
pub trait Observer: Debug + Send + Sync {
    /// Receives one projection.
    fn see(&self, seen: Observation<'_>);
}

//! The adapter-side input of a forward pass: adapter weights, and dropout masks on their inputs.

use burn::module::Module;

use super::{Adapter, Dropout};

/// One function computed by decoder and adapter: the mean of a posterior, a draw from it, or the
/// weights of a training step.
#[derive(Clone, Debug)]
pub struct Draw {
    /// Its weights.
    pub adapter: Adapter,
    /// Its dropout masks; none without dropout.
    pub dropout: Option<Dropout>,
}

impl Draw {
    /// These weights, without dropout.
    pub fn of(adapter: Adapter) -> Self {
        Self {
            adapter,
            dropout: None,
        }
    }

    /// The decoder itself, without an adapter.
    pub fn base() -> Self {
        Self::of(Adapter::empty())
    }

    /// The same function without gradient tracking.
    pub fn valid(&self) -> Self {
        Self {
            adapter: self.adapter.valid(),
            dropout: self.dropout,
        }
    }
}

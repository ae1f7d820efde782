//! What a forward pass runs with beside the frozen decoder: adapter weights, and dropout masks on
//! their inputs.

use burn::module::Module;

use super::{Adapter, Dropout};

/// One function that a decoder and an adapter compute: the mean of a posterior, a draw from it, or
/// the weights of a training step.
#[derive(Clone, Debug)]
pub struct Draw {
    /// Its weights.
    pub adapter: Adapter,
    /// Its dropout masks; none where dropout is off.
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

    /// The same function with weights through which no gradient flows.
    pub fn valid(&self) -> Self {
        Self {
            adapter: self.adapter.valid(),
            dropout: self.dropout,
        }
    }
}

//! The gated MLP of a decoder layer: down(act(gate x) ⊙ up x).

use serde::Serialize;

use super::error::ModelError;
use super::projection::{LinearShape, Projection};
use super::setting::count;

/// The MLP of a decoder layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Mlp {
    /// Its inner width.
    pub intermediate_size: usize,
    /// The activation of its gate.
    pub gate: Gate,
    /// Whether one linear layer computes gate and up, one above the other.
    pub is_fused: bool,
}

/// The activation of the gate in the MLP. The forward pass destructures it where it applies it, so
/// that a new variant does not compile without its backward pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// x · σ(x).
    #[default]
    Silu,
    /// GELU by its approximation with tanh.
    GeluTanh,
}

impl Mlp {
    /// Llama's, of this inner width.
    pub fn new(intermediate_size: usize) -> Self {
        Self {
            intermediate_size,
            gate: Gate::Silu,
            is_fused: false,
        }
    }

    /// Its linear layers, for a residual stream of width `hidden`.
    pub(super) fn linears(&self, hidden: usize) -> Vec<LinearShape> {
        let wide = self.intermediate_size;
        let mut linears = match self.is_fused {
            true => vec![LinearShape::new(Projection::GateUp, [2 * wide, hidden])],
            false => vec![
                LinearShape::new(Projection::Gate, [wide, hidden]),
                LinearShape::new(Projection::Up, [wide, hidden]),
            ],
        };
        linears.push(LinearShape::new(Projection::Down, [hidden, wide]));
        linears
    }

    pub(super) fn validate(&self, file: &str) -> Result<(), ModelError> {
        count(file, "intermediate_size", self.intermediate_size, 1 << 20)
    }
}

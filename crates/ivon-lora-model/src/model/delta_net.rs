//! Qwen3.5's gated delta net: a state per head that decays, forgets what it holds under a key and
//! stores a value under it.

use serde::Serialize;

use super::error::ModelError;
use super::layer_vector::LayerVector;
use super::projection::{LinearShape, Projection};
use super::setting::{count, ensure};

/// A gated delta net.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct DeltaNet {
    /// Number of heads of queries and keys, a divisor of the number of value heads.
    pub key_heads: usize,
    /// Number of value heads.
    pub value_heads: usize,
    /// Width of a head of queries and keys.
    pub key_head_dim: usize,
    /// Width of a head of values.
    pub value_head_dim: usize,
    /// The number of tokens that its convolution depends on.
    pub kernel: usize,
}

impl DeltaNet {
    /// The width of all heads of keys together.
    pub fn key_width(&self) -> usize {
        self.key_heads * self.key_head_dim
    }

    /// The width of all heads of values together.
    pub fn value_width(&self) -> usize {
        self.value_heads * self.value_head_dim
    }

    /// The width of queries, keys and values together.
    pub fn qkv_width(&self) -> usize {
        2 * self.key_width() + self.value_width()
    }

    /// Its linear layers, for a residual stream of width `hidden`.
    pub(super) fn linears(&self, hidden: usize) -> Vec<LinearShape> {
        vec![
            LinearShape::new(Projection::DeltaQkv, [self.qkv_width(), hidden]),
            LinearShape::new(Projection::DeltaZ, [self.value_width(), hidden]),
            LinearShape::new(Projection::DeltaB, [self.value_heads, hidden]),
            LinearShape::new(Projection::DeltaA, [self.value_heads, hidden]),
            LinearShape::new(Projection::DeltaOut, [hidden, self.value_width()]),
        ]
    }

    /// Its vectors with their shapes.
    pub(super) fn vectors(&self) -> Vec<(LayerVector, Vec<usize>)> {
        vec![
            (
                LayerVector::DeltaConvolution,
                vec![self.qkv_width(), 1, self.kernel],
            ),
            (LayerVector::DeltaDecay, vec![self.value_heads]),
            (LayerVector::DeltaTimeStep, vec![self.value_heads]),
            (LayerVector::DeltaNorm, vec![self.value_head_dim]),
        ]
    }

    pub(super) fn validate(&self, file: &str) -> Result<(), ModelError> {
        for (field, value, most) in [
            ("linear_num_value_heads", self.value_heads, 1 << 12),
            ("linear_num_key_heads", self.key_heads, self.value_heads),
            ("linear_key_head_dim", self.key_head_dim, 1 << 12),
            ("linear_value_head_dim", self.value_head_dim, 1 << 12),
            ("linear_conv_kernel_dim", self.kernel, 64),
        ] {
            count(file, field, value, most)?;
        }
        let (keys, values) = (self.key_heads, self.value_heads);
        let holds = values.is_multiple_of(keys);
        let expected = format_args!("a divisor of {values} value heads");
        ensure(file, "linear_num_key_heads", keys, holds, expected)
    }
}

//! LFM2's mixer of neighbouring tokens: out(C ⊙ convolution(B ⊙ x)), where one linear layer
//! computes B, C and x.

use serde::Serialize;

use super::error::ModelError;
use super::layer_vector::LayerVector;
use super::projection::{LinearShape, Projection};
use super::setting::count;

/// A short convolution over tokens, each channel by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ShortConvolution {
    /// The number of tokens that an output depends on, the last of which is its own.
    pub kernel: usize,
}

impl ShortConvolution {
    /// Its linear layers, for a residual stream of width `hidden`.
    pub(super) fn linears(&self, hidden: usize) -> Vec<LinearShape> {
        vec![
            LinearShape::new(Projection::ConvolutionIn, [3 * hidden, hidden]),
            LinearShape::new(Projection::ConvolutionOut, [hidden, hidden]),
        ]
    }

    /// Its vectors with their shapes.
    pub(super) fn vectors(&self, hidden: usize) -> Vec<(LayerVector, Vec<usize>)> {
        vec![(LayerVector::Convolution, vec![hidden, 1, self.kernel])]
    }

    pub(super) fn validate(&self, file: &str) -> Result<(), ModelError> {
        count(file, "conv_L_cache", self.kernel, 64)
    }
}

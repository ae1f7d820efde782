//! The trainable part: A and B of every adapted layer, as a Burn module whose parameter paths are
//! the checkpoint's own (`layers.0.self_attn.q_proj.lora_A`).

// Fields are named as in the files; the derived code needs the permission for the whole file.
#![allow(non_snake_case)]

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use super::{Context, Flip};
use crate::model::Projection;

/// A and B of one linear layer: y = W x + s · B A dropout(x).
#[derive(Module, Debug)]
pub struct LoraPair {
    /// `[r, in]`.
    pub lora_A: Param<Tensor<2>>,
    /// `[out, r]`.
    pub lora_B: Param<Tensor<2>>,
    /// The network that predicts a matrix between A and B from A's output, where there is one.
    pub context: Option<Context>,
    /// Noise on A with signs of its own for each token, in draws of training.
    pub flip: Option<Flip>,
}

/// The adapted projections of an attention block.
#[derive(Module, Debug)]
#[allow(missing_docs)]
pub struct SelfAttention {
    pub q_proj: Option<LoraPair>,
    pub k_proj: Option<LoraPair>,
    pub v_proj: Option<LoraPair>,
    pub o_proj: Option<LoraPair>,
}

/// The adapted projections of a gated layer.
#[derive(Module, Debug)]
#[allow(missing_docs)]
pub struct Mlp {
    pub gate_proj: Option<LoraPair>,
    pub up_proj: Option<LoraPair>,
    pub down_proj: Option<LoraPair>,
}

/// The adapted projections of one decoder layer.
#[derive(Module, Debug)]
#[allow(missing_docs)]
pub struct LayerAdapter {
    pub self_attn: SelfAttention,
    pub mlp: Mlp,
}

/// The adapter of a whole decoder.
#[derive(Module, Debug)]
pub struct Adapter {
    /// One entry per decoder layer, adapted or not.
    pub layers: Vec<LayerAdapter>,
    /// The factor s before B A, see [`super::LoraConfig::scaling`]; a constant, no parameter.
    #[module(skip)]
    pub scaling: f64,
}

impl Adapter {
    /// Of no layer: the decoder stays as it is.
    pub const fn empty() -> Self {
        Self {
            layers: Vec::new(),
            scaling: 0.0,
        }
    }

    /// With another factor before B A.
    pub fn with_scaling(self, scaling: f64) -> Self {
        Self { scaling, ..self }
    }
}

impl LayerAdapter {
    /// The pair on a projection, if it is adapted.
    pub fn pair(&self, projection: Projection) -> Option<&LoraPair> {
        match projection {
            Projection::Q => self.self_attn.q_proj.as_ref(),
            Projection::K => self.self_attn.k_proj.as_ref(),
            Projection::V => self.self_attn.v_proj.as_ref(),
            Projection::O => self.self_attn.o_proj.as_ref(),
            Projection::Gate => self.mlp.gate_proj.as_ref(),
            Projection::Up => self.mlp.up_proj.as_ref(),
            Projection::Down => self.mlp.down_proj.as_ref(),
        }
    }

    /// Builds a layer from what `pair` gives for each projection.
    pub fn from_pairs(mut pair: impl FnMut(Projection) -> Option<LoraPair>) -> Self {
        Self {
            self_attn: SelfAttention {
                q_proj: pair(Projection::Q),
                k_proj: pair(Projection::K),
                v_proj: pair(Projection::V),
                o_proj: pair(Projection::O),
            },
            mlp: Mlp {
                gate_proj: pair(Projection::Gate),
                up_proj: pair(Projection::Up),
                down_proj: pair(Projection::Down),
            },
        }
    }
}

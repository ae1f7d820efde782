//! The trainable part: A and B of every adapted layer, as a Burn module whose parameter paths are
//! the checkpoint's (`layers.0.self_attn.q_proj.lora_A`).

// Fields are named as in the files; the attribute must cover the derived code, hence the whole
// file.
#![allow(non_snake_case)]

use std::convert::Infallible;

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use super::Side;
use crate::model::Projection;

/// A and B of one linear layer: y = W x + s · B A dropout(x).
#[derive(Module, Debug)]
pub struct LoraPair {
    /// `[r, in]`.
    pub lora_A: Param<Tensor<2>>,
    /// `[out, r]`.
    pub lora_B: Param<Tensor<2>>,
    /// An addition that changes the data between A and B, if there is one.
    pub side: Option<Side>,
}

impl LoraPair {
    /// r.
    pub fn rank(&self) -> usize {
        self.lora_A.lazy_shape().dims::<2>()[0]
    }

    /// Its parameters in order, by the ends of their paths: A, B, those of the side.
    pub fn parameters(&self) -> Vec<(&'static str, &Param<Tensor<2>>)> {
        let mut parameters = vec![("lora_A", &self.lora_A), ("lora_B", &self.lora_B)];
        parameters.extend(self.side.iter().flat_map(|side| side.form().parameters()));
        parameters
    }

    /// The same parameters in the same order, mutable.
    fn parameters_mut(&mut self) -> Vec<&mut Param<Tensor<2>>> {
        let mut parameters = vec![&mut self.lora_A, &mut self.lora_B];
        let side = self.side.iter_mut();
        parameters.extend(side.flat_map(|side| side.form_mut().parameters_mut()));
        parameters
    }

    /// The pair with its parameters changed by `change`, which gets the ends of their paths; ids
    /// are kept.
    ///
    /// # Errors
    /// The first error of `change`.
    pub(super) fn try_map<E>(
        &self,
        mut change: impl FnMut(&str, Tensor<2>) -> Result<Tensor<2>, E>,
    ) -> Result<Self, E> {
        let mut pair = self.clone();
        for (new, (name, old)) in pair.parameters_mut().into_iter().zip(self.parameters()) {
            let tensor = change(name, old.val())?;
            *new = old.clone().map(|_| tensor);
        }
        Ok(pair)
    }
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

/// The adapted projections of an MLP.
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
    /// The factor s of B A, see [`super::LoraConfig::scaling`]; a constant, not a parameter.
    #[module(skip)]
    pub scaling: f64,
}

impl Adapter {
    /// An adapter on no layer: the decoder is unchanged.
    pub const fn empty() -> Self {
        Self {
            layers: Vec::new(),
            scaling: 0.0,
        }
    }

    /// With another factor of B A.
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

    /// A layer from the result of `pair` for each projection, in the order of [`Projection::ALL`].
    ///
    /// # Errors
    /// The first error of `pair`.
    pub(super) fn try_from_pairs<E>(
        mut pair: impl FnMut(Projection) -> Result<Option<LoraPair>, E>,
    ) -> Result<Self, E> {
        Ok(Self {
            self_attn: SelfAttention {
                q_proj: pair(Projection::Q)?,
                k_proj: pair(Projection::K)?,
                v_proj: pair(Projection::V)?,
                o_proj: pair(Projection::O)?,
            },
            mlp: Mlp {
                gate_proj: pair(Projection::Gate)?,
                up_proj: pair(Projection::Up)?,
                down_proj: pair(Projection::Down)?,
            },
        })
    }

    /// [`try_from_pairs`](Self::try_from_pairs) for pairs that cannot fail.
    pub(super) fn from_pairs(mut pair: impl FnMut(Projection) -> Option<LoraPair>) -> Self {
        match Self::try_from_pairs(|projection| Ok::<_, Infallible>(pair(projection))) {
            Ok(layer) => layer,
            Err(never) => match never {},
        }
    }
}

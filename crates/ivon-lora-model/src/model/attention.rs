//! Softmax attention, and what differs of it from family to family.

use serde::Serialize;

use super::error::ModelError;
use super::layer_vector::LayerVector;
use super::projection::{LinearShape, Projection};
use super::rope::Rope;
use super::setting::{count, ensure};

/// The attention of a decoder layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Attention {
    /// Number of query heads.
    pub num_attention_heads: usize,
    /// Number of key and value heads, a divisor of the number of query heads.
    pub num_key_value_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// The number of tokens that are attended to, including the token itself; none: all.
    pub window: Option<usize>,
    /// The rotary embedding of its queries and keys; none: they have no positions.
    pub rope: Option<Rope>,
    /// Whether q_proj, k_proj and v_proj have a bias.
    pub attention_bias: bool,
    /// The norm of queries and keys.
    pub qk_norm: HeadNorm,
    /// Whether the values of each head are normalised, without a weight.
    pub v_norm: bool,
    /// By which scores are multiplied; none: 1/√head_dim.
    pub multiplier: Option<f64>,
    /// c, if scores s become c tanh(s / c).
    pub softcap: Option<f64>,
    /// Whether each head's output is multiplied by the sigmoid of a gate, which q_proj computes
    /// along with the head's query.
    pub has_gate: bool,
    /// Where its keys and values come from.
    pub key_values: KeyValues,
}

/// The norm of queries and keys, applied before their rotation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HeadNorm {
    /// None.
    #[default]
    None,
    /// Of each head.
    PerHead,
    /// Of all heads together.
    Whole,
}

/// Where the keys and values of an attention layer come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyValues {
    /// k_proj and v_proj.
    #[default]
    Separate,
    /// qkv_proj, which computes queries, keys and values.
    Fused,
    /// k_proj alone: values are the keys before their norm and rotation.
    ValuesAreKeys,
    /// Those of an earlier layer.
    OfLayer(usize),
}

impl Attention {
    /// Llama's, with this number of query heads, of key heads, and width of a head.
    pub fn new([queries, keys, head_dim]: [usize; 3], rope: Option<Rope>) -> Self {
        Self {
            num_attention_heads: queries,
            num_key_value_heads: keys,
            head_dim,
            window: None,
            rope,
            attention_bias: false,
            qk_norm: HeadNorm::None,
            v_norm: false,
            multiplier: None,
            softcap: None,
            has_gate: false,
            key_values: KeyValues::Separate,
        }
    }

    /// The width of all query heads together.
    pub fn query_width(&self) -> usize {
        self.num_attention_heads * self.head_dim
    }

    /// The width of all key heads together.
    pub fn key_width(&self) -> usize {
        self.num_key_value_heads * self.head_dim
    }

    /// By which scores are multiplied.
    pub fn score_multiplier(&self) -> f32 {
        match self.multiplier {
            Some(multiplier) => multiplier as f32,
            None => 1.0 / (self.head_dim as f32).sqrt(),
        }
    }

    /// Its linear layers, for a residual stream of width `hidden`.
    pub(super) fn linears(&self, hidden: usize) -> Vec<LinearShape> {
        let (queries, keys) = (self.query_width(), self.key_width());
        let of_input = |projection, outputs| LinearShape {
            projection,
            shape: [outputs, hidden],
            has_bias: self.attention_bias,
        };
        let gated = if self.has_gate { 2 * queries } else { queries };
        let q = of_input(Projection::Q, gated);
        let (k, v) = (of_input(Projection::K, keys), of_input(Projection::V, keys));
        let mut linears = match self.key_values {
            KeyValues::Separate => vec![q, k, v],
            KeyValues::Fused => vec![of_input(Projection::Qkv, queries + 2 * keys)],
            KeyValues::ValuesAreKeys => vec![q, k],
            KeyValues::OfLayer(_) => vec![q],
        };
        linears.push(LinearShape::new(Projection::O, [hidden, queries]));
        linears
    }

    /// Its vectors with their lengths.
    pub(super) fn vectors(&self) -> Vec<(LayerVector, Vec<usize>)> {
        let [queries, keys] = match self.qk_norm {
            HeadNorm::None => return Vec::new(),
            HeadNorm::PerHead => [self.head_dim; 2],
            HeadNorm::Whole => [self.query_width(), self.key_width()],
        };
        match self.key_values {
            KeyValues::OfLayer(_) => vec![(LayerVector::QNorm, vec![queries])],
            _ => vec![
                (LayerVector::QNorm, vec![queries]),
                (LayerVector::KNorm, vec![keys]),
            ],
        }
    }

    /// Checks the consistency of its numbers; `index` is its layer's.
    pub(super) fn validate(&self, file: &str, index: usize) -> Result<(), ModelError> {
        let heads = self.num_attention_heads;
        count(file, "num_attention_heads", heads, 1 << 12)?;
        count(file, "num_key_value_heads", self.num_key_value_heads, heads)?;
        count(file, "head_dim", self.head_dim, 1 << 12)?;
        let found = self.num_key_value_heads;
        let divides = heads.is_multiple_of(found);
        let expected = format_args!("a divisor of {heads} query heads");
        ensure(file, "num_key_value_heads", found, divides, expected)?;
        let width = self.head_dim;
        let is_even = width.is_multiple_of(2);
        ensure(file, "head_dim", width, is_even, "an even number")?;
        if let Some(window) = self.window {
            count(file, "sliding_window", window, 1 << 31)?;
        }
        if let KeyValues::OfLayer(layer) = self.key_values {
            let expected = "an earlier layer of the same kind";
            ensure(file, "num_kv_shared_layers", layer, layer < index, expected)?;
        }
        for (field, number) in [
            ("attention_multiplier", self.multiplier),
            ("attn_logit_softcapping", self.softcap),
        ] {
            if let Some(number) = number {
                let holds = number > 0.0 && number <= 1e6;
                ensure(file, field, number, holds, "above 0, at most 1e6")?;
            }
        }
        match &self.rope {
            Some(rope) => rope.validate(file, self.head_dim),
            None => Ok(()),
        }
    }
}

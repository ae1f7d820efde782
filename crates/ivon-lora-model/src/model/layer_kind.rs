//! A decoder layer as a composition of parts: a mixer of tokens, an MLP, and their norms.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::attention::{Attention, HeadNorm};
use super::delta_net::DeltaNet;
use super::error::ModelError;
use super::layer_vector::LayerVector;
use super::mlp::{Gate, Mlp};
use super::projection::{LinearShape, Projection};
use super::rope::Rope;
use super::setting::{count, ensure};
use super::short_convolution::ShortConvolution;

/// The composition of a decoder layer:
///
/// ```text
/// m = x + residual_multiplier · norm?(mixer(norm?(x)))
/// y = m + residual_multiplier · norm?(mlp(norm?(m)))
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct LayerKind {
    /// What mixes tokens.
    pub mixer: Mixer,
    /// What follows it.
    pub mlp: Mlp,
    /// The position of the norms of both.
    pub norms: Norms,
    /// By which the outputs of both are multiplied.
    pub residual_multiplier: f64,
    /// The width of the layer's own input, which is added, gated, after the MLP (Gemma 4).
    pub per_layer_input: Option<usize>,
    /// Whether the layer's output is multiplied by a number of the checkpoint (Gemma 4).
    pub has_scalar: bool,
}

/// What mixes the tokens of a sequence in a decoder layer.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Mixer {
    Attention(Attention),
    DeltaNet(DeltaNet),
    ShortConvolution(ShortConvolution),
}

/// The position of the norms of a layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Norms {
    /// Before the mixer and before the MLP, as in Llama.
    #[default]
    Before,
    /// After them, before the residual connection (OLMo 2).
    After,
    /// Before and after (Gemma).
    Around,
}

impl LayerKind {
    /// A layer like Llama's, of these parts.
    pub fn new(mixer: Mixer, mlp: Mlp) -> Self {
        Self {
            mixer,
            mlp,
            norms: Norms::Before,
            residual_multiplier: 1.0,
            per_layer_input: None,
            has_scalar: false,
        }
    }

    /// Its attention, if that is its mixer.
    pub fn attention(&self) -> Option<&Attention> {
        match &self.mixer {
            Mixer::Attention(attention) => Some(attention),
            _ => None,
        }
    }

    /// Its attention, to be changed.
    pub fn attention_mut(&mut self) -> Option<&mut Attention> {
        match &mut self.mixer {
            Mixer::Attention(attention) => Some(attention),
            _ => None,
        }
    }

    /// Its attention window, if it has one.
    pub fn window(&self) -> Option<usize> {
        self.attention()?.window
    }

    /// Its rotary embedding, if it has one.
    pub fn rope(&self) -> Option<&Rope> {
        self.attention()?.rope.as_ref()
    }

    /// Its linear layers in the order of the forward pass, for a residual stream of width
    /// `hidden`.
    pub fn linears(&self, hidden: usize) -> Vec<LinearShape> {
        let mut linears = match &self.mixer {
            Mixer::Attention(attention) => attention.linears(hidden),
            Mixer::DeltaNet(net) => net.linears(hidden),
            Mixer::ShortConvolution(convolution) => convolution.linears(hidden),
        };
        linears.extend(self.mlp.linears(hidden));
        if let Some(width) = self.per_layer_input {
            linears.extend([
                LinearShape::new(Projection::PerLayerGate, [width, hidden]),
                LinearShape::new(Projection::PerLayerProjection, [hidden, width]),
            ]);
        }
        linears
    }

    /// Its other tensors with their shapes.
    pub fn vectors(&self, hidden: usize) -> Vec<(LayerVector, Vec<usize>)> {
        let norms: &[LayerVector] = match self.norms {
            Norms::Before => &[LayerVector::MixerIn, LayerVector::MlpIn],
            Norms::After => &[LayerVector::MixerOut, LayerVector::MlpOut],
            Norms::Around => &[
                LayerVector::MixerIn,
                LayerVector::MixerOut,
                LayerVector::MlpIn,
                LayerVector::MlpOut,
            ],
        };
        let mut vectors: Vec<_> = norms.iter().map(|norm| (*norm, vec![hidden])).collect();
        vectors.extend(match &self.mixer {
            Mixer::Attention(attention) => attention.vectors(),
            Mixer::DeltaNet(net) => net.vectors(),
            Mixer::ShortConvolution(convolution) => convolution.vectors(hidden),
        });
        if self.per_layer_input.is_some() {
            vectors.push((LayerVector::PerLayerNorm, vec![hidden]));
        }
        if self.has_scalar {
            vectors.push((LayerVector::Scalar, vec![1]));
        }
        vectors
    }

    /// The name of a vector in most checkpoints; families with other names have a table of them.
    pub fn usual_path(&self, vector: LayerVector) -> &'static str {
        match (vector, self.norms) {
            (LayerVector::MixerIn, _) => "input_layernorm.weight",
            (LayerVector::MixerOut, _) | (LayerVector::MlpIn, Norms::Before) => {
                "post_attention_layernorm.weight"
            }
            (LayerVector::MlpIn, _) => "pre_feedforward_layernorm.weight",
            (LayerVector::MlpOut, _) => "post_feedforward_layernorm.weight",
            (LayerVector::QNorm, _) => "self_attn.q_norm.weight",
            (LayerVector::KNorm, _) => "self_attn.k_norm.weight",
            (LayerVector::Convolution, _) => "conv.conv.weight",
            (LayerVector::DeltaConvolution, _) => "linear_attn.conv1d.weight",
            (LayerVector::DeltaDecay, _) => "linear_attn.A_log",
            (LayerVector::DeltaTimeStep, _) => "linear_attn.dt_bias",
            (LayerVector::DeltaNorm, _) => "linear_attn.norm.weight",
            (LayerVector::PerLayerNorm, _) => "post_per_layer_input_norm.weight",
            (LayerVector::Scalar, _) => "layer_scalar",
        }
    }

    /// Checks the consistency of its numbers; `index` is its own.
    pub(super) fn validate(&self, file: &str, index: usize) -> Result<(), ModelError> {
        match &self.mixer {
            Mixer::Attention(attention) => attention.validate(file, index)?,
            Mixer::DeltaNet(net) => net.validate(file)?,
            Mixer::ShortConvolution(convolution) => convolution.validate(file)?,
        }
        self.mlp.validate(file)?;
        let residual = self.residual_multiplier;
        let holds = residual > 0.0 && residual <= 1e6;
        let expected = "above 0, at most 1e6";
        ensure(file, "residual_multiplier", residual, holds, expected)?;
        match self.per_layer_input {
            Some(width) => count(file, "hidden_size_per_layer_input", width, 1 << 17),
            None => Ok(()),
        }
    }

    /// Its attention, if the layer has the parts of Llama's, in which bias and norm of the heads
    /// may differ.
    pub(super) fn like_llama(&self) -> Option<&Attention> {
        let Mixer::Attention(attention) = &self.mixer else {
            return None;
        };
        let sizes = [
            attention.num_attention_heads,
            attention.num_key_value_heads,
            attention.head_dim,
        ];
        let plain = Attention {
            window: attention.window,
            attention_bias: attention.attention_bias,
            qk_norm: attention.qk_norm,
            ..Attention::new(sizes, attention.rope.clone())
        };
        let rope = attention.rope.as_ref();
        let is_plain = *attention == plain
            && rope.is_some_and(|rope| rope.partial_rotary_factor.is_none())
            && attention.qk_norm != HeadNorm::Whole;
        let whole = Self::new(self.mixer.clone(), Mlp::new(self.mlp.intermediate_size));
        (is_plain && *self == whole).then_some(attention)
    }
}

impl Serialize for LayerKind {
    /// Layers like Llama's with the keys that the fingerprints of saved adapters have; others in
    /// full.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(Attention {
            window,
            rope: Some(rope),
            ..
        }) = self.like_llama()
        {
            map.serialize_entry("window", window)?;
            map.serialize_entry("rope_theta", &rope.theta)?;
            map.serialize_entry("rope_scaling", &rope.scaling)?;
            map.serialize_entry("norms", &Norms::Before)?;
            map.serialize_entry("gate", &Gate::Silu)?;
            return map.end();
        }
        map.serialize_entry("mixer", &self.mixer)?;
        map.serialize_entry("mlp", &self.mlp)?;
        map.serialize_entry("norms", &self.norms)?;
        map.serialize_entry("residual_multiplier", &self.residual_multiplier)?;
        map.serialize_entry("per_layer_input", &self.per_layer_input)?;
        map.serialize_entry("has_scalar", &self.has_scalar)?;
        map.end()
    }
}

//! The linear layers of a decoder, as adapters and the forward pass name them.

use std::fmt;

/// The path of the decoder in a language model.
pub const MODEL: &str = "model";
/// The path of the decoder in a model that has parts for images or sound beside it.
pub const LANGUAGE_MODEL: &str = "model.language_model";

/// The role of a linear layer, in the order of the forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Projection {
    /// From the embedding to the inputs of all layers (Gemma 4); outside the layers.
    PerLayerModel,
    Q,
    K,
    V,
    /// Q, K and V as one.
    Qkv,
    O,
    /// Queries, keys and values of a gated delta net.
    DeltaQkv,
    /// The gate of its output.
    DeltaZ,
    /// The strength of its updates.
    DeltaB,
    /// Its decay.
    DeltaA,
    DeltaOut,
    ConvolutionIn,
    ConvolutionOut,
    Gate,
    Up,
    /// Gate and up as one.
    GateUp,
    Down,
    /// From the residual stream to the gate of the layer's own input (Gemma 4).
    PerLayerGate,
    /// From the gated input back to the residual stream.
    PerLayerProjection,
}

impl Projection {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::PerLayerModel,
        Self::Q,
        Self::K,
        Self::V,
        Self::Qkv,
        Self::O,
        Self::DeltaQkv,
        Self::DeltaZ,
        Self::DeltaB,
        Self::DeltaA,
        Self::DeltaOut,
        Self::ConvolutionIn,
        Self::ConvolutionOut,
        Self::Gate,
        Self::Up,
        Self::GateUp,
        Self::Down,
        Self::PerLayerGate,
        Self::PerLayerProjection,
    ];

    /// The path within a decoder layer, as in most checkpoints; families with other names have a
    /// table of them.
    pub fn usual_path(self) -> &'static str {
        match self {
            Self::PerLayerModel => "per_layer_model_projection",
            Self::Q => "self_attn.q_proj",
            Self::K => "self_attn.k_proj",
            Self::V => "self_attn.v_proj",
            Self::Qkv => "self_attn.qkv_proj",
            Self::O => "self_attn.o_proj",
            Self::DeltaQkv => "linear_attn.in_proj_qkv",
            Self::DeltaZ => "linear_attn.in_proj_z",
            Self::DeltaB => "linear_attn.in_proj_b",
            Self::DeltaA => "linear_attn.in_proj_a",
            Self::DeltaOut => "linear_attn.out_proj",
            Self::ConvolutionIn => "conv.in_proj",
            Self::ConvolutionOut => "conv.out_proj",
            Self::Gate => "mlp.gate_proj",
            Self::Up => "mlp.up_proj",
            Self::GateUp => "mlp.gate_up_proj",
            Self::Down => "mlp.down_proj",
            Self::PerLayerGate => "per_layer_input_gate",
            Self::PerLayerProjection => "per_layer_projection",
        }
    }

    /// Whether it computes something of a token that later tokens read, so that it is needed for
    /// all tokens in every layer.
    pub fn is_before_mixing(self) -> bool {
        match self {
            Self::PerLayerModel | Self::K | Self::V | Self::Qkv | Self::ConvolutionIn => true,
            Self::DeltaQkv | Self::DeltaZ | Self::DeltaB | Self::DeltaA => true,
            Self::Q | Self::O | Self::DeltaOut | Self::ConvolutionOut => false,
            Self::Gate | Self::Up | Self::GateUp | Self::Down => false,
            Self::PerLayerGate | Self::PerLayerProjection => false,
        }
    }
}

/// The shape of a linear layer y = W x + b.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearShape {
    /// Its role.
    pub projection: Projection,
    /// `[out, in]` of W.
    pub shape: [usize; 2],
    /// Whether there is b.
    pub has_bias: bool,
}

impl LinearShape {
    /// Without a bias.
    pub(super) fn new(projection: Projection, shape: [usize; 2]) -> Self {
        Self {
            projection,
            shape,
            has_bias: false,
        }
    }
}

/// A linear layer of a decoder: where it stands, and what its checkpoint calls it. It is printed as
/// its path in the decoder, such as `layers.3.self_attn.q_proj`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinearPath {
    /// The decoder layer, from 0; none: outside the layers.
    pub layer: Option<usize>,
    /// Its role.
    pub projection: Projection,
    /// The path within the layer, such as `self_attn.q_proj`.
    pub name: &'static str,
    /// The path of the decoder in its model: [`MODEL`] or [`LANGUAGE_MODEL`].
    pub module: &'static str,
}

impl LinearPath {
    /// Its decoder layer; 0 outside the layers, where it comes before the first.
    pub fn first_layer(&self) -> usize {
        self.layer.unwrap_or(0)
    }

    /// The name of its tensor in a checkpoint, such as `model.layers.3.self_attn.q_proj.weight`.
    pub fn tensor(&self, ending: &str) -> String {
        format!("{}.{self}.{ending}", self.module)
    }

    /// The path of a part of it, such as `layers.3.self_attn.q_proj.lora_A`.
    pub fn part(&self, part: &str) -> String {
        format!("{self}.{part}")
    }
}

impl fmt::Display for LinearPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.layer {
            Some(layer) => write!(formatter, "layers.{layer}.{}", self.name),
            None => formatter.write_str(self.name),
        }
    }
}

//! The seven linear layers of a decoder layer, as adapters and the forward pass name them.

use super::config::DecoderConfig;

/// The linear layers of a decoder layer, in the order of the forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Projection {
    Q,
    K,
    V,
    O,
    Gate,
    Up,
    Down,
}

impl Projection {
    /// All seven.
    pub const ALL: [Self; 7] = [
        Self::Q,
        Self::K,
        Self::V,
        Self::O,
        Self::Gate,
        Self::Up,
        Self::Down,
    ];

    /// The path within a decoder layer, as in the checkpoint.
    pub fn path(self) -> &'static str {
        match self {
            Self::Q => "self_attn.q_proj",
            Self::K => "self_attn.k_proj",
            Self::V => "self_attn.v_proj",
            Self::O => "self_attn.o_proj",
            Self::Gate => "mlp.gate_proj",
            Self::Up => "mlp.up_proj",
            Self::Down => "mlp.down_proj",
        }
    }

    /// `[out, in]` of the layer's weight.
    pub fn shape(self, config: &DecoderConfig) -> [usize; 2] {
        let (hidden, wide) = (config.hidden_size, config.intermediate_size);
        let queries = config.num_attention_heads * config.head_dim;
        let keys = config.num_key_value_heads * config.head_dim;
        match self {
            Self::Q => [queries, hidden],
            Self::K | Self::V => [keys, hidden],
            Self::O => [hidden, queries],
            Self::Gate | Self::Up => [wide, hidden],
            Self::Down => [hidden, wide],
        }
    }
}

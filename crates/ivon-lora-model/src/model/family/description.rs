//! How one family of decoders differs from another.

/// A family of decoders, described by its differences from Llama.
#[derive(Debug)]
pub struct Family {
    /// Its `model_type` in a `config.json`.
    pub model_type: &'static str,
    /// The class of its language model in transformers, as in `architectures` of a `config.json`.
    pub architecture: &'static str,
    /// Its GGUF files; none if they use another family's name.
    pub gguf: Option<Gguf>,
    /// Tensors outside the layers: the module's name in GGUF, and in Hugging Face.
    pub tensors: &'static [(&'static str, &'static str)],
    /// Tensors of a layer: the module's name in GGUF, and in Hugging Face.
    pub layer_tensors: &'static [(&'static str, &'static str)],
    /// The default of `max_position_embeddings`.
    pub max_position_embeddings: usize,
    /// The default of `num_key_value_heads`; none: the number of query heads.
    pub num_key_value_heads: Option<usize>,
    /// The default of `head_dim`; none: the hidden size divided by the number of heads.
    pub head_dim: Option<usize>,
    /// Which layers have an attention window.
    pub windows: Windows,
    /// Flags of `config.json` for biases that the decoder lacks.
    pub bias_flags: &'static [&'static str],
    /// Whether `attention_bias` is a key of its `config.json`.
    pub has_attention_bias_key: bool,
    /// Whether q_proj, k_proj and v_proj have a bias.
    pub qkv_bias: bool,
    /// Whether queries and keys are normalised per head.
    pub qk_norm: bool,
}

/// A family's GGUF files.
#[derive(Clone, Copy, Debug)]
pub struct Gguf {
    /// `general.architecture`.
    pub architecture: &'static str,
    /// Whether llama.cpp's converter interleaves the two halves of each head of q and k.
    pub permutes_heads: bool,
}

/// Which layers have a sliding attention window, and which key of `config.json` decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Windows {
    /// None.
    Never,
    /// All, if `sliding_window` is not null; `layer_types` is ignored.
    EveryLayer,
    /// Those in `layer_types`, else those from `max_window_layers` on, if `use_sliding_window` is
    /// true.
    ByLayer,
}

/// The embedding table, the last norm, the output table.
pub(super) const TENSORS: &[(&str, &str)] = &[
    ("token_embd", "model.embed_tokens"),
    ("output_norm", "model.norm"),
    ("output", "lm_head"),
];

/// Llama's layer.
pub(super) const LAYER_TENSORS: &[(&str, &str)] = &[
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

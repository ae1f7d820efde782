//! What tells one family of decoders from another.

/// A family of decoders, built as Llama is but for what stands here.
#[derive(Debug)]
pub struct Family {
    /// Its `model_type` in a `config.json`.
    pub model_type: &'static str,
    /// Its language model's class in transformers, as `architectures` of a `config.json` has it.
    pub architecture: &'static str,
    /// Its GGUF files; none where they go by another family's name.
    pub gguf: Option<Gguf>,
    /// Tensors beside the layers: the module's name in GGUF, in Hugging Face.
    pub tensors: &'static [(&'static str, &'static str)],
    /// Tensors of a layer: the module's name in GGUF, in Hugging Face.
    pub layer_tensors: &'static [(&'static str, &'static str)],
    /// `max_position_embeddings` where `config.json` has none.
    pub max_position_embeddings: usize,
    /// `num_key_value_heads` where `config.json` has none; none: as many as query heads.
    pub num_key_value_heads: Option<usize>,
    /// `head_dim` where `config.json` has none; none: the width divided by the heads.
    pub head_dim: Option<usize>,
    /// Which layers attend to a window.
    pub windows: Windows,
    /// Flags of `config.json` that ask for biases which the decoder lacks.
    pub bias_flags: &'static [&'static str],
    /// Whether `attention_bias` is a key of its `config.json`.
    pub has_attention_bias_key: bool,
    /// Whether q_proj, k_proj and v_proj have a bias.
    pub qkv_bias: bool,
    /// Whether queries and keys are normed per head.
    pub qk_norm: bool,
}

/// A family's GGUF files.
#[derive(Clone, Copy, Debug)]
pub struct Gguf {
    /// `general.architecture`.
    pub architecture: &'static str,
    /// Whether llama.cpp's converter turns the halves of each head of q and k into pairs.
    pub permutes_heads: bool,
}

/// Which layers attend to a sliding window, and where `config.json` says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Windows {
    /// None does.
    Never,
    /// All do, if `sliding_window` is not null; `layer_types` is not read.
    EveryLayer,
    /// Those that `layer_types` names, else those from `max_window_layers` on, if
    /// `use_sliding_window` is true.
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

//! How one family of decoders differs from another.

use crate::model::attention::HeadNorm;
use crate::model::change::Change;
use crate::model::config::DecoderConfig;
use crate::model::error::ModelError;
use crate::model::fields::Fields;
use crate::model::fields::metadata::Metadata;
use crate::model::fields::translation::Translation;

/// Reads a family's `config.json` → the shape of the decoder; adds notes about settings that
/// disagree.
pub(in crate::model) type Read =
    fn(&Fields, &Family, &mut Vec<String>) -> Result<DecoderConfig, ModelError>;

/// A family of decoders, described by its differences from Llama.
#[derive(Debug)]
pub struct Family {
    /// Its `model_type` in a `config.json`.
    pub model_type: &'static str,
    /// The class of its language model in transformers, as in `architectures` of a `config.json`.
    pub architecture: &'static str,
    /// Its GGUF files; none if they use another family's name, or there are none.
    pub gguf: Option<Gguf>,
    /// The family whose name its GGUF files have, if it is another one.
    pub named_in_gguf: Option<&'static str>,
    /// Tensors outside the layers: the module's name in GGUF, and in Hugging Face.
    pub tensors: &'static [(&'static str, &'static str)],
    /// Tensors of a layer: the module's name in GGUF, and in Hugging Face; or the tensor's, where
    /// their endings differ.
    pub layer_tensors: &'static [(&'static str, &'static str)],
    /// Modules and tensors of a layer, or outside the layers, whose name is not the usual one: the
    /// usual name, and that of its checkpoints.
    pub renamed: &'static [(&'static str, &'static str)],
    /// Whether its norms multiply by 1 + w.
    pub norms_add_one: bool,
    /// The keys of its `config.json` that it reads besides those of all families.
    pub own_keys: &'static [&'static str],
    /// Reads its `config.json`.
    pub(in crate::model) read: Read,
    /// The default of `rope_theta`.
    pub rope_theta: f64,
    /// The default of `partial_rotary_factor`; none: heads are rotated whole.
    pub partial_rotary_factor: Option<f64>,
    /// The default of `rms_norm_eps`.
    pub rms_norm_eps: f64,
    /// The default of `tie_word_embeddings`.
    pub tie_word_embeddings: bool,
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
    /// The norm of queries and keys.
    pub qk_norm: HeadNorm,
}

/// A family's GGUF files, as llama.cpp's converter writes them.
#[derive(Clone, Copy, Debug)]
pub struct Gguf {
    /// Its names under `general.architecture`.
    pub architectures: &'static [&'static str],
    /// Translates metadata to the keys of its `config.json`, which [`Family`] then reads.
    pub(in crate::model) translate: Translate,
    /// What the converter changes of a tensor, by the tensor's name in Hugging Face.
    pub(in crate::model) change: fn(&DecoderConfig, &str) -> Change,
}

/// Translates the metadata of a GGUF file to the keys of a `config.json`.
pub(in crate::model) type Translate = fn(&Metadata, &mut Translation) -> Result<(), ModelError>;

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

//! Llama 1 to 3 and models of the same architecture (TinyLlama, SmolLM2): the reference for the
//! other families.

use super::description::{Family, Gguf, LAYER_TENSORS, TENSORS, Windows};

pub(super) const LLAMA: Family = Family {
    model_type: "llama",
    architecture: "LlamaForCausalLM",
    gguf: Some(Gguf {
        architecture: "llama",
        permutes_heads: true,
    }),
    tensors: TENSORS,
    layer_tensors: LAYER_TENSORS,
    max_position_embeddings: 2048,
    num_key_value_heads: None,
    head_dim: None,
    windows: Windows::Never,
    bias_flags: &["attention_bias", "mlp_bias"],
    has_attention_bias_key: true,
    qkv_bias: false,
    qk_norm: false,
};

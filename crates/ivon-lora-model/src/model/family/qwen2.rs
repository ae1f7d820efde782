//! Qwen2 and Qwen2.5: q, k and v have a bias, and some layers may have an attention window.

use super::change::no_change;
use super::description::{Family, Gguf, Windows};
use super::llama::{LLAMA, translate};

pub(super) const QWEN2: Family = Family {
    model_type: "qwen2",
    architecture: "Qwen2ForCausalLM",
    gguf: Some(Gguf {
        architectures: &["qwen2"],
        translate,
        change: no_change,
    }),
    max_position_embeddings: 32_768,
    num_key_value_heads: Some(32),
    windows: Windows::ByLayer,
    // Its biases do not depend on a key.
    bias_flags: &[],
    has_attention_bias_key: false,
    qkv_bias: true,
    ..LLAMA
};

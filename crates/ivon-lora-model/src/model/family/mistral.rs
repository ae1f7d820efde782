//! Mistral: Llama with an attention window on all layers or none. Its GGUF files are called
//! `llama`.

use super::description::{Family, Windows};
use super::llama::LLAMA;

pub(super) const MISTRAL: Family = Family {
    model_type: "mistral",
    architecture: "MistralForCausalLM",
    gguf: None,
    named_in_gguf: Some("llama"),
    max_position_embeddings: 131_072,
    num_key_value_heads: Some(8),
    windows: Windows::EveryLayer,
    // It has no biases, whatever the configuration says.
    bias_flags: &[],
    ..LLAMA
};

//! Phi-3, Phi-3.5 and Phi-4 (mini too): Llama whose queries, keys and values come from one linear
//! layer, and gate and up from another; part of each head may be rotated, by LongRoPE.

use super::change::no_change;
use super::description::{Family, Gguf, Windows};
use super::llama::{LLAMA, read as read_llama};
use super::metadata;
use crate::model::attention::KeyValues;
use crate::model::config::DecoderConfig;
use crate::model::error::ModelError;
use crate::model::fields::Fields;
use crate::model::fields::metadata::Metadata;
use crate::model::fields::translation::Translation;

pub(super) const PHI3: Family = Family {
    model_type: "phi3",
    architecture: "Phi3ForCausalLM",
    gguf: Some(Gguf {
        architectures: &["phi3"],
        translate,
        change: no_change,
    }),
    layer_tensors: &[
        ("attn_norm", "input_layernorm"),
        ("attn_qkv", "self_attn.qkv_proj"),
        ("attn_output", "self_attn.o_proj"),
        ("ffn_norm", "post_attention_layernorm"),
        ("ffn_up", "mlp.gate_up_proj"),
        ("ffn_down", "mlp.down_proj"),
    ],
    own_keys: &["embd_pdrop", "resid_pdrop"],
    read,
    partial_rotary_factor: Some(1.0),
    rms_norm_eps: 1e-5,
    max_position_embeddings: 4096,
    windows: Windows::EveryLayer,
    bias_flags: &[],
    ..LLAMA
};

fn translate(from: &Metadata, to: &mut Translation) -> Result<(), ModelError> {
    metadata::uniform_sizes(from, to)?;
    metadata::partial_rope(from, to)?;
    let key = "attention.sliding_window";
    // 0 says that there is none.
    if let Some(window) = from.count(key)?.filter(|window| *window > 0) {
        to.set("sliding_window", from.key(key), window);
    }
    Ok(())
}

fn read(
    fields: &Fields,
    family: &Family,
    notes: &mut Vec<String>,
) -> Result<DecoderConfig, ModelError> {
    let mut config = read_llama(fields, family, notes)?;
    for layer in &mut config.layers {
        layer.mlp.is_fused = true;
        if let Some(attention) = layer.attention_mut() {
            attention.key_values = KeyValues::Fused;
            // Unlike Mistral's class, this one has no window unless the file says so.
            if fields.get("sliding_window").is_none() {
                attention.window = None;
            }
        }
    }
    Ok(config)
}

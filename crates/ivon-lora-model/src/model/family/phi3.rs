//! Phi-3, Phi-3.5 and Phi-4 (mini too): Llama whose queries, keys and values come from one linear
//! layer, and gate and up from another; part of each head may be rotated, by LongRoPE.

use super::description::{Family, Windows};
use super::llama::{LLAMA, read as read_llama};
use crate::model::attention::KeyValues;
use crate::model::config::DecoderConfig;
use crate::model::error::ModelError;
use crate::model::fields::Fields;

pub(super) const PHI3: Family = Family {
    model_type: "phi3",
    architecture: "Phi3ForCausalLM",
    gguf: None,
    own_keys: &["embd_pdrop", "resid_pdrop"],
    read,
    partial_rotary_factor: Some(1.0),
    rms_norm_eps: 1e-5,
    max_position_embeddings: 4096,
    windows: Windows::EveryLayer,
    bias_flags: &[],
    ..LLAMA
};

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

//! Ministral 3: Llama with YaRN, whose queries grow with the position beyond the original context.

use serde_json::json;

use super::change::interleaved_heads;
use super::description::{Family, Gguf, Windows};
use super::llama::{LLAMA, read as read_llama, translate as translate_llama};
use crate::model::config::DecoderConfig;
use crate::model::error::ModelError;
use crate::model::fields::Fields;
use crate::model::fields::metadata::Metadata;
use crate::model::fields::translation::Translation;
use crate::model::rope::{RopeScaling, Yarn};

pub(super) const MINISTRAL3: Family = Family {
    model_type: "ministral3",
    architecture: "Ministral3ForCausalLM",
    gguf: Some(Gguf {
        architectures: &["mistral3"],
        translate,
        change: interleaved_heads,
    }),
    read,
    rope_theta: 1e6,
    rms_norm_eps: 1e-5,
    max_position_embeddings: 262_144,
    num_key_value_heads: Some(8),
    head_dim: Some(128),
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
    let states_rope = ["rope_parameters", "rope_scaling"]
        .iter()
        .any(|key| fields.get(key).is_some());
    for layer in &mut config.layers {
        let Some(attention) = layer.attention_mut() else {
            continue;
        };
        // Unlike Mistral's class, this one has no window unless the file says so.
        if fields.get("sliding_window").is_none() {
            attention.window = None;
        }
        if let Some(rope) = attention.rope.as_mut().filter(|_| !states_rope) {
            rope.scaling = RopeScaling::Yarn(default_yarn());
        }
    }
    Ok(config)
}

fn translate(from: &Metadata, to: &mut Translation) -> Result<(), ModelError> {
    translate_llama(from, to)?;
    // The class would assume YaRN.
    let none = json!({ "rope_type": "default" });
    let rope = to.settings.entry("rope_scaling").or_insert(none);
    // As llama.cpp does, whose files do not have `mscale`.
    if let Some(scale) = from.number("rope.scaling.yarn_log_multiplier")? {
        rope["mscale"] = json!(1.0);
        rope["mscale_all_dim"] = json!(scale);
    }
    let key = "attention.temperature_scale";
    if let Some(beta) = from.number(key)? {
        rope["llama_4_scaling_beta"] = json!(beta);
    }
    to.note_origin("llama_4_scaling_beta", from.key(key));
    Ok(())
}

/// That of the class if the file says nothing about its rotary embedding.
fn default_yarn() -> Yarn {
    Yarn {
        factor: 16.0,
        beta_fast: 32.0,
        beta_slow: 1.0,
        truncate: true,
        attention_factor: 1.0,
        original_max_position_embeddings: 16_384,
        query_beta: 0.1,
    }
}

//! SmolLM3: Llama in which every fourth layer has no rotary embedding.

use super::change::interleaved_heads;
use super::description::{Family, Gguf};
use super::llama::{LLAMA, read as read_llama, translate};
use super::windows::LAYER_TYPES;
use crate::model::config::DecoderConfig;
use crate::model::error::ModelError;
use crate::model::fields::Fields;
use crate::model::setting::setting;

pub(super) const SMOLLM3: Family = Family {
    model_type: "smollm3",
    architecture: "SmolLM3ForCausalLM",
    gguf: Some(Gguf {
        architectures: &["smollm3"],
        // The interval of layers without a rotary embedding is that of the class.
        translate,
        change: interleaved_heads,
    }),
    own_keys: &["no_rope_layers", "no_rope_layer_interval"],
    read,
    rope_theta: 2e6,
    tie_word_embeddings: true,
    max_position_embeddings: 32_768,
    num_key_value_heads: Some(4),
    ..LLAMA
};

fn read(
    fields: &Fields,
    family: &Family,
    notes: &mut Vec<String>,
) -> Result<DecoderConfig, ModelError> {
    let mut config = read_llama(fields, family, notes)?;
    let turns = turning_layers(fields, config.layers.len())?;
    let window = match fields.flag("use_sliding_window")?.unwrap_or(false) {
        true => fields.count("sliding_window")?,
        false => None,
    };
    let slides = fields.layer_types(&LAYER_TYPES)?;
    for (index, layer) in config.layers.iter_mut().enumerate() {
        let Some(attention) = layer.attention_mut() else {
            continue;
        };
        let slides = match &slides {
            Some(types) => types.get(index) == Some(&"sliding_attention"),
            None => !turns[index],
        };
        attention.window = window.filter(|_| slides);
        if !turns[index] {
            attention.rope = None;
        }
    }
    Ok(config)
}

/// Whether each layer has a rotary embedding: those with 1 in `no_rope_layers`, else all but every
/// `no_rope_layer_interval`-th.
fn turning_layers(fields: &Fields, layers: usize) -> Result<Vec<bool>, ModelError> {
    let interval = fields.count("no_rope_layer_interval")?.unwrap_or(4);
    let Some(flags) = fields.numbers("no_rope_layers")? else {
        let turns = |layer: usize| interval == 0 || !(layer + 1).is_multiple_of(interval);
        return Ok((0..layers).map(turns).collect());
    };
    if flags.len() != layers {
        let found = format!("a list of {}", flags.len());
        let expected = format!("one for each of {layers} layers");
        return Err(setting(fields.file, "no_rope_layers", found, expected));
    }
    Ok(flags.into_iter().map(|flag| flag != 0.0).collect())
}

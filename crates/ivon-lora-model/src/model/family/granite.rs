//! Granite 3: Llama with a multiplier of the embeddings, of the scores, of what each half of a layer
//! adds, and of the logits.

use super::change::interleaved_heads;
use super::description::{Family, Gguf};
use super::llama::{LLAMA, read as read_llama};
use super::metadata;
use crate::model::config::DecoderConfig;
use crate::model::error::ModelError;
use crate::model::fields::Fields;
use crate::model::fields::metadata::Metadata;
use crate::model::fields::translation::Translation;

pub(super) const GRANITE: Family = Family {
    model_type: "granite",
    architecture: "GraniteForCausalLM",
    gguf: Some(Gguf {
        // The dense Granite 4 has the first name, in older files the second; in both, gate and up
        // are apart, so that it is a Granite 3.
        architectures: &["granite", "granitehybrid"],
        translate,
        change: interleaved_heads,
    }),
    own_keys: &MULTIPLIERS,
    read,
    ..LLAMA
};

/// The keys of the multipliers.
pub(super) const MULTIPLIERS: [&str; 4] = [
    "attention_multiplier",
    "embedding_multiplier",
    "logits_scaling",
    "residual_multiplier",
];

fn translate(from: &Metadata, to: &mut Translation) -> Result<(), ModelError> {
    metadata::sizes(from, to)?;
    refuse_mamba(from, to)?;
    metadata::head_width(from, to)?;
    metadata::feed_forward(from, to)?;
    metadata::rope(from, to)?;
    let keys = [
        ("attention_multiplier", "attention.scale"),
        ("embedding_multiplier", "embedding_scale"),
        ("residual_multiplier", "residual_scale"),
        ("logits_scaling", "logit_scale"),
    ];
    metadata::numbers(from, to, &keys)?;
    if !to.settings.contains_key("attention_multiplier") {
        let width = to.count("head_dim") as f64;
        to.imply("attention_multiplier", 1.0 / width.sqrt());
    }
    Ok(())
}

/// Sets the number of key heads, which is 0 in Mamba layers.
fn refuse_mamba(from: &Metadata, to: &mut Translation) -> Result<(), ModelError> {
    let key = "attention.head_count_kv";
    let layers = to.count("num_hidden_layers");
    let heads = from.counts(key, layers)?;
    let heads = heads.unwrap_or(vec![to.count("num_attention_heads"); layers]);
    let first = heads[0];
    if let Some(other) = heads.iter().find(|heads| **heads == 0 || **heads != first) {
        let expected = "one number above 0 for all layers: Mamba layers are not supported";
        return Err(from.wrong(key, format!("`{other}`"), expected));
    }
    to.set("num_key_value_heads", from.key(key), first);
    // In this family the key says whether there is a rotary embedding.
    let key = "rope.scaling.finetuned";
    match from.flag(key)? {
        Some(false) => Err(from.wrong(key, "`false`", "`true`: queries and keys are rotated")),
        _ => Ok(()),
    }
}

fn read(
    fields: &Fields,
    family: &Family,
    notes: &mut Vec<String>,
) -> Result<DecoderConfig, ModelError> {
    let mut config = read_llama(fields, family, notes)?;
    multiply(fields, &mut config)?;
    Ok(config)
}

/// Sets the multipliers.
///
/// # Errors
/// [`ModelError::Setting`] for one that is no number.
pub(super) fn multiply(fields: &Fields, config: &mut DecoderConfig) -> Result<(), ModelError> {
    let number = |key| Ok::<_, ModelError>(fields.number(key)?.unwrap_or(1.0));
    config.ends.embedding_multiplier = number("embedding_multiplier")? as f32;
    config.ends.logits_scaling = number("logits_scaling")?;
    let (scores, residual) = (
        number("attention_multiplier")?,
        number("residual_multiplier")?,
    );
    for layer in &mut config.layers {
        layer.residual_multiplier = residual;
        if let Some(attention) = layer.attention_mut() {
            attention.multiplier = Some(scores);
        }
    }
    Ok(())
}

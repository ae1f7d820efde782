//! Granite 3: Llama with a multiplier of the embeddings, of the scores, of what each half of a layer
//! adds, and of the logits.

use super::description::Family;
use super::llama::{LLAMA, read as read_llama};
use crate::model::config::DecoderConfig;
use crate::model::error::ModelError;
use crate::model::fields::Fields;

pub(super) const GRANITE: Family = Family {
    model_type: "granite",
    architecture: "GraniteForCausalLM",
    gguf: None,
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

//! The numbers that the `config.json` of every family has.

use super::description::Family;
use crate::model::config::{DecoderConfig, Ends, MOST_LAYERS};
use crate::model::error::ModelError;
use crate::model::fields::Fields;
use crate::model::fields::rope::RopeDefaults;
use crate::model::layer_kind::LayerKind;
use crate::model::projection::MODEL;
use crate::model::setting::setting;

/// The numbers that the `config.json` of every family has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub layers: usize,
    /// The number of query heads, of key heads, and the width of a head.
    pub heads: [usize; 3],
    /// `max_position_embeddings`.
    pub longest: usize,
    pub rms_norm_eps: f64,
    pub tie_word_embeddings: bool,
}

impl Sizes {
    /// Reads them.
    ///
    /// # Errors
    /// [`ModelError::Setting`] for a number that is missing or of the wrong type.
    pub fn read(fields: &Fields, family: &Family) -> Result<Self, ModelError> {
        let hidden_size = fields.needed_count("hidden_size")?;
        let heads = fields.needed_count("num_attention_heads")?;
        let layers = fields.needed_count("num_hidden_layers")?;
        let longest = fields.count("max_position_embeddings")?;
        let head_dim = head_dim(fields, family, hidden_size, heads)?;
        let tied = fields.flag("tie_word_embeddings")?;
        Ok(Self {
            vocab_size: fields.needed_count("vocab_size")?,
            hidden_size,
            layers,
            heads: [heads, key_value_heads(fields, family, heads)?, head_dim],
            longest: longest.unwrap_or(family.max_position_embeddings),
            rms_norm_eps: fields
                .number("rms_norm_eps")?
                .unwrap_or(family.rms_norm_eps),
            tie_word_embeddings: tied.unwrap_or(family.tie_word_embeddings),
        })
    }

    /// The number of layers to be described; too many are refused later, with the other counts.
    pub fn described_layers(&self) -> usize {
        self.layers.min(MOST_LAYERS)
    }

    /// What the family assumes of its rotary embedding.
    pub fn rope_defaults(&self, family: &Family) -> RopeDefaults {
        RopeDefaults {
            longest: self.longest,
            theta: family.rope_theta,
            part: family.partial_rotary_factor,
        }
    }

    /// A decoder of these layers, with embeddings and logits like Llama's.
    pub fn decoder(self, family: &Family, layers: Vec<LayerKind>) -> DecoderConfig {
        DecoderConfig {
            model_type: family.model_type.into(),
            module: MODEL,
            vocab_size: self.vocab_size,
            hidden_size: self.hidden_size,
            num_hidden_layers: self.layers,
            max_position_embeddings: self.longest,
            rms_norm_eps: self.rms_norm_eps,
            layers,
            tie_word_embeddings: self.tie_word_embeddings,
            ends: Ends::default(),
        }
    }
}

fn head_dim(
    fields: &Fields,
    family: &Family,
    hidden_size: usize,
    heads: usize,
) -> Result<usize, ModelError> {
    match fields.count("head_dim")?.or(family.head_dim) {
        Some(width) => Ok(width),
        None if heads > 0 && hidden_size.is_multiple_of(heads) => Ok(hidden_size / heads),
        None => Err(setting(
            fields.file,
            "hidden_size",
            format!("`{hidden_size}`"),
            format!("a multiple of {heads} heads"),
        )),
    }
}

/// For all families, null means the number of query heads; if the key is absent, the number is that
/// of the family's class.
fn key_value_heads(fields: &Fields, family: &Family, heads: usize) -> Result<usize, ModelError> {
    let default = match family.num_key_value_heads {
        Some(count) if !fields.object.contains_key("num_key_value_heads") => count,
        _ => heads,
    };
    Ok(fields.count("num_key_value_heads")?.unwrap_or(default))
}

//! A Hugging Face `config.json`, in the schema of transformers 4 and of 5 → [`DecoderConfig`].
//!
//! The two differ in the rotary settings: 4 has `rope_theta` beside `rope_scaling`, 5 has both in
//! `rope_parameters` (and `dtype`, `layer_types`). Where a key is missing or null, the default is
//! that of the family's class in transformers; sizes that no default can be right for must be
//! there.

mod fields;
mod keys;
mod rope;

use serde_json::{Map, Value};

use self::fields::Fields;
use self::rope::Rope;
use super::config::{DecoderConfig, setting};
use super::error::ModelError;

/// What a `config.json` says.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::model) struct ConfigFile {
    /// The shape of the decoder.
    pub decoder: DecoderConfig,
    /// The first of `architectures`: the class that the model was saved from.
    pub architecture: Option<String>,
    /// The file of the weights, where `transformers_weights` names one.
    pub weights: Option<String>,
    /// What stands there twice, or is not used.
    pub notes: Vec<String>,
}

impl ConfigFile {
    /// Reads the text of a `config.json`; `file` is named in errors.
    ///
    /// # Errors
    /// As [`DecoderConfig::from_json`].
    pub fn read(text: &str, file: &str) -> Result<Self, ModelError> {
        let malformed = |reason: String| ModelError::Malformed {
            file: file.into(),
            reason,
        };
        let value: Value =
            serde_json::from_str(text).map_err(|error| malformed(error.to_string()))?;
        let Value::Object(object) = value else {
            return Err(malformed("expected a JSON object".into()));
        };
        let fields = Fields {
            object: &object,
            file,
        };
        let model_type = fields
            .text("model_type")?
            .ok_or_else(|| fields.missing("model_type"))?;
        let supported = DecoderConfig::MODEL_TYPES;
        if !supported.contains(&model_type) {
            return Err(ModelError::Architecture {
                file: file.into(),
                found: model_type.into(),
                supported,
            });
        }
        fields.refuse_what_the_decoder_lacks(model_type)?;
        let mut notes = Vec::new();
        let decoder = decoder(&fields, model_type, &mut notes)?;
        decoder.validate(file)?;
        let unknown = keys::unknown(&object);
        if !unknown.is_empty() {
            notes.push(format!(
                "not used, as a {model_type} decoder has no such setting: `{}` of `{file}`",
                unknown.join("`, `")
            ));
        }
        let architecture = fields
            .get("architectures")
            .and_then(|list| list.get(0)?.as_str())
            .map(String::from);
        Ok(Self {
            decoder,
            architecture,
            weights: fields.text("transformers_weights")?.map(String::from),
            notes,
        })
    }
}

impl DecoderConfig {
    /// Reads the text of a `config.json`; `file` is named in errors.
    ///
    /// # Errors
    /// [`ModelError::Malformed`] if it is no JSON object, [`ModelError::Architecture`] for another
    /// family, [`ModelError::Setting`] for a value that is missing, out of range or asks for what
    /// the decoder cannot do.
    pub fn from_json(text: &str, file: &str) -> Result<Self, ModelError> {
        ConfigFile::read(text, file).map(|config| config.decoder)
    }
}

fn decoder(
    fields: &Fields,
    model_type: &str,
    notes: &mut Vec<String>,
) -> Result<DecoderConfig, ModelError> {
    let hidden_size = fields.needed_count("hidden_size")?;
    let heads = fields.needed_count("num_attention_heads")?;
    let layers = fields.needed_count("num_hidden_layers")?;
    let max_position_embeddings =
        fields
            .count("max_position_embeddings")?
            .unwrap_or(match model_type {
                "mistral" => 131_072,
                "llama" => 2048,
                _ => 32_768,
            });
    let head_dim = match fields.count("head_dim")? {
        Some(width) => width,
        None if model_type == "qwen3" => 128,
        None if heads > 0 && hidden_size.is_multiple_of(heads) => hidden_size / heads,
        None => {
            return Err(setting(
                fields.file,
                "hidden_size",
                format!("`{hidden_size}`"),
                format!("a multiple of {heads} heads"),
            ));
        }
    };
    let rope = Rope::read(fields, max_position_embeddings, notes)?;
    Ok(DecoderConfig {
        model_type: model_type.into(),
        vocab_size: fields.needed_count("vocab_size")?,
        hidden_size,
        intermediate_size: fields.needed_count("intermediate_size")?,
        num_hidden_layers: layers,
        num_attention_heads: heads,
        num_key_value_heads: key_value_heads(fields, model_type, heads)?,
        head_dim,
        max_position_embeddings,
        rms_norm_eps: fields.number("rms_norm_eps")?.unwrap_or(1e-6),
        rope_theta: rope.theta,
        rope_scaling: rope.scaling,
        sliding_window: sliding_window(fields, model_type, layers, max_position_embeddings)?,
        tie_word_embeddings: fields.flag("tie_word_embeddings")?.unwrap_or(false),
        attention_bias: model_type == "qwen2",
        qk_norm: model_type == "qwen3",
    })
}

/// Null means as many as query heads, to every family; absent means the number of the family's
/// class.
fn key_value_heads(fields: &Fields, model_type: &str, heads: usize) -> Result<usize, ModelError> {
    let absent = match model_type {
        "mistral" => 8,
        "qwen2" | "qwen3" => 32,
        _ => heads,
    };
    let default = if fields.object.contains_key("num_key_value_heads") {
        heads
    } else {
        absent
    };
    Ok(fields.count("num_key_value_heads")?.unwrap_or(default))
}

/// The one window of all layers, if they have one.
fn sliding_window(
    fields: &Fields,
    model_type: &str,
    layers: usize,
    longest: usize,
) -> Result<Option<usize>, ModelError> {
    let window = match (model_type, fields.object.contains_key("sliding_window")) {
        ("llama", _) => None,
        (_, true) => fields.count("sliding_window")?,
        (_, false) => Some(4096),
    };
    let window = match model_type {
        "qwen2" | "qwen3" if !fields.flag("use_sliding_window")?.unwrap_or(false) => None,
        _ => window,
    };
    let Some(window) = window else {
        return Ok(None);
    };
    let sliding_layers = match fields.layer_types()? {
        // Mistral slides on every layer; its `layer_types` is not read by transformers.
        _ if model_type == "mistral" => layers,
        Some(types) => types
            .iter()
            .filter(|name| **name == "sliding_attention")
            .count(),
        None => layers.saturating_sub(fields.count("max_window_layers")?.unwrap_or(28)),
    };
    match sliding_layers {
        0 => Ok(None),
        all if all == layers => Ok(Some(window)),
        // A window that covers the longest sequence hides nothing.
        _ if window >= longest => Ok(None),
        some => Err(setting(
            fields.file,
            "use_sliding_window",
            format!("`true` with a window on {some} of {layers} layers"),
            "a window on all layers or on none",
        )),
    }
}

impl Fields<'_> {
    fn refuse_what_the_decoder_lacks(&self, model_type: &str) -> Result<(), ModelError> {
        if let (Some(types), Some(layers)) = (self.layer_types()?, self.count("num_hidden_layers")?)
            && types.len() != layers
        {
            return Err(setting(
                self.file,
                "layer_types",
                format!("a list of {}", types.len()),
                format!("one for each of {layers} layers"),
            ));
        }
        let activation = self.text("hidden_act")?.unwrap_or("silu");
        if !["silu", "swish"].contains(&activation) {
            return Err(setting(
                self.file,
                "hidden_act",
                format!("`{activation}`"),
                "`silu` or `swish`",
            ));
        }
        // Qwen2's biases are not this key's to decide, and Mistral has none whatever it says.
        let heeded: &[&str] = match model_type {
            "llama" => &["attention_bias", "mlp_bias"],
            "qwen3" => &["attention_bias"],
            _ => &[],
        };
        for field in heeded {
            if self.flag(field)?.unwrap_or(false) {
                return Err(setting(self.file, field, "`true`", "`false`"));
            }
        }
        if self.flag("is_causal")? == Some(false) {
            return Err(setting(
                self.file,
                "is_causal",
                "`false`",
                "`true`: a token sees no later one",
            ));
        }
        for (field, expected) in [
            (
                "quantization_config",
                "weights in F32, F16 or BF16, or a GGUF file",
            ),
            ("per_layer_config", "the same settings for all layers"),
        ] {
            if self
                .get(field)
                .is_some_and(|found| !found.as_object().is_some_and(Map::is_empty))
            {
                return Err(setting(self.file, field, "there", expected));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;

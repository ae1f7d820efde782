//! A Hugging Face `config.json`, in the schema of transformers 4 or 5 → [`DecoderConfig`].
//!
//! They differ in the rotary settings: 4 has `rope_theta` beside `rope_scaling`, 5 has both in
//! `rope_parameters` (and has `dtype` and `layer_types`). If a key is missing or null, the default
//! is that of the family's class in transformers; sizes without a sensible default are required.

mod fields;
mod keys;
mod rope;
mod windows;

use serde_json::{Map, Value};

use self::fields::Fields;
use super::config::DecoderConfig;
use super::error::ModelError;
use super::family::Family;
use super::layer_kind::LayerKind;
use super::setting::setting;

/// The contents of a `config.json`.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::model) struct ConfigFile {
    /// The shape of the decoder.
    pub decoder: DecoderConfig,
    /// The first of `architectures`: the class from which the model was saved.
    pub architecture: Option<String>,
    /// The file of the weights, if `transformers_weights` names one.
    pub weights: Option<String>,
    /// Notes about duplicate and unused settings.
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
        let family = fields.family()?;
        fields.refuse_what_the_decoder_lacks(family)?;
        let mut notes = Vec::new();
        let decoder = decoder(&fields, family, &mut notes)?;
        decoder.validate(file)?;
        let unknown = keys::unknown(&object);
        if !unknown.is_empty() {
            notes.push(format!(
                "not used, as a {} decoder has no such setting: `{}` of `{file}`",
                family.model_type,
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
    /// [`ModelError::Malformed`] if it is not a JSON object, [`ModelError::Architecture`] for
    /// another family, [`ModelError::Setting`] for a value that is missing, out of range or not
    /// supported by the decoder.
    pub fn from_json(text: &str, file: &str) -> Result<Self, ModelError> {
        ConfigFile::read(text, file).map(|config| config.decoder)
    }
}

fn decoder(
    fields: &Fields,
    family: &Family,
    notes: &mut Vec<String>,
) -> Result<DecoderConfig, ModelError> {
    let hidden_size = fields.needed_count("hidden_size")?;
    let heads = fields.needed_count("num_attention_heads")?;
    let num_hidden_layers = fields.needed_count("num_hidden_layers")?;
    let longest = fields.count("max_position_embeddings")?;
    let longest = longest.unwrap_or(family.max_position_embeddings);
    let head_dim = head_dim(fields, family, hidden_size, heads)?;
    let rope = rope::read(fields, longest, notes)?;
    Ok(DecoderConfig {
        model_type: family.model_type.into(),
        vocab_size: fields.needed_count("vocab_size")?,
        hidden_size,
        intermediate_size: fields.needed_count("intermediate_size")?,
        num_hidden_layers,
        num_attention_heads: heads,
        num_key_value_heads: key_value_heads(fields, family, heads)?,
        head_dim,
        max_position_embeddings: longest,
        rms_norm_eps: fields.number("rms_norm_eps")?.unwrap_or(1e-6),
        layers: windows::read(fields, family, num_hidden_layers, longest)?
            .into_iter()
            .map(|window| LayerKind::new(window, rope.clone()))
            .collect(),
        tie_word_embeddings: fields.flag("tie_word_embeddings")?.unwrap_or(false),
        attention_bias: family.qkv_bias,
        qk_norm: family.qk_norm,
    })
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

impl Fields<'_> {
    fn refuse_what_the_decoder_lacks(&self, family: &Family) -> Result<(), ModelError> {
        if let (Some(types), Some(layers)) = (self.layer_types()?, self.count("num_hidden_layers")?)
            && types.len() != layers
        {
            let found = format!("a list of {}", types.len());
            let expected = format!("one for each of {layers} layers");
            return Err(setting(self.file, "layer_types", found, expected));
        }
        let activation = self.text("hidden_act")?.unwrap_or("silu");
        if !["silu", "swish"].contains(&activation) {
            let found = format!("`{activation}`");
            return Err(setting(self.file, "hidden_act", found, "`silu` or `swish`"));
        }
        for field in family.bias_flags {
            if self.flag(field)?.unwrap_or(false) {
                return Err(setting(self.file, field, "`true`", "`false`"));
            }
        }
        if self.flag("is_causal")? == Some(false) {
            let expected = "`true`: a token sees no later one";
            return Err(setting(self.file, "is_causal", "`false`", expected));
        }
        self.refuse_unless_empty(
            "quantization_config",
            "weights in F32, F16 or BF16, or a GGUF file",
        )?;
        self.refuse_unless_empty("per_layer_config", "the same settings for all layers")
    }

    fn family(&self) -> Result<&'static Family, ModelError> {
        let model_type = self.text("model_type")?;
        let model_type = model_type.ok_or_else(|| self.missing("model_type"))?;
        Family::of_model_type(model_type).ok_or_else(|| ModelError::Architecture {
            file: self.file.into(),
            found: model_type.into(),
            supported: Family::model_types(),
        })
    }

    /// Refuses any value except null and an empty object.
    fn refuse_unless_empty(&self, field: &str, expected: &str) -> Result<(), ModelError> {
        let is_empty = |found: &Value| found.as_object().is_some_and(Map::is_empty);
        match self.get(field) {
            Some(found) if !is_empty(found) => Err(setting(self.file, field, "there", expected)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;

//! A Hugging Face `config.json`, in the schema of transformers 4 or 5 → [`DecoderConfig`].
//!
//! They differ in the rotary settings: 4 has `rope_theta` beside `rope_scaling`, 5 has both in
//! `rope_parameters` (and has `dtype` and `layer_types`). If a key is missing or null, the default
//! is that of the family's class in transformers; sizes without a sensible default are required.

use serde_json::Value;

use super::config::DecoderConfig;
use super::error::ModelError;
use super::family::{Family, Multimodal};
use super::fields::{Fields, keys};
use super::projection::LANGUAGE_MODEL;
use super::setting::setting;

/// The kinds of layers that families have.
const LAYER_TYPES: [&str; 4] = [
    "full_attention",
    "sliding_attention",
    "linear_attention",
    "conv",
];

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
        if let Some(class) = fields.multimodal()? {
            return Self::of_text_part(&fields, class);
        }
        Self::of_decoder(&fields)
    }

    /// Reads the text part of a multimodal model.
    fn of_text_part(outer: &Fields, class: &Multimodal) -> Result<Self, ModelError> {
        let text = outer.object("text_config")?;
        let text = text.ok_or_else(|| outer.missing("text_config"))?;
        let object = class.text_config(text.object, outer.object);
        let file = format!("{}: text_config", outer.file);
        let fields = Fields {
            object: &object,
            file: &file,
        };
        let model_type = fields.text("model_type")?.unwrap_or_default();
        if !class.holds(model_type) {
            return Err(ModelError::Architecture {
                file: file.clone(),
                found: model_type.into(),
                supported: class.text_types(),
            });
        }
        let mut config = Self::of_decoder(&fields)?;
        config.decoder.module = LANGUAGE_MODEL;
        Ok(config)
    }

    /// Reads the keys of a decoder.
    fn of_decoder(fields: &Fields) -> Result<Self, ModelError> {
        let (object, file) = (fields.object, fields.file);
        let family = fields.family()?;
        fields.refuse_what_the_decoder_lacks(family)?;
        let mut notes = Vec::new();
        let decoder = (family.read)(fields, family, &mut notes)?;
        decoder.validate(file)?;
        let unknown = keys::unknown(object, family.own_keys);
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

impl Fields<'_> {
    fn refuse_what_the_decoder_lacks(&self, family: &Family) -> Result<(), ModelError> {
        // Llama's class, for one, ignores them, but a list for other layers is a mistake.
        self.layer_types(&LAYER_TYPES)?;
        for field in family.bias_flags {
            self.refuse_flag(field)?;
        }
        if self.flag("is_causal")? == Some(false) {
            let expected = "`true`: a token sees no later one";
            return Err(setting(self.file, "is_causal", "`false`", expected));
        }
        self.refuse_unless_empty(
            "quantization_config",
            "weights in F32, F16 or BF16, or a GGUF file",
        )?;
        match family.own_keys.contains(&"per_layer_config") {
            true => Ok(()),
            false => {
                let expected = "the same settings for all layers";
                self.refuse_unless_empty("per_layer_config", expected)
            }
        }
    }

    fn family(&self) -> Result<&'static Family, ModelError> {
        let model_type = self.text("model_type")?;
        let model_type = model_type.ok_or_else(|| self.missing("model_type"))?;
        Family::of_model_type(model_type).ok_or_else(|| ModelError::Architecture {
            file: self.file.into(),
            found: model_type.into(),
            supported: Family::model_types()
                .into_iter()
                .chain(Multimodal::model_types())
                .collect(),
        })
    }

    /// The class of a multimodal model; none for any other model.
    fn multimodal(&self) -> Result<Option<&'static Multimodal>, ModelError> {
        let model_type = self.text("model_type")?;
        Ok(model_type.and_then(Multimodal::of_model_type))
    }
}

#[cfg(test)]
mod tests;

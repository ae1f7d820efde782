//! The `config.json` that the metadata of a GGUF file amounts to, each setting with the key that it
//! came from.

use serde_json::{Map, Value};

use crate::model::error::ModelError;
use crate::model::rope::RopeScaling;

/// The settings of a `config.json`, made of a GGUF file's metadata.
#[derive(Debug, Default)]
pub(in crate::model) struct Translation {
    /// By the keys of `config.json`.
    pub settings: Map<String, Value>,
    /// The `model_type` of the family that the settings are for, if it is not the one whose name the
    /// file has.
    pub relative: Option<&'static str>,
    /// The attention window of every layer, in families whose class has none or another rule.
    pub every_window: Option<usize>,
    /// The divisors of all rotary frequencies, for which a `config.json` has a rule.
    pub divisors: Option<Vec<f32>>,
    origins: Vec<(&'static str, String)>,
}

impl Translation {
    /// Sets a key of `config.json`; in errors it is called by the key of the metadata that it came
    /// from.
    pub fn set(&mut self, key: &'static str, origin: String, value: impl Into<Value>) {
        self.settings.insert(key.into(), value.into());
        self.origins.push((key, origin));
    }

    /// Sets a key that follows from no single key of the metadata.
    pub fn imply(&mut self, key: &'static str, value: impl Into<Value>) {
        self.settings.insert(key.into(), value.into());
    }

    /// Says from which key of the metadata a setting within another one came.
    pub fn note_origin(&mut self, key: &'static str, origin: String) {
        self.origins.push((key, origin));
    }

    /// The `config.json` that says the same; none if every layer has a window that the family's class
    /// does not know.
    ///
    /// Divisors of rotary frequencies become those of a LongRoPE that are the same at every length.
    pub fn into_settings(mut self) -> Option<Map<String, Value>> {
        if self.every_window.is_some() {
            return None;
        }
        if let Some(divisors) = self.divisors.take() {
            let length = self.count("max_position_embeddings");
            let rule = RopeScaling::of_divisors(&divisors, length);
            let rule = serde_json::to_value(rule).unwrap_or_default();
            let of_kinds = self.settings.get_mut("rope_parameters");
            match (of_kinds, &rule) {
                (Some(Value::Object(kinds)), Value::Object(rule)) => {
                    let kinds = kinds.values_mut().filter_map(Value::as_object_mut);
                    kinds.for_each(|kind| kind.extend(rule.clone()));
                }
                _ => self.imply("rope_scaling", rule),
            }
        }
        Some(self.settings)
    }

    /// A number that has been set; 0 if it has not.
    pub fn count(&self, key: &str) -> usize {
        let value = self.settings.get(key).and_then(Value::as_u64);
        value.map_or(0, |value| value as usize)
    }

    /// The same error, about the key of the metadata.
    pub fn by_origin(&self, error: ModelError) -> ModelError {
        match error {
            ModelError::Setting {
                file,
                field,
                found,
                expected,
            } => {
                let origin = self.origins.iter().find(|(key, _)| *key == field);
                let field = origin.map_or(field, |(_, origin)| origin.clone());
                ModelError::Setting {
                    file,
                    field,
                    found,
                    expected,
                }
            }
            other => other,
        }
    }
}

//! The sidecar, `ivon_lora.json` in the adapter folder, which makes the adapter usable with nothing but
//! its base.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::BundleError;
use crate::data::{KnownRows, Task};
use crate::files;
use crate::lora::portable_base_name;
use crate::metrics::{Ground, Predictions, preferred};
use crate::model::DecoderConfig;
use crate::posterior::{PosteriorError, check_scale};

/// The file's name in the adapter folder.
pub const SIDECAR_FILE: &str = "ivon_lora.json";
/// The version of the layout that this program writes, and the newest that it reads.
pub const SIDECAR_FORMAT: u32 = 1;
const LARGEST: u64 = 16 << 20;

/// What an adapter was made for, and how it predicts best. Unknown keys are ignored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sidecar {
    /// The version of the layout.
    pub format_version: u32,
    /// The version of the program that wrote it.
    pub program_version: String,
    /// The task: prompt template, fields, scoring.
    pub task: Task,
    /// The answer words with their tokens; empty if every row has choices of its own.
    #[serde(default)]
    pub answers: Vec<AnswerWord>,
    /// Prompts are cut to this many tokens.
    pub max_length: usize,
    /// Whether prompts are put into a chat template.
    #[serde(default)]
    pub chat_template: bool,
    /// Its text; if absent, the checkpoint's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat_template_text: Option<String>,
    /// The method that trained it, such as `ivon` or `adamw`.
    pub method: String,
    /// The names of further files of the method in the folder.
    #[serde(default)]
    pub method_files: Vec<String>,
    /// τ, which multiplies the variance in prediction; chosen on *calibrate*, or 1.
    pub scale: f64,
    /// T, by which the mean's logits are divided for calibrated confidences; chosen on *calibrate*,
    /// or 1.
    pub temperature: f64,
    /// The same for the log-probabilities of the average over draws.
    #[serde(default = "unscaled")]
    pub temperature_of_samples: f64,
    /// The number of draws S.
    pub samples: usize,
    /// Seed of the draws.
    pub seed: u64,
    /// Which of the two was better on *calibrate*.
    pub predict_with: PredictWith,
    /// The evidence for the temperatures; none if none was chosen, and in older sidecars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
    /// The rows of the run by role, as hashes of their prompts; none in older sidecars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<KnownRows>,
    /// The base.
    pub base: BaseRecord,
}

/// How many rows temperatures were chosen by, and how certain they are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Number of rows of *calibrate*.
    pub rows: usize,
    /// The 95 % interval of the mean's temperature.
    pub interval: [f64; 2],
    /// The same for the average over draws; none without draws.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval_of_samples: Option<[f64; 2]>,
}

/// An answer word of the task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerWord {
    /// The word.
    pub word: String,
    /// Its tokens after the prompt: only the first if that tells the answers apart.
    pub tokens: Vec<u32>,
}

/// What predicts answers and confidences.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PredictWith {
    /// The mean of the posterior.
    #[default]
    Mean,
    /// The average over draws.
    Samples,
}

impl PredictWith {
    /// What labelled rows prefer: draws, where there are some, if their NLL is lower by more than a
    /// standard error; the mean if the rows are too few to choose by.
    pub fn preferred_by(mean: &Predictions, sampled: Option<&Predictions>) -> Self {
        let Some(sampled) = sampled.filter(|_| Ground::of(mean).check().is_ok()) else {
            return Self::Mean;
        };
        match preferred(&[mean.losses(), sampled.losses()], 0) {
            1 => Self::Samples,
            _ => Self::Mean,
        }
    }
}

/// The base that an adapter belongs to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BaseRecord {
    /// Hub name or file name.
    pub name: String,
    /// The hub's revision, if one was named.
    #[serde(default)]
    pub revision: Option<String>,
    /// What any other copy of the base must have in common with it.
    pub fingerprint: BaseFingerprint,
}

/// The shape of a base and a hash of its weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct BaseFingerprint {
    pub model_type: String,
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub num_key_value_heads: usize,
    pub head_dim: usize,
    /// The checkpoint's own hash.
    pub hash: String,
}

impl BaseRecord {
    /// The record of a base under the name that the user gave, of which a path keeps its last part.
    pub fn new(name: &str, decoder: &DecoderConfig, hash: String) -> Self {
        let (name, revision) = portable_base_name(name);
        Self {
            name,
            revision,
            fingerprint: BaseFingerprint::new(decoder, hash),
        }
    }
}

impl BaseFingerprint {
    /// The fingerprint of a decoder whose weights have this hash.
    pub fn new(decoder: &DecoderConfig, hash: String) -> Self {
        let [num_attention_heads, num_key_value_heads, head_dim] = decoder.heads();
        Self {
            model_type: decoder.model_type.clone(),
            vocab_size: decoder.vocab_size,
            hidden_size: decoder.hidden_size,
            intermediate_size: decoder.intermediate_size(),
            num_hidden_layers: decoder.num_hidden_layers,
            num_attention_heads,
            num_key_value_heads,
            head_dim,
            hash,
        }
    }

    /// Checks that a base has the same shape. Other weights of that shape, such as another
    /// quantisation of the model, pass: compare [`hash`](Self::hash) to warn about them.
    ///
    /// # Errors
    /// [`BundleError::OtherBase`] with the first number that differs.
    pub(super) fn check_shape(&self, base: &Self) -> Result<(), BundleError> {
        for ((key, expected), (_, found)) in self.shape().into_iter().zip(base.shape()) {
            if expected != found {
                return Err(BundleError::OtherBase {
                    key,
                    expected,
                    found,
                });
            }
        }
        Ok(())
    }

    /// Everything but the hash, by name.
    fn shape(&self) -> [(&'static str, String); 8] {
        [
            ("model_type", self.model_type.clone()),
            ("hidden_size", self.hidden_size.to_string()),
            ("intermediate_size", self.intermediate_size.to_string()),
            ("num_hidden_layers", self.num_hidden_layers.to_string()),
            ("num_attention_heads", self.num_attention_heads.to_string()),
            ("num_key_value_heads", self.num_key_value_heads.to_string()),
            ("head_dim", self.head_dim.to_string()),
            ("vocab_size", self.vocab_size.to_string()),
        ]
    }
}

/// The temperature of older sidecars, which had only one; it changes nothing.
fn unscaled() -> f64 {
    1.0
}

impl Sidecar {
    /// Writes the file into an adapter folder.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), BundleError> {
        let path = folder.join(SIDECAR_FILE);
        let mut text =
            serde_json::to_string_pretty(self).map_err(|error| BundleError::Malformed {
                path: path.clone(),
                reason: error.to_string(),
            })?;
        text.push('\n');
        Ok(files::write_bytes(&path, text.as_bytes())?)
    }

    /// Reads the file of an adapter folder; none if there is none, as in folders that PEFT wrote.
    ///
    /// # Errors
    /// If it is malformed, of a newer version, or holds a scale or a temperature that cannot work.
    pub fn read(folder: &Path) -> Result<Option<Self>, BundleError> {
        let path = folder.join(SIDECAR_FILE);
        if !path.exists() {
            return Ok(None);
        }
        let malformed = |error: serde_json::Error| BundleError::Malformed {
            path: path.clone(),
            reason: error.to_string(),
        };
        let value: Value =
            serde_json::from_str(&files::read_text(&path, LARGEST)?).map_err(malformed)?;
        // First of all, since a newer layout need not have the keys of this one.
        check_version(&value, &path)?;
        let sidecar: Self = serde_json::from_value(value).map_err(malformed)?;
        sidecar.check()?;
        Ok(Some(sidecar))
    }

    /// Checks the scale and the temperatures.
    fn check(&self) -> Result<(), PosteriorError> {
        check_scale(self.scale)?;
        for (setting, found) in [
            ("temperature", self.temperature),
            ("temperature_of_samples", self.temperature_of_samples),
        ] {
            if !(found.is_finite() && found > 0.0) {
                return Err(PosteriorError::Setting {
                    setting,
                    expected: "finite and above 0",
                    found,
                });
            }
        }
        Ok(())
    }
}

/// Checks that this program knows the version of the layout.
fn check_version(sidecar: &Value, path: &Path) -> Result<(), PosteriorError> {
    let version = sidecar.get("format_version").and_then(Value::as_u64);
    if version.is_some_and(|version| version <= u64::from(SIDECAR_FORMAT)) {
        return Ok(());
    }
    Err(PosteriorError::Metadata {
        path: path.into(),
        key: "format_version",
        expected: format!("at most {SIDECAR_FORMAT}"),
        found: version.map_or_else(|| "nothing".into(), |version| format!("`{version}`")),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::tiny::decoder;

    fn sidecar() -> Sidecar {
        Sidecar {
            format_version: SIDECAR_FORMAT,
            program_version: "0.1.0".into(),
            task: Task::named("sst2").unwrap(),
            answers: vec![
                AnswerWord {
                    word: "Negative".into(),
                    tokens: vec![17],
                },
                AnswerWord {
                    word: "Positive".into(),
                    tokens: vec![19],
                },
            ],
            max_length: 320,
            chat_template: false,
            chat_template_text: None,
            method: "ivon".into(),
            method_files: vec![],
            scale: 0.1 + 0.2,
            temperature: 1.0,
            temperature_of_samples: 1.5,
            samples: 10,
            seed: 21,
            predict_with: PredictWith::Samples,
            calibration: Some(Calibration {
                rows: 40,
                interval: [0.9, 1.4],
                interval_of_samples: None,
            }),
            rows: Some(KnownRows::default()),
            base: BaseRecord::new("/home/me/SmolLM2.gguf", &decoder(3), "abc".into()),
        }
    }

    #[test]
    fn a_sidecar_reads_back_and_names_no_path() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Sidecar::read(folder.path()).unwrap(), None);
        sidecar().write(folder.path()).unwrap();
        assert_eq!(Sidecar::read(folder.path()).unwrap(), Some(sidecar()));
        let text = std::fs::read_to_string(folder.path().join(SIDECAR_FILE)).unwrap();
        assert!(text.contains("\"name\": \"SmolLM2.gguf\"") && !text.contains("/home"));
    }

    #[test]
    fn newer_malformed_and_impossible_sidecars_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |change: &dyn Fn(&mut Value)| {
            let mut value = serde_json::to_value(sidecar()).unwrap();
            change(&mut value);
            std::fs::write(folder.path().join(SIDECAR_FILE), value.to_string()).unwrap();
            Sidecar::read(folder.path()).unwrap_err()
        };
        let newer = refused(&|value| *value = json!({ "format_version": 2 }));
        assert!(
            newer
                .to_string()
                .ends_with("has `2` as `format_version`, expected at most 1")
                && newer.hint().unwrap().contains("newer")
        );
        assert!(matches!(
            refused(&|value| *value = json!([])),
            BundleError::Posterior(PosteriorError::Metadata {
                key: "format_version",
                ..
            })
        ));
        assert!(
            refused(&|value| drop(value.as_object_mut().unwrap().remove("task")))
                .to_string()
                .ends_with("missing field `task`")
        );
        let task = refused(&|value| value["task"] = json!({ "name": "sst2", "prompt": "{text}" }));
        assert!(
            matches!(task, BundleError::Malformed { .. })
                && task.to_string().contains("unknown field `prompt`"),
            "{task}"
        );
        assert!(matches!(
            refused(&|value| value["temperature"] = json!(0)),
            BundleError::Posterior(PosteriorError::Setting {
                setting: "temperature",
                ..
            })
        ));
        assert!(matches!(
            refused(&|value| value["temperature_of_samples"] = json!(-2)),
            BundleError::Posterior(PosteriorError::Setting {
                setting: "temperature_of_samples",
                ..
            })
        ));
        assert!(matches!(
            refused(&|value| value["scale"] = json!(-1)),
            BundleError::Posterior(PosteriorError::Setting {
                setting: "scale",
                ..
            })
        ));
    }

    #[test]
    fn another_base_is_told_by_its_shape() {
        let fingerprint = sidecar().base.fingerprint;
        let deeper = BaseFingerprint::new(&decoder(4), "abc".into());
        let message = fingerprint.check_shape(&deeper).unwrap_err().to_string();
        assert_eq!(
            message,
            "the adapter was trained on a base with num_hidden_layers 3, but this one has 4"
        );
        assert!(
            fingerprint
                .check_shape(&BaseFingerprint {
                    hash: "other".into(),
                    ..fingerprint.clone()
                })
                .is_ok()
        );
    }
}

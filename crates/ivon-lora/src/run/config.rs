//! The settings of a run: what a config file holds, what flags override, and what is saved with the
//! run.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::RunError;
use crate::answer::BaseOptions;
use crate::data::DataConfig;
use crate::lora::{Adapter, LoraConfig};
use crate::method::{Method, Settings};
use crate::model::{BasePrecision, Compute};
use crate::predict::EvaluationOptions;
use crate::settings::{Key, Kind, SettingError};
use crate::train::TrainConfig;

/// A run, resolved: every setting has a value. Its sections are the tables of the TOML file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunConfig {
    /// Names everything random in the run: start values, data order, dropout, noise.
    pub seed: u64,
    /// The folder that the run writes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out: Option<PathBuf>,
    /// The base model and how it is kept.
    pub model: ModelConfig,
    /// Where the examples come from.
    pub data: DataConfig,
    /// The adapter.
    pub lora: LoraConfig,
    /// The optimizer with its settings.
    pub optimizer: Method,
    /// Length, batches, schedule, intervals.
    pub train: TrainConfig,
    /// The evaluation at the end.
    pub evaluation: EvaluationConfig,
    /// Written by the run, not read: what it was made with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provenance: Option<Provenance>,
}

/// Refuses magnitudes (DoRA) for a method that has no place for them.
///
/// # Errors
/// [`RunError::Magnitudes`].
pub(super) fn check_magnitudes(method: &dyn Settings) -> Result<(), RunError> {
    match method.trains_magnitudes() {
        true => Ok(()),
        false => Err(RunError::Magnitudes {
            method: method.name(),
        }),
    }
}

/// Refuses changes of the tables over the vocabulary for a method that has no place for them.
///
/// # Errors
/// [`RunError::Tables`].
pub(super) fn check_tables(method: &dyn Settings, adapter: &Adapter) -> Result<(), RunError> {
    match method.trains_tables() || adapter.tables().next().is_none() {
        true => Ok(()),
        false => Err(RunError::Tables {
            method: method.name(),
        }),
    }
}

impl RunConfig {
    /// A row for each key at the top of the file.
    pub const KEYS: [Key; 2] = [
        Key::new("seed", Kind::Whole, "Names everything random: start values, data order, dropout, noise.").with_flag("seed", "N"),
        Key::new("out", Kind::Path, "The folder that the run writes; `runs/` and a name made of task, optimizer and seed by default.").with_flag("out", "FOLDER").with_example("\"runs/first\""),
    ];
}

/// What a run was made with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Provenance {
    /// This program's version.
    pub program: String,
    /// Burn's version.
    pub burn: String,
    /// The base by name.
    pub base: String,
    /// The base's fingerprint.
    pub base_hash: String,
    /// Data files with their SHA-256.
    pub files: Vec<(String, String)>,
}

impl RunConfig {
    /// Checks everything that can be checked without opening a file.
    ///
    /// # Errors
    /// The first setting that is out of range, with what is allowed.
    pub fn validate(&self) -> Result<(), RunError> {
        self.data.validate()?;
        self.lora.validate()?;
        self.train.validate()?;
        self.optimizer.settings().validate()?;
        if self.model.threads == Some(0) {
            return Err(SettingError::new("threads", "`0`", "at least 1").into());
        }
        if !(self.evaluation.scale.is_finite() && self.evaluation.scale >= 0.0) {
            return Err(SettingError::new(
                "scale",
                format!("`{}`", self.evaluation.scale),
                "a finite number, at least 0",
            )
            .into());
        }
        if self.evaluation.samples > 10_000 {
            return Err(SettingError::new(
                "samples",
                format!("`{}`", self.evaluation.samples),
                "at most 10,000",
            )
            .into());
        }
        if self.evaluation.batch_tokens == 0 {
            return Err(SettingError::new("batch_tokens", "`0`", "at least 1").into());
        }
        let method = self.optimizer.settings();
        if self.lora.use_dora && self.model.adapter.is_none() {
            check_magnitudes(method)?;
        }
        if let (Some(_), Some(by)) = (&self.train.class_weights, method.squares_gradients()) {
            let found = format!("given with {by}, in which a weight would count by its square");
            let expected = "`hess_approx` = `price` or `fisher`, or no weights";
            return Err(SettingError::new("class_weights", found, expected).into());
        }
        match (self.train.steps, &self.model.adapter) {
            (Some(0), None) => Err(RunError::NoSteps {
                why: "no adapter is named that is trained already".into(),
            }),
            (Some(0), Some(_)) if !method.fits_afterwards() => Err(RunError::NoSteps {
                why: format!("the posterior of `{}` comes from its steps", method.name()),
            }),
            _ => Ok(()),
        }
    }

    /// How the run evaluates.
    pub fn evaluation_options(&self) -> EvaluationOptions {
        EvaluationOptions {
            samples: self.evaluation.samples,
            scale: self.evaluation.scale,
            seed: self.seed,
            batch_tokens: self.evaluation.batch_tokens,
        }
    }

    /// The keys of two runs whose difference would change the course of training, as
    /// `key: there, not here`. A setting of the optimizer that is left open here does not count.
    pub fn trajectory_differences(&self, other: &Self) -> Vec<String> {
        let strip = |config: &Self| {
            let free = Self {
                out: None,
                provenance: None,
                // Rank and targets of an adapter that is trained on are its folder's, whatever the
                // settings say.
                lora: match config.model.adapter {
                    Some(_) => LoraConfig {
                        dropout: config.lora.dropout,
                        ..LoraConfig::default()
                    },
                    None => config.lora.clone(),
                },
                evaluation: EvaluationConfig::default(),
                model: ModelConfig {
                    threads: None,
                    recompute: false,
                    ..config.model.clone()
                },
                train: TrainConfig {
                    keep_checkpoints: 1,
                    checkpoint_interval: None,
                    ..config.train.clone()
                },
                ..config.clone()
            };
            serde_json::to_value(free).unwrap_or_default()
        };
        let (here, mut there) = (strip(self), strip(other));
        if let Some(optimizer) = there["optimizer"].as_object_mut() {
            for key in self.optimizer.settings().open() {
                optimizer.remove(key);
            }
        }
        let mut found = Vec::new();
        compare("", &here, &there, &mut found);
        found
    }
}

/// Adds every leaf at which two values differ.
fn compare(
    path: &str,
    here: &serde_json::Value,
    there: &serde_json::Value,
    found: &mut Vec<String>,
) {
    use serde_json::Value;
    let empty = serde_json::Map::new();
    let fields = |value: &Value| value.as_object().cloned();
    match (fields(here), fields(there)) {
        (None, None) if here == there => {}
        (None, None) => found.push(format!(
            "`{}` is {here}, it was {there}",
            path.trim_start_matches('.')
        )),
        (here, there) => {
            let (here, there) = (here.unwrap_or(empty.clone()), there.unwrap_or(empty));
            let keys: std::collections::BTreeSet<&String> =
                here.keys().chain(there.keys()).collect();
            for key in keys {
                let of = |map: &serde_json::Map<String, Value>| {
                    map.get(key).cloned().unwrap_or(Value::Null)
                };
                compare(&format!("{path}.{key}"), &of(&here), &of(&there), found);
            }
        }
    }
}

/// The base model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// A Hugging Face folder, a GGUF file, or a hub name; the embedded toy where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// A PEFT folder to start the adapter from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<PathBuf>,
    /// `cpu`, `cuda`, `rocm`, `metal`, `vulkan` or `wgpu`.
    pub device: String,
    /// Threads of the CPU; all where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// How the base's weights are kept.
    pub base_precision: BasePrecision,
    /// In which numbers the products with the base's weights are computed.
    pub compute: Compute,
    /// Keep less for the backward pass and compute it again: a third more work, a fraction of the
    /// memory.
    pub recompute: bool,
}

impl ModelConfig {
    /// The devices that Burn has a backend for.
    pub const DEVICES: &[&str] = &["cpu", "cuda", "rocm", "metal", "vulkan", "wgpu"];

    /// A row for each key of its table.
    pub const KEYS: [Key; 7] = [
        Key::new("path", Kind::Text, "A Hugging Face folder, a .gguf file, or a hub name org/name[@revision].").with_flag("model", "MODEL").with_example("\"HuggingFaceTB/SmolLM2-135M\""),
        Key::new("adapter", Kind::Path, "A PEFT folder to start the adapter from.").with_flag("adapter", "FOLDER").with_example("\"runs/earlier/adapter\""),
        Key::new("device", Kind::OneOf(Self::DEVICES), "Where to compute; all but cpu need a build with the feature of that name.").with_flag("device", "NAME"),
        Key::new("threads", Kind::Whole, "Threads of the CPU; all by default.").with_flag("threads", "N").with_example("2"),
        Key::new("base_precision", Kind::OneOf(&["f32", "bf16", "q8_0", "as-is"]), "How the base is kept: widened to f32, rounded to bf16 or to GGUF's blocks of q8_0 (a quarter of f32), or as-is, as it lies in the file.").with_flag("base-precision", "HOW"),
        Key::new("compute", Kind::OneOf(&["f32", "int8"]), "In which numbers products with the base's weights are computed: f32, or 8-bit integers, faster and with an error of about 1 % in each product; cpu only. With int8, weights that base_precision would keep in f32 or bf16 are kept in blocks of q8_0.").with_flag("compute", "NUMBERS"),
        Key::new("recompute", Kind::Switch, "Keep less for the backward pass and compute it again: a third more work, a fraction of the memory.").with_flag("recompute", "true|false"),
    ];
}

impl ModelConfig {
    /// Where the base is computed and how it is kept.
    pub fn base_options(&self) -> BaseOptions {
        BaseOptions {
            device: self.device.clone(),
            precision: self.base_precision,
            compute: self.compute,
            recompute: self.recompute,
        }
    }
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            path: None,
            adapter: None,
            device: "cpu".into(),
            threads: None,
            base_precision: BasePrecision::F32,
            compute: Compute::F32,
            recompute: false,
        }
    }
}

/// The evaluation at the end of a run, and that of the commands `evaluate` and `predict`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvaluationConfig {
    /// Number of draws S from the posterior.
    pub samples: usize,
    /// τ, by which the posterior's variance is multiplied.
    pub scale: f64,
    /// Choose τ on *calibrate* instead: the one with the lowest NLL among
    /// [`crate::predict::SCALES`].
    pub choose_scale: bool,
    /// Prompts are packed up to this many tokens per forward pass.
    pub batch_tokens: usize,
    /// Whether prompts are written into predictions.jsonl.
    pub include_text: bool,
}

impl EvaluationConfig {
    /// A row for each key of its table.
    pub const KEYS: [Key; 5] = [
        Key::new("samples", Kind::Whole, "Draws from the posterior in the evaluation at the end.").with_flag("samples", "N"),
        Key::new("scale", Kind::Number, "The posterior's variance is multiplied by this.").with_flag("scale", "X").instead_of("choose_scale"),
        Key::new("choose_scale", Kind::Switch, "Choose the scale on calibrate, in [0, 4], by NLL; costs the draws eight times over on that set.").with_flag("choose-scale", "true|false"),
        Key::new("batch_tokens", Kind::Whole, "Prompts are packed up to this many tokens per forward pass."),
        Key::new("include_text", Kind::Switch, "Write the prompts into predictions.jsonl as well.").with_flag("include-text", "true|false"),
    ];
}

impl Default for EvaluationConfig {
    fn default() -> Self {
        Self {
            samples: 10,
            scale: 1.0,
            choose_scale: false,
            batch_tokens: 2048,
            include_text: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::method::{HessianEstimate, IvonMethodConfig, Method};
    use crate::train::{ClassWeights, WeightRule};

    #[test]
    fn no_step_is_taken_only_where_a_method_can_be_fitted_to_an_adapter() {
        let run = |method: &str, adapter: Option<&str>| RunConfig {
            optimizer: Method::named(method).unwrap(),
            model: ModelConfig {
                adapter: adapter.map(PathBuf::from),
                ..ModelConfig::default()
            },
            data: DataConfig {
                path: "data".into(),
                task: Some("sst2".into()),
                ..DataConfig::default()
            },
            train: TrainConfig {
                steps: Some(0),
                ..TrainConfig::default()
            },
            ..RunConfig::default()
        };
        for method in ["adamw", "mc-dropout", "laplace", "tfb", "adamw-noise"] {
            run(method, Some("adapter")).validate().unwrap();
        }
        let error = run("laplace", None).validate().unwrap_err();
        assert_eq!(
            error.to_string(),
            "`steps` is 0 and no adapter is named that is trained already, expected at least 1"
        );
        assert!(error.hint().unwrap().contains("`adapter`"));
        let error = run("swag", Some("adapter")).validate().unwrap_err();
        assert_eq!(
            error.to_string(),
            "`steps` is 0 and the posterior of `swag` comes from its steps, expected at least 1"
        );
    }

    #[test]
    fn class_weights_are_refused_where_the_posterior_would_count_them_by_their_squares() {
        let of = |hess_approx| RunConfig {
            optimizer: Method::Ivon(IvonMethodConfig {
                hess_approx,
                ..IvonMethodConfig::default()
            }),
            data: DataConfig {
                path: "data".into(),
                task: Some("sst2".into()),
                ..DataConfig::default()
            },
            train: TrainConfig {
                class_weights: Some(ClassWeights::Rule(WeightRule::Balanced)),
                ..TrainConfig::default()
            },
            ..RunConfig::default()
        };
        of(None).validate().unwrap();
        let error = of(Some(HessianEstimate::Gradsq)).validate().unwrap_err();
        assert_eq!(
            error.to_string(),
            "`class_weights` is given with `hess_approx` = `gradsq`, in which a weight would count by \
             its square, expected `hess_approx` = `price` or `fisher`, or no weights"
        );
    }

    #[test]
    fn rank_and_targets_of_an_adapter_that_is_trained_on_are_no_difference() {
        let from = |rank, adapter: Option<&str>| RunConfig {
            model: ModelConfig {
                adapter: adapter.map(PathBuf::from),
                ..ModelConfig::default()
            },
            lora: LoraConfig {
                rank,
                ..LoraConfig::default()
            },
            ..RunConfig::default()
        };
        assert_eq!(
            from(8, Some("a")).trajectory_differences(&from(4, Some("a"))),
            Vec::<String>::new()
        );
        assert_eq!(
            from(8, None).trajectory_differences(&from(4, None)),
            ["`lora.rank` is 8, it was 4"]
        );
        assert_eq!(
            from(8, Some("a")).trajectory_differences(&from(8, Some("b"))),
            ["`model.adapter` is \"a\", it was \"b\""]
        );
    }

    #[test]
    fn a_setting_of_the_optimizer_that_is_left_open_is_no_other_setting() {
        let open = RunConfig::default();
        let chosen = RunConfig {
            optimizer: Method::Ivon(IvonMethodConfig::paper()),
            ..RunConfig::default()
        };
        // The recipe is not left open: it has a default.
        assert_eq!(
            open.trajectory_differences(&chosen),
            ["`optimizer.recipe` is \"rule\", it was \"paper\""]
        );
        assert_eq!(chosen.trajectory_differences(&open).len(), 7);
    }
}

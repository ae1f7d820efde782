//! The settings of a run: what a config file holds, what flags override, and what is saved with the run.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::data::DataConfig;
use crate::lora::LoraConfig;
use crate::method::Method;
use crate::model::BasePrecision;
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
    /// Keep less for the backward pass and compute it again: a third more work, a fraction of the memory.
    pub recompute: bool,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self { path: None, adapter: None, device: "cpu".into(), threads: None, base_precision: BasePrecision::F32, recompute: false }
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
    /// Prompts are packed up to this many tokens per forward pass.
    pub batch_tokens: usize,
    /// Whether prompts are written into predictions.jsonl.
    pub include_text: bool,
}

impl Default for EvaluationConfig {
    fn default() -> Self {
        Self { samples: 10, scale: 1.0, batch_tokens: 2048, include_text: false }
    }
}

//! `ivon-lora train`.

use std::path::PathBuf;

use clap::Args;

use super::ScreenArgs;
use crate::settings::{SETTINGS, Setting};

/// Train an adapter, evaluate it, and write it with its posterior
///
/// Flags override the file given by --config, which overrides the defaults. The settings without a
/// flag have a key in that file: `ivon-lora init` writes one with all of them. Without --model and
/// --data a small built-in model is trained on a built-in data set.
#[derive(Debug, Default, Args)]
#[command(after_help = after_help())]
pub struct TrainArgs {
    /// A TOML file with the settings of the run
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// A Hugging Face folder, a .gguf file, or a hub name org/name[@revision]
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// A folder with train/validation/test files, or a file (jsonl, csv, tsv, parquet)
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    /// The folder to write the run into
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// Go on from the newest checkpoint in --out
    #[arg(long)]
    pub resume: bool,
    /// Print the resolved run as TOML and stop
    #[arg(long)]
    pub dry_run: bool,

    #[command(flatten)]
    pub data_settings: DataArgs,
    #[command(flatten)]
    pub optimizer: OptimizerArgs,
    #[command(flatten)]
    pub length: LengthArgs,
    #[command(flatten)]
    pub lora: LoraArgs,
    #[command(flatten)]
    pub evaluation: EvaluationArgs,
    #[command(flatten)]
    pub machine: MachineArgs,
    #[command(flatten)]
    pub screen: ScreenArgs,
}

const EXAMPLE: &str = "\
Example:
  ivon-lora train --model HuggingFaceTB/SmolLM2-135M --data data/sst2 --task sst2 --steps 400";

/// Columns of the list of keys.
const WIDTH: usize = 96;

/// The keys of the file that have no flag, from the table of all keys, and an example.
fn after_help() -> String {
    let mut lines = vec![String::from("Keys of the file that have no flag:")];
    let keys: Vec<String> = SETTINGS
        .iter()
        .filter(|setting| setting.flag.is_none())
        .map(Setting::name)
        .collect();
    for (place, key) in keys.iter().enumerate() {
        let word = format!(" {key}{}", if place + 1 == keys.len() { "." } else { "," });
        match lines.last_mut() {
            Some(line) if line.len() + word.len() <= WIDTH => line.push_str(&word),
            _ => lines.push(word.trim_start().into()),
        }
    }
    format!("{}\n\n{EXAMPLE}", lines.join("\n"))
}

/// The help of `--task`: the names of the catalogue.
fn task_help() -> String {
    format!("A built-in task: {}", ivon_lora::data::names().join(", "))
}

/// Prompts.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Prompts")]
pub struct DataArgs {
    #[arg(long, value_name = "NAME", help = task_help())]
    pub task: Option<String>,
    /// A prompt template with field names in braces, such as 'Review: {text} Sentiment:'
    #[arg(long, value_name = "TEXT")]
    pub prompt: Option<String>,
    /// The answer words in the order of the labels, with commas between
    #[arg(long, value_name = "WORDS", value_delimiter = ',')]
    pub answers: Option<Vec<String>>,
    /// The field with the label
    #[arg(long, value_name = "FIELD")]
    pub label_field: Option<String>,
    /// What labels are, where they could be read in two ways: index or word
    #[arg(long, value_name = "HOW")]
    pub label_reading: Option<String>,
    /// The field with a row's id; id, ID, qID, question_id, idx or index by default
    #[arg(long, value_name = "FIELD")]
    pub id_field: Option<String>,
    /// How answers are scored: token or answer
    #[arg(long, value_name = "HOW")]
    pub scoring: Option<String>,
    /// Put the model's chat template around the prompt, or that of a file
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub chat_template: Option<String>,
    /// The most tokens of a prompt
    #[arg(long, value_name = "N")]
    pub max_length: Option<u32>,
    /// The most training examples
    #[arg(long, value_name = "N")]
    pub train_limit: Option<u32>,
    /// The most examples of each other role
    #[arg(long, value_name = "N")]
    pub eval_limit: Option<u32>,
}

/// Optimizer.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Optimizer")]
pub struct OptimizerArgs {
    /// ivon, adamw, mc-dropout, swag, laplace, tfb, blob, scalabl, clora, ensemble or adamw-noise
    #[arg(long, value_name = "NAME")]
    pub optimizer: Option<String>,
    /// The learning rate before the schedule
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub learning_rate: Option<f64>,
    /// ivon: the effective sample size
    #[arg(
        long,
        value_name = "X",
        allow_negative_numbers = true,
        conflicts_with = "posterior_sd"
    )]
    pub ess: Option<f64>,
    /// ivon: the posterior's standard deviation at the start, in place of --ess
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub posterior_sd: Option<f64>,
    /// ivon: the Hessian at the start
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub hess_init: Option<f64>,
    /// Decay of the momentum
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub beta1: Option<f64>,
    /// Decay of the Hessian (adamw: of the second moment)
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub beta2: Option<f64>,
    /// Pulls weights to 0
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub weight_decay: Option<f64>,
    /// ivon: the largest size of an update before the learning rate; 0 for no limit
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub clip_radius: Option<f64>,
    /// ivon: draws per step
    #[arg(long, value_name = "N")]
    pub mc_samples: Option<u32>,
    /// ivon: multiply the learning rate by hess_init + weight_decay
    #[arg(long, value_name = "true|false", num_args = 0..=1, default_missing_value = "true", require_equals = true, hide_possible_values = true)]
    pub rescale_lr: Option<bool>,
    /// The largest norm of the gradient; 0 for no limit
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub max_grad_norm: Option<f64>,
}

/// Length, batches, intervals.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Training")]
pub struct LengthArgs {
    /// Optimizer steps
    #[arg(long, value_name = "N", conflicts_with = "epochs")]
    pub steps: Option<u32>,
    /// Passes over the training examples, in place of --steps
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub epochs: Option<f64>,
    /// Examples per forward pass
    #[arg(long, value_name = "N")]
    pub batch_size: Option<u32>,
    /// Forward passes per optimizer step
    #[arg(long, value_name = "N")]
    pub accumulation: Option<u32>,
    /// constant, linear or cosine
    #[arg(long, value_name = "NAME")]
    pub schedule: Option<String>,
    /// Steps over which the learning rate rises from 0
    #[arg(long, value_name = "N")]
    pub warmup: Option<u32>,
    /// Steps between evaluations on tune
    #[arg(long, value_name = "N")]
    pub eval_interval: Option<u32>,
    /// Steps between checkpoints
    #[arg(long, value_name = "N")]
    pub checkpoint_interval: Option<u32>,
    /// Keep the best step by this score on tune: nll, accuracy, brier or ece
    #[arg(long, value_name = "SCORE")]
    pub keep_best: Option<String>,
    /// Stop after this many evaluations without a better score
    #[arg(long, value_name = "N")]
    pub patience: Option<u32>,
    /// Names everything random
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    pub seed: Option<u64>,
}

/// Adapter.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Adapter")]
pub struct LoraArgs {
    /// The rank of A and B
    #[arg(long, value_name = "N")]
    pub rank: Option<u32>,
    /// The adapter's output is scaled by alpha / rank
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub alpha: Option<f64>,
    /// The probability that an input of A is set to zero in training
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub dropout: Option<f64>,
    /// The layers that are adapted: names with commas between, a regular expression, or all-linear
    #[arg(long, value_name = "LAYERS")]
    pub target_modules: Option<String>,
    /// A PEFT folder to start from
    #[arg(long, value_name = "FOLDER")]
    pub adapter: Option<PathBuf>,
}

/// Evaluation.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Evaluation")]
pub struct EvaluationArgs {
    /// Draws from the posterior in the evaluation at the end
    #[arg(long, value_name = "N")]
    pub samples: Option<u32>,
    /// The posterior's variance is multiplied by this
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub scale: Option<f64>,
    /// Choose the scale on calibrate by NLL, in place of --scale
    #[arg(long, value_name = "true|false", num_args = 0..=1, default_missing_value = "true", require_equals = true, hide_possible_values = true, conflicts_with = "scale")]
    pub choose_scale: Option<bool>,
    /// Write the prompts into predictions.jsonl as well
    #[arg(long, value_name = "true|false", num_args = 0..=1, default_missing_value = "true", require_equals = true, hide_possible_values = true)]
    pub include_text: Option<bool>,
}

/// Machine.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Machine")]
pub struct MachineArgs {
    /// cpu, cuda, rocm, metal, vulkan or wgpu
    #[arg(long, value_name = "NAME")]
    pub device: Option<String>,
    /// Threads of the CPU; all by default
    #[arg(long, value_name = "N")]
    pub threads: Option<u32>,
    /// How the base is kept: f32, bf16 or as-is
    #[arg(long, value_name = "HOW")]
    pub base_precision: Option<String>,
    /// Keep less for the backward pass and compute it again
    #[arg(long, value_name = "true|false", num_args = 0..=1, default_missing_value = "true", require_equals = true, hide_possible_values = true)]
    pub recompute: Option<bool>,
}

//! What all commands ask for that answer with an adapter.

use std::path::PathBuf;

use clap::Args;

/// Which adapter on which base.
#[derive(Debug, Args)]
pub struct AdapterArgs {
    /// The base: a Hugging Face folder, a .gguf file, or a hub name org/name[@revision]; what the
    /// adapter names by default
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// The adapter folder of a run, or PEFT's; or an adapter's hub name
    #[arg(long, value_name = "FOLDER")]
    pub adapter: PathBuf,
}

/// The task of an adapter that names none, as those of other programs.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "For an adapter of another program")]
pub struct TaskArgs {
    /// A built-in task
    #[arg(long, value_name = "NAME")]
    pub task: Option<String>,
    /// A prompt template with field names in braces
    #[arg(long, value_name = "TEXT")]
    pub prompt: Option<String>,
    /// The answer words in the order of the labels, with commas between
    #[arg(long, value_name = "WORDS", value_delimiter = ',')]
    pub answers: Option<Vec<String>>,
    /// The field with the label
    #[arg(long, value_name = "FIELD")]
    pub label_field: Option<String>,
    /// How answers are scored: token or answer
    #[arg(long, value_name = "HOW")]
    pub scoring: Option<String>,
    /// Put the model's chat template around the prompt, or that of a file
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub chat_template: Option<String>,
}

/// How it is computed.
#[derive(Debug, Args)]
pub struct HowArgs {
    /// The file of the folder: train, tune, calibrate, validation or test; by default test, else
    /// validation
    #[arg(long, value_name = "NAME")]
    pub split: Option<String>,
    /// Draws from the posterior; as the run chose by default
    #[arg(long, value_name = "N")]
    pub samples: Option<u32>,
    /// The posterior's variance is multiplied by this; as the run chose by default
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub scale: Option<f64>,
    /// The most examples: the first of the file
    #[arg(long, value_name = "N")]
    pub eval_limit: Option<u32>,
    /// The field with a row's id; id, ID, qID, question_id, idx or index by default
    #[arg(long, value_name = "FIELD")]
    pub id_field: Option<String>,
    /// What labels are, where they could be read in two ways: index or word
    #[arg(long, value_name = "HOW")]
    pub label_reading: Option<String>,
    /// Write the prompts into the predictions as well
    #[arg(long, value_name = "true|false", num_args = 0..=1, default_missing_value = "true", require_equals = true, hide_possible_values = true)]
    pub include_text: Option<bool>,
    /// cpu, cuda, rocm, metal, vulkan or wgpu
    #[arg(long, value_name = "NAME", default_value = "cpu")]
    pub device: String,
    /// Threads of the CPU; all by default
    #[arg(long, value_name = "N")]
    pub threads: Option<u32>,
}

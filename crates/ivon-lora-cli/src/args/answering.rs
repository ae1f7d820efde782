//! Flags shared by all commands that answer with an adapter.

use std::path::PathBuf;

use clap::Args;

/// Which adapter on which base model.
#[derive(Clone, Debug, Args)]
pub struct AdapterArgs {
    /// The base model: a Hugging Face folder, a .gguf file, or a hub name org/name[@revision]; by
    /// default the one that the adapter names
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// The adapter: the folder of a run or of its adapter, a PEFT folder, or a hub name
    #[arg(long, value_name = "FOLDER")]
    pub adapter: PathBuf,
}

/// How rows are selected and predictions computed.
#[derive(Debug, Args)]
pub struct PredictionArgs {
    /// The file in the data folder: train, tune, calibrate, validation or test; by default test,
    /// else validation
    #[arg(long, value_name = "NAME")]
    pub split: Option<String>,
    /// Number of draws from the posterior; by default what the run chose
    #[arg(long, value_name = "N")]
    pub samples: Option<u32>,
    /// Factor on the posterior's variance; by default what the run chose
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub scale: Option<f64>,
    /// Use at most this many examples, from the beginning of the file
    #[arg(long, value_name = "N")]
    pub eval_limit: Option<u32>,
    /// The field with a row's id; by default id, ID, qID, question_id, idx or index
    #[arg(long, value_name = "FIELD")]
    pub id_field: Option<String>,
    /// How to read labels that could be read in two ways: index or word
    #[arg(long, value_name = "HOW")]
    pub label_reading: Option<String>,
    /// Include the prompts in the predictions
    #[arg(long, value_name = "true|false", num_args = 0..=1, default_missing_value = "true", require_equals = true, hide_possible_values = true)]
    pub include_text: Option<bool>,
    /// In which numbers products with the base's weights are computed: f32, or int8 on a CPU
    #[arg(long, value_name = "NUMBERS", default_value = "f32")]
    pub compute: String,
    /// cpu, cuda, rocm, metal, vulkan or wgpu
    #[arg(long, value_name = "NAME", default_value = "cpu")]
    pub device: String,
    /// CPU threads; all by default
    #[arg(long, value_name = "N")]
    pub threads: Option<u32>,
}

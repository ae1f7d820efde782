//! `ivon-lora sample`.

use std::path::PathBuf;

use clap::Args;

use super::ExportFormat;

/// Write draws from an adapter's posterior as adapters that other programs load
///
/// A server with several adapters that answers under each and averages the probabilities predicts as
/// `predict` does with as many samples. A draw is a folder of PEFT, a GGUF file for llama.cpp, or a
/// folder of mlx-lm.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  ivon-lora sample --adapter runs/sst2/adapter --draws 5 --out draws"
)]
pub struct SampleArgs {
    /// The base model: a Hugging Face folder, a .gguf file, or a hub name org/name[@revision]; by
    /// default the one that the adapter names
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// The adapter: the folder of a run or of its adapter, or a hub name
    #[arg(long, value_name = "FOLDER")]
    pub adapter: PathBuf,
    /// The number of draws; of an ensemble at most its members
    #[arg(long, value_name = "N")]
    pub draws: u32,
    /// The folder to write, with draw-0, draw-1 and so on; it must not exist yet
    #[arg(long, value_name = "FOLDER")]
    pub out: PathBuf,
    /// What is written
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = ExportFormat::Peft)]
    pub format: ExportFormat,
    /// The factor of the posterior's variance; by default the adapter's
    #[arg(long, value_name = "X")]
    pub scale: Option<f64>,
    /// The seed of the draws; by default the adapter's
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Write a summary as JSON to standard output
    #[arg(long)]
    pub json: bool,
}

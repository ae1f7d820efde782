//! `ivon-lora data`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::DataFlags;

/// What to do with a data set.
#[derive(Debug, Subcommand)]
pub enum DataCommand {
    /// Show prompt, tokens, choices and label of the first examples, lengths, label counts, and the
    /// rows left out
    #[command(
        after_help = "Example:\n  ivon-lora data preview --data data/sst2 --task sst2 --model HuggingFaceTB/SmolLM2-135M -k 3"
    )]
    Preview(Box<PreviewArgs>),
}

/// What to preview.
#[derive(Debug, Args)]
pub struct PreviewArgs {
    /// A TOML file with the settings of a run
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The model whose tokenizer reads the prompts
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// A folder with train/validation/test files, or a file (jsonl, csv, tsv, parquet; also .gz)
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    /// The rows of this role: train, tune, calibrate or test
    #[arg(long, value_name = "ROLE", default_value = "train")]
    pub role: String,
    /// Number of examples shown
    #[arg(short = 'k', long = "count", value_name = "N", default_value_t = 3)]
    pub count: u32,
    /// Write JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub settings: DataFlags,
}

//! `ivon-lora inspect`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// What to look at.
#[derive(Debug, Subcommand)]
pub enum InspectCommand {
    /// Architecture, parameters, encodings, bytes, tokenizer and chat template of a model
    #[command(after_help = "Example:\n  ivon-lora inspect model HuggingFaceTB/SmolLM2-135M")]
    Model(ModelArgs),
    /// PEFT options, task, base, and how wide the posterior is in each layer of an adapter
    #[command(after_help = "Example:\n  ivon-lora inspect adapter runs/sst2/adapter")]
    Adapter(PathArgs),
    /// Files, rows, fields and label counts of a data set
    #[command(after_help = "Example:\n  ivon-lora inspect data data/sst2")]
    Data(PathArgs),
    /// Settings and scores of a run, and what was wrong with it, each with a remedy
    #[command(after_help = "Example:\n  ivon-lora inspect run runs/sst2")]
    Run(PathArgs),
}

/// A model by any of its names.
#[derive(Debug, Args)]
pub struct ModelArgs {
    /// A Hugging Face folder, a .gguf file, or a hub name org/name[@revision]
    #[arg(value_name = "MODEL")]
    pub model: String,
    /// Write JSON
    #[arg(long)]
    pub json: bool,
}

/// A folder or a file.
#[derive(Debug, Args)]
pub struct PathArgs {
    /// The folder or file
    #[arg(value_name = "PATH")]
    pub path: PathBuf,
    /// Write JSON
    #[arg(long)]
    pub json: bool,
}

//! `ivon-lora inspect`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// What to inspect.
#[derive(Debug, Subcommand)]
pub enum InspectCommand {
    /// Show architecture, parameters, encodings, size, tokenizer and chat template of a model
    #[command(after_help = "Example:\n  ivon-lora inspect model HuggingFaceTB/SmolLM2-135M")]
    Model(ModelArgs),
    /// Show PEFT options, task and base model of an adapter, and the width of its posterior in each
    /// layer
    #[command(after_help = "Example:\n  ivon-lora inspect adapter runs/sst2/adapter")]
    Adapter(PathArgs),
    /// Show files, rows, fields and label counts of a data set
    #[command(after_help = "Example:\n  ivon-lora inspect data data/sst2")]
    Data(PathArgs),
    /// Show settings and scores of a run, and what went wrong in it, with remedies
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

//! The commands that train nothing.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Write the base with the adapter merged in as a full Hugging Face folder
///
/// What is written needs no adapter any more, and has no posterior.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  ivon-lora merge --model HuggingFaceTB/SmolLM2-135M --adapter runs/sst2/adapter --out merged"
)]
pub struct MergeArgs {
    /// The base: a Hugging Face folder, a .gguf file, or a hub name org/name[@revision]; what the
    /// adapter names by default
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// The adapter folder of a run, or PEFT's; or an adapter's hub name
    #[arg(long, value_name = "FOLDER")]
    pub adapter: PathBuf,
    /// The folder to write; it must not exist yet
    #[arg(long, value_name = "FOLDER")]
    pub out: PathBuf,
    /// The type of the weights: f32, f16 or bf16
    #[arg(long, value_name = "TYPE", default_value = "bf16")]
    pub precision: String,
    /// Write a summary as JSON to standard output
    #[arg(long)]
    pub json: bool,
}

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

/// What to do with data.
#[derive(Debug, Subcommand)]
pub enum DataCommand {
    /// Prompt, tokens, choices and label of the first examples, lengths, label counts, and the rows
    /// left out
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
    /// A folder with train/validation/test files, or a file (jsonl, csv, tsv, parquet; packed as
    /// .gz too)
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    /// The rows of this role: train, tune, calibrate or test
    #[arg(long, value_name = "ROLE", default_value = "train")]
    pub role: String,
    /// How many examples are shown
    #[arg(short = 'k', long = "count", value_name = "N", default_value_t = 3)]
    pub count: u32,
    /// Write JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub settings: super::DataFlags,
}

/// What the written file shall name.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  ivon-lora init --model HuggingFaceTB/SmolLM2-135M --data data/sst2 --task sst2 --out run.toml"
)]
pub struct InitArgs {
    /// A Hugging Face folder, a .gguf file, or a hub name org/name[@revision]
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// A folder with train/validation/test files, or a file
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    /// A built-in task
    #[arg(long, value_name = "NAME")]
    pub task: Option<String>,
    /// ivon or adamw
    #[arg(long, value_name = "NAME", default_value = "ivon")]
    pub optimizer: String,
    /// The file to write, which must not exist yet; standard output where absent
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// Which shell.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  ivon-lora completions bash > ~/.local/share/bash-completion/completions/ivon-lora"
)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub shell: clap_complete::Shell,
}

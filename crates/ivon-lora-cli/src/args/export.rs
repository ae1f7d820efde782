//! `ivon-lora export`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Write an adapter's mean in the format of another program
///
/// The base stays as it is: llama.cpp loads the file with --lora, mlx-lm the folder with --adapter-path.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  ivon-lora export --adapter runs/sst2/adapter --format gguf --out sst2.gguf"
)]
pub struct ExportArgs {
    /// The base model: a Hugging Face folder, a .gguf file, or a hub name org/name[@revision]; by
    /// default the one that the adapter names
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// The adapter: the folder of a run or of its adapter, a PEFT folder, or a hub name
    #[arg(long, value_name = "FOLDER")]
    pub adapter: PathBuf,
    /// What is written
    #[arg(long, value_name = "FORMAT", value_enum)]
    pub format: ExportFormat,
    /// The file or folder to write; it must not exist yet
    #[arg(long, value_name = "PATH")]
    pub out: PathBuf,
    /// Write a summary as JSON to standard output
    #[arg(long)]
    pub json: bool,
}

/// The format of an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// A folder of PEFT, which vLLM and others load too
    Peft,
    /// A GGUF file for llama.cpp
    Gguf,
    /// A folder of mlx-lm
    Mlx,
}

impl ExportFormat {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Peft => "peft",
            Self::Gguf => "gguf",
            Self::Mlx => "mlx",
        }
    }
}

//! `ivon-lora init`.

use std::path::PathBuf;

use clap::Args;
use ivon_lora::method::Method;
use ivon_lora::words::joined;

/// What the configuration file is to contain.
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
    #[arg(long, value_name = "NAME", default_value = "ivon", help = joined(&Method::NAMES, "or"))]
    pub optimizer: String,
    /// The file to write, which must not exist yet; standard output by default
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

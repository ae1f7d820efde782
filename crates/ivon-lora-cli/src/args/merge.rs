//! `ivon-lora merge`.

use std::path::PathBuf;

use clap::Args;

/// Write the base model with the adapter merged in as a complete Hugging Face folder or GGUF file
///
/// The merged model needs no adapter, and has no posterior.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  ivon-lora merge --model HuggingFaceTB/SmolLM2-135M --adapter runs/sst2/adapter --out merged"
)]
pub struct MergeArgs {
    /// The base model: a Hugging Face folder, a .gguf file, or a hub name org/name[@revision]; by
    /// default the one that the adapter names
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// The adapter: the folder of a run or of its adapter, a PEFT folder, or a hub name
    #[arg(long, value_name = "FOLDER")]
    pub adapter: PathBuf,
    /// The folder to write, or of a base in GGUF a file .gguf; it must not exist yet
    #[arg(long, value_name = "PATH")]
    pub out: PathBuf,
    /// The type of the weights: f32, f16 or bf16; in a GGUF file also q8_0 or q4_0
    #[arg(long, value_name = "TYPE", default_value = "bf16")]
    pub precision: String,
    /// Write a summary as JSON to standard output
    #[arg(long)]
    pub json: bool,
}

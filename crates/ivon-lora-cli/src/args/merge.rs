//! `ivon-lora merge`.

use std::path::PathBuf;

use clap::Args;

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

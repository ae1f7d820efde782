//! `ivon-lora evaluate`.

use std::path::PathBuf;

use clap::Args;

use super::{AdapterArgs, PredictionArgs, ScreenArgs, TaskFlags};

/// Score an adapter on a data set, at the mean and with draws from its posterior
///
/// Task, prompt and answers are those that the adapter was trained with; they are stored with it.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  ivon-lora evaluate --model HuggingFaceTB/SmolLM2-135M --adapter runs/sst2/adapter --data data/sst2"
)]
pub struct EvaluateArgs {
    #[command(flatten)]
    pub adapter: AdapterArgs,
    /// A folder with validation/test files, or a file (jsonl, csv, tsv, parquet; also .gz)
    #[arg(long, value_name = "PATH")]
    pub data: PathBuf,
    /// Only the rows that played this role when the adapter was trained: train, tune, calibrate or
    /// test
    #[arg(long, value_name = "ROLE")]
    pub role: Option<String>,
    #[command(flatten)]
    pub prediction: PredictionArgs,
    #[command(flatten)]
    pub task: TaskFlags,
    /// A folder for evaluation.json and predictions.jsonl
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub screen: ScreenArgs,
}

//! `ivon-lora evaluate`.

use std::path::PathBuf;

use clap::Args;

use super::{AdapterArgs, AgreementArgs, PredictionArgs, ScreenArgs, TaskFlags};

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
    #[command(flatten)]
    pub answers: AnswerArgs,
    /// A folder for evaluation.json and predictions.jsonl, and answers.jsonl with --write
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub screen: ScreenArgs,
}

/// How answers are written and judged.
#[derive(Debug, Args)]
pub struct AnswerArgs {
    /// Write an answer to each prompt too, at the mean and under each draw, and score them against
    /// the completions and references of the rows
    #[arg(long)]
    pub write: bool,
    /// The largest number of tokens of an answer
    #[arg(long, value_name = "N", default_value_t = 64, requires = "write")]
    pub max_tokens: u32,
    /// By which logits are divided before a token of an answer under a draw is drawn; 0 takes the most
    /// probable token, as at the mean
    #[arg(
        long,
        value_name = "X",
        default_value_t = 0.0,
        allow_negative_numbers = true,
        requires = "write"
    )]
    pub temperature: f64,
    /// By what an answer is compared with its references: exact, f1, rouge-l or chrf
    #[arg(
        long,
        value_name = "SCORE",
        default_value = "exact",
        requires = "write"
    )]
    pub quality: String,
    /// The least quality of a right answer; by default 1 for exact, else 0.5
    #[arg(
        long,
        value_name = "X",
        allow_negative_numbers = true,
        requires = "write"
    )]
    pub right_from: Option<f64>,
    #[command(flatten)]
    pub agreement: AgreementArgs,
}

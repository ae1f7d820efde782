//! `ivon-lora predict`.

use std::path::PathBuf;

use clap::Args;

use super::{AdapterArgs, PredictionArgs, ScreenArgs, TaskFlags};

/// Answer prompts or rows, and say how certain each answer is
///
/// Rows come from --data, complete prompts from --text, and either of them from standard input: if
/// its first line is a JSON object or a header with the fields of the task, every line is a row;
/// otherwise every line is a complete prompt. Each row gets one line of JSON, in the order of the
/// input: probabilities at the mean and averaged over draws, the answer and its confidence from
/// whichever of the two did better in the run (the line says which), entropy and mutual information
/// in nats; or the error that prevents an answer. An adapter with a rule of decide says for each row
/// whether its answer is to be taken or deferred, or the set of its answers.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  ivon-lora predict --model HuggingFaceTB/SmolLM2-135M --adapter runs/sst2/adapter < rows.jsonl"
)]
pub struct PredictArgs {
    #[command(flatten)]
    pub adapter: AdapterArgs,
    /// A folder with validation/test files, or a file; standard input by default
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    /// The format of standard input: csv, tsv, jsonl or text (complete prompts); by default
    /// detected from its first line
    #[arg(long, value_name = "FORMAT", conflicts_with_all = ["data", "text"])]
    pub input_format: Option<String>,
    /// Columns of the rows to copy into the output, separated by commas
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    pub carry: Vec<String>,
    /// A complete prompt; may be repeated
    #[arg(long, value_name = "PROMPT", conflicts_with = "data")]
    pub text: Vec<String>,
    #[command(flatten)]
    pub prediction: PredictionArgs,
    #[command(flatten)]
    pub task: TaskFlags,
    /// The output file; standard output by default
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// The output format: jsonl or csv; by default according to the name of --out, else jsonl
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
    /// Exit with code 3 if any row has no answer
    #[arg(long)]
    pub strict: bool,
    #[command(flatten)]
    pub screen: ScreenArgs,
}

//! `ivon-lora predict`.

use std::path::PathBuf;

use clap::Args;

use super::{AdapterArgs, HowArgs, ScreenArgs, TaskArgs};

/// Answer prompts or rows, with how sure the adapter is
///
/// Rows come from --data, finished prompts from --text, or either from standard input: where its
/// first line is a JSON object or a header with the fields that the task asks for, every line is a
/// row, else every line is a finished prompt. For each row a line of JSON is written, in their
/// order: probabilities at the mean and averaged over draws, the answer and its confidence from
/// whichever the run found better (named in the line), entropy and mutual information in nats; or
/// the error that keeps it from an answer.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  ivon-lora predict --model HuggingFaceTB/SmolLM2-135M --adapter runs/sst2/adapter < rows.jsonl"
)]
pub struct PredictArgs {
    #[command(flatten)]
    pub adapter: AdapterArgs,
    /// A folder with validation/test files, or a file; standard input where absent
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    /// What standard input holds: csv, tsv, jsonl or text (finished prompts); told by its first
    /// line where absent
    #[arg(long, value_name = "FORMAT", conflicts_with_all = ["data", "text"])]
    pub input_format: Option<String>,
    /// Columns of the rows that go along with their answers, with commas between
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    pub carry: Vec<String>,
    /// A finished prompt; may be given more than once
    #[arg(long, value_name = "PROMPT", conflicts_with = "data")]
    pub text: Vec<String>,
    #[command(flatten)]
    pub how: HowArgs,
    #[command(flatten)]
    pub task: TaskArgs,
    /// The file to write the lines into; standard output where absent
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// How the lines are written: jsonl or csv; by the name of --out, else jsonl
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
    /// Exit with code 3 where a row has no answer
    #[arg(long)]
    pub strict: bool,
    #[command(flatten)]
    pub screen: ScreenArgs,
}

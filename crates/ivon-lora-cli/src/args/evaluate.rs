//! `ivon-lora evaluate` and `ivon-lora predict`.

use std::path::PathBuf;

use clap::Args;

use super::ScreenArgs;

/// Score an adapter on a data set, at the mean and with draws from its posterior
///
/// The task, the prompt and the answers are those that the adapter was trained with; they lie
/// beside it.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  ivon-lora evaluate --model HuggingFaceTB/SmolLM2-135M --adapter runs/sst2/adapter --data data/sst2"
)]
pub struct EvaluateArgs {
    #[command(flatten)]
    pub adapter: AdapterArgs,
    /// A folder with validation/test files, or a file (jsonl, csv, tsv, parquet; packed as .gz too)
    #[arg(long, value_name = "PATH")]
    pub data: PathBuf,
    /// Only the rows that played this role when the adapter was trained: train, tune, calibrate or
    /// test
    #[arg(long, value_name = "ROLE")]
    pub role: Option<String>,
    #[command(flatten)]
    pub how: HowArgs,
    #[command(flatten)]
    pub task: TaskArgs,
    /// The folder to write evaluation.json and predictions.jsonl into
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub screen: ScreenArgs,
}

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

/// Which adapter on which base.
#[derive(Debug, Args)]
pub struct AdapterArgs {
    /// The base: a Hugging Face folder, a .gguf file, or a hub name org/name[@revision]; what the
    /// adapter names by default
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// The adapter folder of a run, or PEFT's; or an adapter's hub name
    #[arg(long, value_name = "FOLDER")]
    pub adapter: PathBuf,
}

/// The task of an adapter that names none, as those of other programs.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "For an adapter of another program")]
pub struct TaskArgs {
    /// A built-in task
    #[arg(long, value_name = "NAME")]
    pub task: Option<String>,
    /// A prompt template with field names in braces
    #[arg(long, value_name = "TEXT")]
    pub prompt: Option<String>,
    /// The answer words in the order of the labels, with commas between
    #[arg(long, value_name = "WORDS", value_delimiter = ',')]
    pub answers: Option<Vec<String>>,
    /// The field with the label
    #[arg(long, value_name = "FIELD")]
    pub label_field: Option<String>,
    /// How answers are scored: token or answer
    #[arg(long, value_name = "HOW")]
    pub scoring: Option<String>,
    /// Put the model's chat template around the prompt, or that of a file
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub chat_template: Option<String>,
}

/// How it is computed.
#[derive(Debug, Args)]
pub struct HowArgs {
    /// The file of the folder: train, tune, calibrate, validation or test; by default test, else
    /// validation
    #[arg(long, value_name = "NAME")]
    pub split: Option<String>,
    /// Draws from the posterior; as the run chose by default
    #[arg(long, value_name = "N")]
    pub samples: Option<u32>,
    /// The posterior's variance is multiplied by this; as the run chose by default
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub scale: Option<f64>,
    /// The most examples: the first of the file
    #[arg(long, value_name = "N")]
    pub eval_limit: Option<u32>,
    /// The field with a row's id; id, ID, qID, question_id, idx or index by default
    #[arg(long, value_name = "FIELD")]
    pub id_field: Option<String>,
    /// What labels are, where they could be read in two ways: index or word
    #[arg(long, value_name = "HOW")]
    pub label_reading: Option<String>,
    /// Write the prompts into the predictions as well
    #[arg(long, value_name = "true|false", num_args = 0..=1, default_missing_value = "true", require_equals = true, hide_possible_values = true)]
    pub include_text: Option<bool>,
    /// cpu, cuda, rocm, metal, vulkan or wgpu
    #[arg(long, value_name = "NAME", default_value = "cpu")]
    pub device: String,
    /// Threads of the CPU; all by default
    #[arg(long, value_name = "N")]
    pub threads: Option<u32>,
}

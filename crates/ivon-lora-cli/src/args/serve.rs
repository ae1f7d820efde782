//! `ivon-lora serve`.

use std::path::PathBuf;

use clap::Args;

use super::{BaseArgs, ScreenArgs};

/// Answer requests over HTTP
///
/// One base model in memory and any number of adapters on it, asked for by name. An adapter of a task
/// with choices predicts (POST /v1/predict): probabilities at the mean and averaged over draws, their
/// uncertainty, and the decision of its rule. An adapter of texts, and the base itself, write (POST
/// /v1/chat/completions and /v1/completions, for OpenAI's clients). Requests that wait are computed
/// together. / is a page to try it, /openapi.json describes every request, /metrics is for
/// Prometheus. Ctrl-C and SIGTERM end the server when the requests that it has are answered.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  ivon-lora serve --adapter runs/sst2/adapter --adapter topics=runs/ag_news/adapter"
)]
pub struct ServeArgs {
    /// The base model: a Hugging Face folder, a .gguf file, or a hub name org/name[@revision]; by
    /// default the one that the first adapter names
    #[arg(long, value_name = "MODEL", required_unless_present = "adapter")]
    pub model: Option<String>,
    /// An adapter's folder or hub name, or NAME=FOLDER; may be repeated. Its name is by default that
    /// of its run's folder
    #[arg(long, value_name = "FOLDER")]
    pub adapter: Vec<String>,
    /// The name of the base itself, which writes; by default base
    #[arg(long, value_name = "NAME", default_value = "base")]
    pub base_name: String,
    /// Number of draws from each posterior; by default what its run chose
    #[arg(long, value_name = "N")]
    pub samples: Option<u32>,
    /// Factor on the variance of each posterior; by default what its run chose
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub scale: Option<f64>,
    /// The address to listen on; another than this machine's own lets others in
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub host: String,
    /// The port; 0 takes one that is free
    #[arg(long, value_name = "N", default_value_t = 8080)]
    pub port: u16,
    /// A file with a token, which every request must then have; the environment variable
    /// IVON_LORA_TOKEN is an alternative
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Bytes that a request may have
    #[arg(long, value_name = "N", default_value_t = 1 << 20)]
    pub max_body: usize,
    /// Rows or prompts that a request may have
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub max_rows: usize,
    /// Tokens that a text may have
    #[arg(long, value_name = "N", default_value_t = 1024)]
    pub max_tokens: usize,
    /// Texts that a request may ask for
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub max_texts: usize,
    /// Requests that may wait for each model; more are answered with status 429
    #[arg(long, value_name = "N", default_value_t = 128)]
    pub max_waiting: usize,
    /// Rows that are predicted, and texts that are written, at the same time
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub together: usize,
    /// Seconds after which a request is given up
    #[arg(long, value_name = "N", default_value_t = 120)]
    pub timeout: u64,
    /// Print a line for each request; never what is in it
    #[arg(long)]
    pub log_requests: bool,
    #[command(flatten)]
    pub base: BaseArgs,
    #[command(flatten)]
    pub screen: ScreenArgs,
}

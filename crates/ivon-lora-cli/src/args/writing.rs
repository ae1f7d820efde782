//! Flags shared by the commands that write text.

use std::path::PathBuf;

use clap::Args;

/// How a base that stays in memory is kept, and where it is computed.
#[derive(Debug, Args)]
pub struct BaseArgs {
    /// How the base is kept: as-is, as it lies in the file; f32, bf16 or q8_0
    #[arg(long, value_name = "HOW", default_value = "as-is")]
    pub base_precision: String,
    /// In which numbers products with the base's weights are computed: f32, or int8 on a CPU
    #[arg(long, value_name = "NUMBERS", default_value = "f32")]
    pub compute: String,
    /// cpu, cuda, rocm, metal, vulkan or wgpu
    #[arg(long, value_name = "NAME", default_value = "cpu")]
    pub device: String,
    /// CPU threads; all by default
    #[arg(long, value_name = "N")]
    pub threads: Option<u32>,
}

/// Which model writes, and how.
#[derive(Debug, Args)]
pub struct WritingArgs {
    /// The base model: a Hugging Face folder, a .gguf file, or a hub name org/name[@revision]; by
    /// default the one that the adapter names
    #[arg(long, value_name = "MODEL", required_unless_present = "adapter")]
    pub model: Option<String>,
    /// The adapter: the folder of a run or of its adapter, a PEFT folder, or a hub name; without one
    /// the base model writes
    #[arg(long, value_name = "FOLDER")]
    pub adapter: Option<PathBuf>,
    /// The largest number of tokens of a text
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub max_tokens: u32,
    /// By which logits are divided before a token is drawn; 0 takes the most probable token
    #[arg(
        long,
        value_name = "X",
        default_value_t = 0.0,
        allow_negative_numbers = true
    )]
    pub temperature: f64,
    /// Draw from this many of the most probable tokens; 0 for all
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub top_k: u32,
    /// Draw from the most probable tokens that together have this probability
    #[arg(
        long,
        value_name = "P",
        default_value_t = 1.0,
        allow_negative_numbers = true
    )]
    pub top_p: f64,
    /// Draw from tokens with at least this share of the largest probability
    #[arg(
        long,
        value_name = "P",
        default_value_t = 0.0,
        allow_negative_numbers = true
    )]
    pub min_p: f64,
    /// By which the logits of tokens that were read or written are made smaller; 1 for not at all
    #[arg(
        long,
        value_name = "X",
        default_value_t = 1.0,
        allow_negative_numbers = true
    )]
    pub repetition_penalty: f64,
    /// The seed of random choices and draws
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// End a text before this one; may be repeated
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
    /// Factor on the posterior's variance; by default what the run chose
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub scale: Option<f64>,
    /// A chat template in a file, in place of the model's
    #[arg(long, value_name = "FILE")]
    pub chat_template: Option<PathBuf>,
    #[command(flatten)]
    pub base: BaseArgs,
}

/// When several answers to one prompt agree.
#[derive(Debug, Args)]
pub struct AgreementArgs {
    /// The utility of minimum Bayes risk decoding, of one answer where another is meant: exact, f1,
    /// rouge-l or chrf; by default chrf
    #[arg(long, value_name = "SCORE")]
    pub utility: Option<String>,
    /// Two answers mean the same from this ROUGE-L on; by default if they are equal but for case,
    /// punctuation and articles
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub same_from: Option<f64>,
}

//! `ivon-lora generate`.

use std::path::PathBuf;

use clap::Args;

use super::{AgreementArgs, ScreenArgs, WritingArgs};

/// Write text after prompts
///
/// A prompt is continued as it is, or answered in the model's chat template with --chat. One text
/// for each prompt, at the adapter's mean; with --samples one under each of so many draws of its
/// posterior. A text ends with the model's end tokens, before a --stop, or after --max-tokens.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  ivon-lora generate --model HuggingFaceTB/SmolLM2-135M-Instruct --chat --text Hello"
)]
pub struct GenerateArgs {
    #[command(flatten)]
    pub writing: WritingArgs,
    /// A prompt; may be repeated
    #[arg(long, value_name = "PROMPT", required_unless_present = "data")]
    pub text: Vec<String>,
    /// A file of rows with a prompt in the field prompt, text or instruction, or with --chat in
    /// messages
    #[arg(long, value_name = "FILE", conflicts_with = "text")]
    pub data: Option<PathBuf>,
    /// Put prompts into the model's chat template
    #[arg(long)]
    pub chat: bool,
    /// Write this many texts for each prompt, each under a draw of its own from the posterior
    #[arg(long, value_name = "N")]
    pub samples: Option<u32>,
    /// Of the texts for a prompt write one: vote, the most frequent, or mbr, the one with the largest
    /// expected utility over all of them (minimum Bayes risk); needs --samples
    #[arg(long, value_name = "HOW", requires = "samples")]
    pub choose: Option<String>,
    #[command(flatten)]
    pub agreement: AgreementArgs,
    /// Say how sure the posterior is of each text and of its tokens, as lines of JSON: its
    /// log-probability, entropy and mutual information under as many draws as --samples, or as the
    /// run answered with
    #[arg(long, requires = "json")]
    pub uncertainty: bool,
    /// Prompts that are answered at the same time
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub batch_size: u32,
    #[command(flatten)]
    pub screen: ScreenArgs,
}

//! `ivon-lora chat`.

use clap::Args;

use super::{ScreenArgs, WritingArgs};

/// Talk with a model on the terminal
///
/// Each line of standard input is a message, which the model answers in its chat template; it has
/// the whole conversation before it. An empty line is skipped, /new begins a new conversation, the
/// end of the input (Ctrl-D) or /exit ends the program.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  ivon-lora chat --model HuggingFaceTB/SmolLM2-135M-Instruct --temperature 0.7"
)]
pub struct ChatArgs {
    #[command(flatten)]
    pub writing: WritingArgs,
    /// What the model is told before the conversation, in the role system
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    #[command(flatten)]
    pub screen: ScreenArgs,
}

//! `ivon-lora completions`.

use clap::Args;

/// Which shell.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  ivon-lora completions bash > ~/.local/share/bash-completion/completions/ivon-lora"
)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub shell: clap_complete::Shell,
}

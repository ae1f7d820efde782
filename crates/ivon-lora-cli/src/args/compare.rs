//! `ivon-lora compare`.

use std::path::PathBuf;

use clap::Args;

use super::ScreenArgs;

/// Train methods on tasks with several seeds, tuned alike, and show them in one table
///
/// One file says all of it. What is finished is not made again: a comparison that was stopped goes
/// on where it was, a method that is added to the file costs only its own runs. A run that fails is
/// told of and the rest goes on.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  ivon-lora compare comparison.toml --dry-run\n  ivon-lora compare comparison.toml"
)]
pub struct CompareArgs {
    /// The TOML file of the comparison
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The folder of everything that is made; that of the file by default
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// Say what is left to do and about how long it takes, and stop
    #[arg(long)]
    pub dry_run: bool,
    /// How many runs to make at once, as far as memory allows; as the file says by default
    #[arg(long, value_name = "N")]
    pub jobs: Option<u32>,
    /// Threads of the CPU, of all runs together; all by default
    #[arg(long, value_name = "N")]
    pub threads: Option<u32>,
    #[command(flatten)]
    pub screen: ScreenArgs,
}

//! `ivon-lora prune`.

use std::path::PathBuf;

use clap::Args;

use super::{HowArgs, ScreenArgs, SubjectArgs, TaskArgs};

/// Set the weights to zero that the posterior is least sure of
///
/// Accuracy and ECE at the mean against the share of weights that are zero, those with the least
/// |m|/σ first. --share and --out write the pruned adapter as a PEFT folder with its posterior. Of
/// a run the curve is kept as prune.json in its folder, and the report shows it.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  ivon-lora prune runs/sst2\n  ivon-lora prune runs/sst2 --share 0.5 --out runs/sst2-half"
)]
pub struct PruneArgs {
    #[command(flatten)]
    pub subject: SubjectArgs,
    /// A folder to write every plot into as an SVG file
    #[arg(long, value_name = "FOLDER")]
    pub svg: Option<PathBuf>,
    /// How many shares, none and all among them
    #[arg(long, value_name = "N", default_value_t = 11)]
    pub points: u32,
    /// The share to write, from 0 to 1; needs --out
    #[arg(
        long,
        value_name = "X",
        allow_negative_numbers = true,
        requires = "out"
    )]
    pub share: Option<f64>,
    /// The folder for the pruned adapter, which must not exist yet; needs --share
    #[arg(long, value_name = "FOLDER", requires = "share")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub how: HowArgs,
    #[command(flatten)]
    pub task: TaskArgs,
    #[command(flatten)]
    pub screen: ScreenArgs,
}

//! `ivon-lora prune`.

use std::path::PathBuf;

use clap::Args;

use super::{PredictionArgs, ScreenArgs, SubjectArgs, TaskFlags};

/// Set to zero the weights that the posterior is least certain of
///
/// Accuracy and ECE at the mean against the share of weights set to zero, smallest |m|/σ first.
/// --share and --out write the pruned adapter as a PEFT folder with its posterior. For a run, the
/// curve is saved as prune.json in its folder, and the report shows it.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  ivon-lora prune runs/sst2\n  ivon-lora prune runs/sst2 --share 0.5 --out runs/sst2-half"
)]
pub struct PruneArgs {
    #[command(flatten)]
    pub subject: SubjectArgs,
    /// A folder for the plots, as SVG files
    #[arg(long, value_name = "FOLDER")]
    pub svg: Option<PathBuf>,
    /// Number of shares, including none and all
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
    /// A new folder for the pruned adapter; needs --share
    #[arg(long, value_name = "FOLDER", requires = "share")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub prediction: PredictionArgs,
    #[command(flatten)]
    pub task: TaskFlags,
    #[command(flatten)]
    pub screen: ScreenArgs,
}

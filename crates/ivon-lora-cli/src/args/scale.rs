//! `ivon-lora scale`.

use std::path::PathBuf;

use clap::Args;

use super::{PredictionArgs, ScreenArgs, SubjectArgs, TaskFlags};

/// Find the scale of the posterior's variance that predicts best
///
/// Error, NLL and ECE for a factor τ on the variance, from 0 (the mean) to --end, averaged over 1,
/// 2, 5, … draws. The τ with the lowest NLL is chosen on other rows than those of the curves: the
/// calibrate rows of a run, or the file named calibrate in a data folder. For a run, the result is
/// saved as scale.json in its folder, and the report shows it.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  ivon-lora scale runs/sst2 --end 4 --points 9 --write\n  ivon-lora scale runs/sst2/adapter --model HuggingFaceTB/SmolLM2-135M --data data/sst2"
)]
pub struct ScaleArgs {
    #[command(flatten)]
    pub subject: SubjectArgs,
    /// A folder for the plots, as SVG files
    #[arg(long, value_name = "FOLDER")]
    pub svg: Option<PathBuf>,
    /// The largest τ
    #[arg(
        long,
        value_name = "X",
        default_value_t = 1.0,
        allow_negative_numbers = true
    )]
    pub end: f64,
    /// Number of values of τ, including 0 and the largest
    #[arg(long, value_name = "N", default_value_t = 11)]
    pub points: u32,
    /// Store the chosen τ in the adapter, so that evaluate and predict use it
    #[arg(long)]
    pub write: bool,
    #[command(flatten)]
    pub prediction: PredictionArgs,
    #[command(flatten)]
    pub task: TaskFlags,
    #[command(flatten)]
    pub screen: ScreenArgs,
}

//! `ivon-lora scale`.

use std::path::PathBuf;

use clap::Args;

use super::{HowArgs, ScreenArgs, SubjectArgs, TaskArgs};

/// Find by how much the posterior's variance is best multiplied
///
/// Error, NLL and ECE for τ from 0 (the mean) to an end, averaged over 1, 2, 5, … draws. The τ of
/// the lowest NLL is chosen on rows that are not those of the curves: the calibrate rows of a run,
/// or the file named calibrate of a data folder. Of a run the result is kept as scale.json in its
/// folder, and the report shows it.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  ivon-lora scale runs/sst2 --end 4 --points 9 --write\n  ivon-lora scale runs/sst2/adapter --model HuggingFaceTB/SmolLM2-135M --data data/sst2"
)]
pub struct ScaleArgs {
    #[command(flatten)]
    pub subject: SubjectArgs,
    /// A folder to write every plot into as an SVG file
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
    /// How many values of τ, 0 and the end among them
    #[arg(long, value_name = "N", default_value_t = 11)]
    pub points: u32,
    /// Write the τ that is chosen into the adapter: evaluate and predict use it from then on
    #[arg(long)]
    pub write: bool,
    #[command(flatten)]
    pub how: HowArgs,
    #[command(flatten)]
    pub task: TaskArgs,
    #[command(flatten)]
    pub screen: ScreenArgs,
}

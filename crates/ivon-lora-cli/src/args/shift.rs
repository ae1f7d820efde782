//! `ivon-lora shift`.

use std::path::PathBuf;

use clap::Args;

use super::{PredictionArgs, ScreenArgs, SubjectArgs, TaskFlags};

/// Test a run on data it was not trained for
///
/// Scores where the rows have labels, and how well each of the run's uncertainties separates the
/// set from the run's own held-out rows (AUROC, AUPR). Rows of the same kind as the run's are read
/// as they are; --fields inserts texts of another kind into the run's own prompt.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  ivon-lora shift runs/openbookqa --to easy=data/arc_easy --to chemistry=data/mmlu_chemistry\n  ivon-lora shift runs/sst2 --to passages=data/boolq --fields passages:text=passage --eval-limit 500"
)]
pub struct ShiftArgs {
    #[command(flatten)]
    pub subject: SubjectArgs,
    /// Another data set: a name for it, and a folder of data files or a file; may be repeated
    #[arg(long, value_name = "NAME=PATH", required = true)]
    pub to: Vec<String>,
    /// Fill a field of the run's task from a column of a set, whose rows are then unlabelled; may
    /// be repeated
    #[arg(long, value_name = "NAME:FIELD=COLUMN")]
    pub fields: Vec<String>,
    /// A file for the result as JSON
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    pub prediction: PredictionArgs,
    #[command(flatten)]
    pub task: TaskFlags,
    #[command(flatten)]
    pub screen: ScreenArgs,
}

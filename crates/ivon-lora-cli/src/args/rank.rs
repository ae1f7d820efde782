//! `ivon-lora rank`.

use std::path::PathBuf;

use clap::Args;

use super::{AdapterArgs, PredictionArgs, ScreenArgs, TaskFlags};

/// Order rows: training rows that may be mislabelled, or unlabelled ones that are worth a label
///
/// By leave-one-out a row comes first if the model would not give it its label had it not been trained
/// on it (memory-perturbation equation, from draws of the posterior). By mutual information or entropy
/// rows need no label: those come first of which a label would say most.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  ivon-lora rank --adapter runs/sst2/adapter --data data/sst2 --split train --top 40"
)]
pub struct RankArgs {
    #[command(flatten)]
    pub adapter: AdapterArgs,
    /// A folder of data files, or a file
    #[arg(long, value_name = "PATH")]
    pub data: PathBuf,
    /// What rows are ordered by, the largest first: leave-one-out, loss, mutual-information or entropy
    #[arg(long, value_name = "SCORE", default_value = "leave-one-out")]
    pub by: String,
    /// Print only this many rows
    #[arg(long, value_name = "N")]
    pub top: Option<u32>,
    #[command(flatten)]
    pub prediction: PredictionArgs,
    #[command(flatten)]
    pub task: TaskFlags,
    #[command(flatten)]
    pub screen: ScreenArgs,
}

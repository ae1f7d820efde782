//! `ivon-lora decide`.

use std::path::PathBuf;

use clap::Args;

use super::{PredictionArgs, ScreenArgs, SubjectArgs, TaskFlags};

/// Find a rule that says when to answer and when to leave a case to someone else
///
/// The rule rests on the calibrate rows of a run, or the file named calibrate in a data folder: one
/// part of them chooses the temperature, mean or draws, and the thresholds that are tried; the
/// other part alone carries the promise, which is printed with the sense in which it is made. The
/// rule is stored as decision.json in the adapter, from where predict applies it, and is tried on
/// the test rows.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  ivon-lora decide runs/sst2 --max-error 0.05 --confidence 0.9\n  ivon-lora decide runs/sst2 --max-error 0.05 --score confidence,mutual-information --per-class\n  ivon-lora decide runs/agnews --sets adaptive --coverage 0.95\n  ivon-lora decide runs/sst2/adapter --model HuggingFaceTB/SmolLM2-135M --data data/sst2 --max-cost 0.2 --costs costs.json"
)]
pub struct DecideArgs {
    #[command(flatten)]
    pub subject: SubjectArgs,
    /// The largest share of wrong answers among answered cases
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub max_error: Option<f64>,
    /// The largest mean cost of answered cases, in the unit of --costs
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub max_cost: Option<f64>,
    /// The largest mean cost of a case, of which a deferred one costs nothing
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub max_cost_per_case: Option<f64>,
    /// The smallest share of a class's cases that are answered rightly or deferred; may be repeated
    #[arg(long, value_name = "CLASS=X")]
    pub min_recall: Vec<String>,
    /// The probability over calibration sets with which the rule keeps its promise; by default 0.9,
    /// and for --sets a promise in expectation
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub confidence: Option<f64>,
    /// Keep --max-cost-per-case in expectation over calibration sets, which answers more
    #[arg(long, requires = "max_cost_per_case", conflicts_with_all = ["confidence", "max_error", "max_cost", "min_recall", "per_class"])]
    pub in_expectation: bool,
    /// What the threshold is put on: confidence, entropy, mutual-information or expected-cost; of
    /// several, separated by commas, the one that answers most
    #[arg(
        long,
        value_name = "SCORES",
        value_delimiter = ',',
        default_value = "confidence"
    )]
    pub score: Vec<String>,
    /// A threshold for each answered class, or a coverage of each class, of its own
    #[arg(long)]
    pub per_class: bool,
    /// A JSON file with the cost of each wrong answer: {"right answer": {"given answer": cost}}; 1
    /// for each by default
    #[arg(long, value_name = "FILE")]
    pub costs: Option<PathBuf>,
    /// Give sets of answers instead: lac, adaptive, adaptive-randomised or class-conditional (lac
    /// with --per-class)
    #[arg(long, value_name = "HOW", conflicts_with_all = ["max_error", "max_cost", "max_cost_per_case", "min_recall", "costs"])]
    pub sets: Option<String>,
    /// The share of cases whose set holds the right answer
    #[arg(
        long,
        value_name = "X",
        default_value_t = 0.9,
        allow_negative_numbers = true
    )]
    pub coverage: f64,
    /// The share of calibrate that chooses how to predict
    #[arg(
        long,
        value_name = "X",
        default_value_t = 0.25,
        allow_negative_numbers = true
    )]
    pub choosing_share: f64,
    /// Seed of the division of calibrate
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub division_seed: u64,
    /// Only show the rule, and store nothing
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub prediction: PredictionArgs,
    #[command(flatten)]
    pub task: TaskFlags,
    #[command(flatten)]
    pub screen: ScreenArgs,
}

//! `ivon-lora report`.

use std::path::PathBuf;

use clap::Args;

/// Show a run, several runs side by side, or a comparison as one page with plots
///
/// The page is a single HTML file that needs no network and no scripts, and works in light and dark
/// mode, on a phone and in print. For one run it shows scores with intervals, reliability diagrams,
/// confidence histograms, selective accuracy, learning curves, findings, notable examples, the
/// width of the posterior and every setting; for several runs, their scores in one table, scores on
/// tune against hours, and step times.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  ivon-lora report runs/sst2 --svg plots\n  ivon-lora report runs/sst2-ivon-0 runs/sst2-adamw-0 --out both.html"
)]
pub struct ReportArgs {
    /// The folder of a run, may be repeated; or the folder of a comparison
    #[arg(value_name = "RUN", required = true)]
    pub runs: Vec<PathBuf>,
    /// The page; by default report.html in the run's folder, or in the current folder for several
    /// runs
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// A folder for the plots, as SVG files
    #[arg(long, value_name = "FOLDER")]
    pub svg: Option<PathBuf>,
    /// Print the paths of the files written, as JSON
    #[arg(long)]
    pub json: bool,
}

//! `ivon-lora report`.

use std::path::PathBuf;

use clap::Args;

/// Show a run as one page with its plots, several runs side by side, or a comparison
///
/// The page is one HTML file that needs no network and no script, in light and dark, on a phone and
/// in print. Of one run it shows scores with intervals, reliability diagrams, confidence
/// histograms, answers left out, learning curves, findings, examples worth a look, the width of the
/// posterior and every setting; of several runs their scores in one table, scores on tune against
/// hours, and step times.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  ivon-lora report runs/sst2 --svg plots\n  ivon-lora report runs/sst2-ivon-0 runs/sst2-adamw-0 --out both.html"
)]
pub struct ReportArgs {
    /// The folder of a run, may be given more than once; or that of a comparison
    #[arg(value_name = "RUN", required = true)]
    pub runs: Vec<PathBuf>,
    /// The page; report.html in the run's folder by default, report.html here for several runs
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// A folder to write every plot into as an SVG file
    #[arg(long, value_name = "FOLDER")]
    pub svg: Option<PathBuf>,
    /// Write what was written as JSON to standard output
    #[arg(long)]
    pub json: bool,
}

//! What a run left, as plain data → a page with its pictures.

mod examples;
mod score_chart;
mod figures;
mod one;
mod several;

pub use examples::{ExampleRow, Examples};

use super::html::Figure;
use super::{PruneReport, ScaleReport, ShiftReport};
use ivon_lora::bundle::AdapterSummary;
use ivon_lora::metrics::{Finding, Scores};
use ivon_lora::sentence::Names;
use ivon_lora::watch::Record;

/// One run, read and ready to be shown.
#[derive(Clone, Debug, Default)]
pub struct RunPage {
    /// The name of its folder.
    pub name: String,
    /// What it was, in a few words each: model, data, optimizer, …
    pub facts: Vec<(String, String)>,
    /// What its evaluation means to a stranger; empty without one.
    pub sentence: String,
    /// The split that was evaluated; empty without an evaluation.
    pub split: String,
    /// Where the rows of that split come from.
    pub source: Option<String>,
    /// The answer words in the order of the classes; empty where every row has its own.
    pub answers: Vec<String>,
    /// What the temperatures rest on, in a sentence.
    pub calibration: Option<String>,
    /// The untuned base, the mean, the average over draws: those that there are.
    pub distributions: Vec<Distribution>,
    /// Mean and average over draws at the temperatures that were chosen on calibrate, with their
    /// names.
    pub at_temperature: Vec<(String, Scores)>,
    /// The lines of `metrics.jsonl`.
    pub records: Vec<Record>,
    /// What was remarkable.
    pub findings: Vec<Finding>,
    /// Examples worth a look.
    pub examples: Examples,
    /// The adapter's weights.
    pub adapter: Option<AdapterSummary>,
    /// Scores against τ, where `scale` was run.
    pub scale: Option<ScaleReport>,
    /// Scores against the share of pruned weights, where `prune` was run.
    pub prune: Option<PruneReport>,
    /// What it says to other sets, where `shift` was run.
    pub shift: Option<ShiftReport>,
    /// Every setting: tables of names and values.
    pub settings: Vec<(String, Vec<(String, String)>)>,
}

/// Predictions of one kind.
#[derive(Clone, Debug)]
pub struct Distribution {
    /// `base, untuned`, `mean`, `10 samples`.
    pub name: String,
    /// The name of its pictures' files: `base`, `mean`, `samples`.
    pub file: &'static str,
    /// The number of its colour.
    pub tone: usize,
    /// Its scores.
    pub scores: Scores,
    /// Confidence of each answer and whether it is right; empty where predictions are not there.
    pub answers: Vec<(f64, bool)>,
    /// Whether the run answers with it.
    pub is_recommended: bool,
}

impl RunPage {
    /// The page; `names` writes the settings that it names.
    pub fn html(&self, names: &dyn Names) -> String {
        one::html(self, names)
    }

    /// All pictures of the page.
    pub fn figures(&self) -> Vec<Figure> {
        figures::all(self)
            .into_iter()
            .flat_map(|(_, figures)| figures)
            .collect()
    }

    /// The distribution that the run answers with.
    pub fn recommended(&self) -> Option<&Distribution> {
        self.distributions
            .iter()
            .find(|distribution| distribution.is_recommended)
    }
}

/// The page of several runs side by side.
pub fn runs_html(runs: &[RunPage]) -> String {
    several::html(runs)
}

/// The pictures of that page: scores on tune against hours, step times, and how each run is
/// calibrated.
pub fn runs_figures(runs: &[RunPage]) -> Vec<Figure> {
    several::figures(runs)
}

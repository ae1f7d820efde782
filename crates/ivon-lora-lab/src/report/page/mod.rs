//! A run as plain data → its page with pictures.

mod examples;
mod score_chart;
mod figures;
mod one;
mod several;

pub use examples::{ExampleRow, Examples};

use super::html::Figure;
use super::{PruneReport, ScaleReport, ShiftReport};
use ivon_lora::answer::TextReport;
use ivon_lora::bundle::AdapterSummary;
use ivon_lora::metrics::{Finding, Scores};
use ivon_lora::sentence::Names;
use ivon_lora::watch::Record;

/// The data of a run's page.
#[derive(Clone, Debug, Default)]
pub struct RunPage {
    /// The name of its folder.
    pub name: String,
    /// What it was, in short: model, data, optimizer, …
    pub facts: Vec<(String, String)>,
    /// Its evaluation in a sentence; empty without one.
    pub sentence: String,
    /// The split that was evaluated; empty without an evaluation.
    pub split: String,
    /// The source of that split's rows.
    pub source: Option<String>,
    /// The answer words in the order of the classes; empty if every row has its own.
    pub answers: Vec<String>,
    /// The evidence for the temperatures in a sentence.
    pub calibration: Option<String>,
    /// The untuned base, the mean, and the average over draws, if they exist.
    pub distributions: Vec<Distribution>,
    /// The scores of a run on texts, which has no distributions over choices.
    pub texts: Option<TextReport>,
    /// The scores of mean and average over draws at the temperatures that were chosen on calibrate, by
    /// name.
    pub at_temperature: Vec<(String, Scores)>,
    /// The lines of `metrics.jsonl`.
    pub records: Vec<Record>,
    /// What is notable.
    pub findings: Vec<Finding>,
    /// Examples worth a look.
    pub examples: Examples,
    /// The adapter's weights.
    pub adapter: Option<AdapterSummary>,
    /// Scores against τ, if `scale` was run.
    pub scale: Option<ScaleReport>,
    /// Scores against the share of pruned weights, if `prune` was run.
    pub prune: Option<PruneReport>,
    /// Its answers on other sets, if `shift` was run.
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
    /// The confidence of each answer, and whether it is right; empty if predictions are missing.
    pub answers: Vec<(f64, bool)>,
    /// Whether the run answers with it.
    pub is_recommended: bool,
}

impl RunPage {
    /// The page; `names` says how settings are written in it.
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

/// The pictures of that page: scores on tune against hours, step times, and the calibration of each run.
pub fn runs_figures(runs: &[RunPage]) -> Vec<Figure> {
    several::figures(runs)
}

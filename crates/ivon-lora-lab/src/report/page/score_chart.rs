//! The scores that have a chart of their own, with their names and axes.

use crate::report::plot::Axis;
use ivon_lora::metrics::MainScores;

/// A score as a chart shows it.
pub(super) struct ScoreChart {
    /// The end of the file's name.
    pub key: &'static str,
    /// Its name in the title, before "on test".
    pub name: &'static str,
    /// The label of the axis.
    unit: &'static str,
    /// Whether it is a share, written in percent.
    is_share: bool,
    /// The score.
    pub value: fn(&MainScores) -> f64,
}

/// Nats.
pub(super) const NLL: ScoreChart = ScoreChart {
    key: "nll",
    name: "NLL",
    unit: "NLL, nats",
    is_share: false,
    value: |scores| scores.nll,
};
/// The share of right answers.
pub(super) const ACCURACY: ScoreChart = ScoreChart {
    key: "accuracy",
    name: "Accuracy",
    unit: "accuracy",
    is_share: true,
    value: |scores| scores.accuracy,
};
/// The expected calibration error.
pub(super) const ECE: ScoreChart = ScoreChart {
    key: "ece",
    name: "ECE",
    unit: "ECE (10 bins)",
    is_share: true,
    value: |scores| scores.ece,
};

impl ScoreChart {
    /// The axis around these values.
    pub fn axis(&self, values: impl Iterator<Item = f64>) -> Axis {
        match self.is_share {
            true => Axis::percent_around(self.unit, values),
            false => Axis::around(self.unit, values),
        }
    }
}

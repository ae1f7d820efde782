//! The four scores that every table, record and page shows.

use crate::watch::MainScores;

use super::calibration::BINS;
use super::calibration::{expected_error, reliability_bins};
use super::predictions::Predictions;
use super::scores::Scores;

impl From<&Scores> for MainScores {
    fn from(scores: &Scores) -> Self {
        Self {
            accuracy: scores.accuracy,
            nll: scores.nll,
            ece: scores.ece,
            brier: scores.brier,
        }
    }
}

impl Predictions {
    /// The four scores of the paper.
    pub fn main_scores(&self) -> MainScores {
        MainScores {
            accuracy: self.accuracy(),
            nll: self.nll(),
            ece: expected_error(&reliability_bins(self, BINS)),
            brier: self.brier(),
        }
    }
}

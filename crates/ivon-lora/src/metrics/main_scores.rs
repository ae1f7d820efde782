//! The four scores that every table, record and page shows.

use serde::{Deserialize, Deserializer, Serialize};

use super::calibration::{expected_error, reliability_bins};
use super::predictions::Predictions;
use super::scores::{BINS, Scores};

/// The four scores of the paper.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct MainScores {
    pub accuracy: f64,
    /// Nats.
    #[serde(deserialize_with = "nan_for_null")]
    pub nll: f64,
    /// 10 bins.
    pub ece: f64,
    pub brier: f64,
}

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

impl MainScores {
    /// The scores of predictions.
    pub fn of(predictions: &Predictions) -> Self {
        Self {
            accuracy: predictions.accuracy(),
            nll: predictions.nll(),
            ece: expected_error(&reliability_bins(predictions, BINS)),
            brier: predictions.brier(),
        }
    }
}

/// JSON has no NaN and no infinity; serde writes them as null.
pub(crate) fn nan_for_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

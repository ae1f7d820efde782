//! The scores of one row of the table under one seed.

use serde::{Deserialize, Serialize};

use ivon_lora::metrics::{COMPARED_COVERAGE, ComparedScore, MainScores, Predictions, Scores};
use ivon_lora::watch::nan_for_null;

/// The scores of predictions on a task's test rows; of texts, those of their next tokens.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RowScores {
    /// Share of right answers.
    pub accuracy: f64,
    /// Nats.
    #[serde(deserialize_with = "nan_for_null")]
    pub nll: f64,
    /// Summed over choices.
    pub brier: f64,
    /// 10 bins.
    pub ece: f64,
    /// Area under error against coverage; NaN of texts.
    #[serde(deserialize_with = "nan_for_null")]
    pub aurc: f64,
    /// Share of wrong answers among the most confident 80 %; NaN of texts.
    #[serde(deserialize_with = "nan_for_null")]
    pub error_at_80: f64,
}

/// One score over seeds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoreEntry {
    /// Mean over seeds.
    pub mean: f64,
    /// sd/√n; none of one seed.
    pub standard_error: Option<f64>,
    /// Whether its paired 95 % interval against the best method contains 0.
    pub is_bold: bool,
}

impl RowScores {
    /// In the order of [`ComparedScore::ALL`], of accuracy what is missing to 1: lower is better.
    pub fn loss(&self, score: ComparedScore) -> f64 {
        match score {
            ComparedScore::Error => 1.0 - self.accuracy,
            ComparedScore::Nll => self.nll,
            ComparedScore::Brier => self.brier,
            ComparedScore::Ece => self.ece,
            ComparedScore::Aurc => self.aurc,
            ComparedScore::ErrorAt80 => self.error_at_80,
        }
    }
}

impl From<MainScores> for RowScores {
    /// Those of texts, which have no answer to be confident of.
    fn from(scores: MainScores) -> Self {
        let MainScores {
            accuracy,
            nll,
            ece,
            brier,
        } = scores;
        Self {
            accuracy,
            nll,
            brier,
            ece,
            aurc: f64::NAN,
            error_at_80: f64::NAN,
        }
    }
}

impl From<&Predictions> for RowScores {
    fn from(predictions: &Predictions) -> Self {
        Self {
            aurc: predictions.area_under_selective_error(),
            error_at_80: predictions.selective_error(COMPARED_COVERAGE),
            ..Self::from(predictions.main_scores())
        }
    }
}

impl From<&Scores> for RowScores {
    fn from(scores: &Scores) -> Self {
        let distance = |coverage: f64| (coverage - COMPARED_COVERAGE).abs();
        let points = scores.selective.iter();
        let nearest = points.min_by(|a, b| distance(a.coverage).total_cmp(&distance(b.coverage)));
        Self {
            accuracy: scores.accuracy,
            nll: scores.nll,
            brier: scores.brier,
            ece: scores.ece,
            aurc: 1.0 - scores.selective_area,
            error_at_80: nearest.map_or(f64::NAN, |point| 1.0 - point.accuracy),
        }
    }
}

/// `0.853 ± 0.004`.
pub(super) fn written(entry: &ScoreEntry) -> String {
    match entry.standard_error {
        Some(error) => format!("{:.3} ± {error:.3}", entry.mean),
        None => format!("{:.3}", entry.mean),
    }
}

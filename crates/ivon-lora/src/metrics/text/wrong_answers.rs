//! An uncertainty of each answer and the answer's quality → how well the one finds the answers that
//! are wrong.

use serde::{Deserialize, Serialize};

use super::super::bootstrap::{Bootstrap, percentiles, resamples};
use super::super::calibration::BINS;
use super::super::calibration::{bins_of, expected_error};
use super::super::selective::{accuracy_by_coverage, answered, area_under_selective_accuracy};
use super::super::token_scores::ScoreWithInterval;
use super::super::{auroc, auroc_interval};
use super::prediction_rejection_ratio;

/// The coverage at which the error of the answers that stay is reported.
const COVERAGE: f64 = 0.8;

/// The quality of some answers and which of them are right.
#[derive(Clone, Debug, PartialEq)]
pub struct JudgedAnswers {
    /// Their quality, from 0 to 1.
    pub qualities: Vec<f64>,
    /// Whether it is enough.
    pub right: Vec<bool>,
}

/// How well an uncertainty finds wrong answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UncertaintyScores {
    /// What it is.
    pub name: String,
    /// The probability that it is larger for a wrong answer than for a right one, with the interval of
    /// Hanley and McNeil; none if all are right or all wrong.
    pub auroc: Option<ScoreWithInterval>,
    /// The prediction rejection ratio over all rejections; none if all answers are equally good.
    pub prr: Option<ScoreWithInterval>,
    /// The same over rejecting at most half of the answers.
    pub prr_half: Option<ScoreWithInterval>,
    /// Area under the risk-coverage curve: the share of wrong answers among the most certain ones,
    /// averaged over their number.
    pub aurc: f64,
    /// The share of wrong answers among the most certain 80 %.
    pub error_at_80: f64,
    /// Expected calibration error, where it is 1 − the probability that the answer is right.
    pub ece: Option<f64>,
}

impl JudgedAnswers {
    /// Answers of these qualities, right from `right_from` on.
    pub fn new(qualities: Vec<f64>, right_from: f64) -> Self {
        let right = qualities.iter().map(|quality| *quality >= right_from);
        Self {
            right: right.collect(),
            qualities,
        }
    }

    /// How well `uncertainties` `[N]`, larger for less certain answers, find the wrong ones;
    /// `is_probability`: each is 1 − the probability that its answer is right.
    pub fn found_by(
        &self,
        name: &str,
        uncertainties: &[f64],
        is_probability: bool,
        bootstrap: &Bootstrap,
    ) -> UncertaintyScores {
        let certainties: Vec<f64> = uncertainties.iter().map(|u| -u).collect();
        let accuracies = accuracy_by_coverage(&self.right, &certainties);
        let kept = answered(COVERAGE, self.right.len());
        UncertaintyScores {
            name: name.into(),
            auroc: self.auroc(uncertainties),
            prr: self.rejection_ratio(uncertainties, 1.0, bootstrap),
            prr_half: self.rejection_ratio(uncertainties, 0.5, bootstrap),
            aurc: 1.0 - area_under_selective_accuracy(&self.right, &certainties),
            error_at_80: 1.0 - accuracies.get(kept.saturating_sub(1)).unwrap_or(&f64::NAN),
            ece: is_probability.then(|| self.calibration_error(uncertainties)),
        }
    }

    fn auroc(&self, uncertainties: &[f64]) -> Option<ScoreWithInterval> {
        let wrong: Vec<bool> = self.right.iter().map(|right| !right).collect();
        let value = auroc(uncertainties, &wrong)?;
        let wrong_count = wrong.iter().filter(|wrong| **wrong).count();
        Some(ScoreWithInterval {
            value,
            interval: auroc_interval(value, wrong_count, wrong.len() - wrong_count),
        })
    }

    fn rejection_ratio(
        &self,
        uncertainties: &[f64],
        most: f64,
        bootstrap: &Bootstrap,
    ) -> Option<ScoreWithInterval> {
        let value = prediction_rejection_ratio(uncertainties, &self.qualities, most)?;
        let mut found = Vec::new();
        resamples(uncertainties.len(), bootstrap, |rows| {
            let of = |values: &[f64]| rows.iter().map(|&row| values[row]).collect::<Vec<f64>>();
            let (uncertainties, qualities) = (of(uncertainties), of(&self.qualities));
            found.extend(prediction_rejection_ratio(&uncertainties, &qualities, most));
        });
        Some(ScoreWithInterval {
            value,
            interval: percentiles(found, bootstrap.level),
        })
    }

    fn calibration_error(&self, uncertainties: &[f64]) -> f64 {
        let rows = uncertainties.iter().zip(&self.right);
        let rows = rows.map(|(uncertainty, right)| (1.0 - uncertainty, *right, 1.0));
        expected_error(&bins_of(rows, BINS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_uncertainty_that_orders_answers_by_quality_finds_all_wrong_ones() {
        let judged = JudgedAnswers::new(vec![1.0, 0.2, 0.9, 0.0, 1.0], 0.8);
        assert_eq!(judged.right, [true, false, true, false, true]);
        let uncertainties = [0.0, 0.8, 0.1, 1.0, 0.0];
        let found = judged.found_by("u", &uncertainties, true, &Bootstrap::default());
        assert_eq!(found.auroc.unwrap().value, 1.0);
        assert!((found.prr.unwrap().value - 1.0).abs() < 1e-12);
        // Of the best four one is wrong.
        assert!((found.error_at_80 - 0.25).abs() < 1e-12);
        // Wrong shares of the best 1 to 5: 0, 0, 0, 1/4, 2/5.
        assert!((found.aurc - (0.25 + 0.4) / 5.0).abs() < 1e-12);
        // Bins with gaps 0, 0.1, 0.2, 0 of 2, 1, 1, 1 answers.
        assert!((found.ece.unwrap() - (0.1 + 0.2) / 5.0).abs() < 1e-12);
    }

    #[test]
    fn where_all_answers_are_right_nothing_can_be_found() {
        let judged = JudgedAnswers::new(vec![1.0; 3], 1.0);
        let found = judged.found_by("u", &[0.1, 0.2, 0.3], false, &Bootstrap::default());
        assert_eq!((found.auroc, found.prr, found.ece), (None, None, None));
        assert_eq!(found.aurc, 0.0);
    }
}

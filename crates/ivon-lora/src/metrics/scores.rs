//! All scores of one set of predictions, as `evaluation.json` holds them.

use serde::{Deserialize, Serialize};

use super::bootstrap::intervals;
use super::calibration::{
    BINS, Bin, ece_floor, equal_mass_bins, expected_error, maximum_error, reliability_bins,
};
use super::classes::{Classes, class_scores};
use super::detection::auroc;
use super::predictions::{mean, mean_of_draws};
use super::selective::{area_under_selective_accuracy, selective_curve};
use super::{
    Bootstrap, Intervals, LogProbabilities, MetricsError, Predictions, SelectivePoint, Uncertainty,
    uncertainties,
};

/// The number of bins in BLoB, TFB and torchmetrics.
const MORE_BINS: usize = 15;
/// Sets of labels drawn for [`Scores::ece_floor`].
const FLOOR_DRAWS: usize = 1000;

/// Scores of one set of predictions. Lower is better for NLL (nats), Brier, ECE and MCE, higher for the
/// others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// Number of draws in the average; none for the mean.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub samples: Option<usize>,
    /// Number of examples.
    pub n: usize,
    /// Number of bins of `ece`, `mce`, `ece_floor`, `ece_equal_mass` and `bins`.
    pub num_bins: usize,
    /// Share of right answers; if choices tie, the first is the answer.
    pub accuracy: f64,
    /// Mean negative log-likelihood.
    pub nll: f64,
    /// Brier score, summed over choices.
    pub brier: f64,
    /// Expected calibration error of the top choice, bins of equal width `(low, high]`.
    pub ece: f64,
    /// The same with 15 bins.
    pub ece_15: f64,
    /// The same with bins of equal numbers of examples.
    pub ece_equal_mass: f64,
    /// The median ECE of a perfectly calibrated model with these confidences.
    pub ece_floor: f64,
    /// The largest gap of a bin.
    pub mce: f64,
    /// Mean confidence of the answers.
    pub confidence: f64,
    /// Area under accuracy against coverage.
    pub selective_area: f64,
    /// AUROC of telling right answers from wrong ones by confidence; none if all are right or all
    /// wrong.
    pub auroc_correct: Option<f64>,
    /// 95 % bootstrap intervals.
    pub intervals: Intervals,
    /// Accuracy if only the most confident 90 %, 80 %, … are answered.
    pub selective: Vec<SelectivePoint>,
    /// The reliability diagram.
    pub bins: Vec<Bin>,
    /// Uncertainty from the draws, averaged over examples; none for the mean.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uncertainty: Option<Uncertainty>,
    /// The scores of each class; only if all rows have the same answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classes: Option<Classes>,
}

impl Scores {
    /// All scores of these predictions. `same_answers` says whether a choice means the same in every
    /// row.
    pub fn of(predictions: &Predictions, same_answers: bool, bootstrap: &Bootstrap) -> Self {
        let bins = reliability_bins(predictions, BINS);
        let (correct, confidences) = (predictions.correct(), predictions.confidences());
        Self {
            samples: None,
            n: predictions.len(),
            num_bins: BINS,
            accuracy: predictions.accuracy(),
            nll: predictions.nll(),
            brier: predictions.brier(),
            ece: expected_error(&bins),
            ece_15: expected_error(&reliability_bins(predictions, MORE_BINS)),
            ece_equal_mass: expected_error(&equal_mass_bins(predictions, BINS)),
            ece_floor: ece_floor(predictions, BINS, FLOOR_DRAWS, bootstrap.seed),
            mce: maximum_error(&bins),
            confidence: mean(&confidences),
            selective_area: area_under_selective_accuracy(&correct, &confidences),
            auroc_correct: auroc(&confidences, &correct),
            intervals: intervals(predictions, BINS, bootstrap),
            selective: selective_curve(predictions, &[0.9, 0.8, 0.7, 0.6, 0.5]),
            bins,
            uncertainty: None,
            classes: if same_answers {
                class_scores(predictions)
            } else {
                None
            },
        }
    }

    /// The scores of the average over the first 1, 2, …, S draws, from draws `[S][N][C]`.
    ///
    /// # Errors
    /// If there are no draws, their shapes differ, or a row is not a distribution with a label.
    pub fn of_prefixes(
        draws: &[LogProbabilities],
        labels: &[usize],
        same_answers: bool,
        bootstrap: &Bootstrap,
    ) -> Result<Vec<Self>, MetricsError> {
        (1..=draws.len().max(1))
            .map(|samples| {
                let prefix = draws.get(..samples).unwrap_or_default();
                let predictions = Predictions::new(mean_of_draws(prefix)?, labels.to_vec())?;
                let uncertainty = mean_uncertainty(&uncertainties(prefix)?);
                Ok(Self {
                    samples: Some(samples),
                    uncertainty,
                    ..Self::of(&predictions, same_answers, bootstrap)
                })
            })
            .collect()
    }
}

fn mean_uncertainty(rows: &[Uncertainty]) -> Option<Uncertainty> {
    let mean_of =
        |field: fn(&Uncertainty) -> f64| rows.iter().map(field).sum::<f64>() / rows.len() as f64;
    (!rows.is_empty()).then(|| Uncertainty {
        entropy: mean_of(|row| row.entropy),
        aleatoric: mean_of(|row| row.aleatoric),
        mutual_information: mean_of(|row| row.mutual_information),
        disagreement: mean_of(|row| row.disagreement),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::predictions::log_softmax;
    use super::*;

    fn golden() -> Value {
        crate::testing::golden_json("metrics.json")
    }

    fn close(found: f64, expected: &Value, what: &str) {
        let expected = expected.as_f64().unwrap();
        assert!(
            (found - expected).abs() <= 1e-12 * expected.abs().max(1.0),
            "{what}: {found}, expected {expected}"
        );
    }

    #[test]
    fn all_golden_cases_agree() {
        for case in golden()["cases"].as_array().unwrap() {
            let probabilities: Vec<Vec<f64>> =
                serde_json::from_value(case["probs"].clone()).unwrap();
            let labels: Vec<usize> = serde_json::from_value(case["labels"].clone()).unwrap();
            let predictions = Predictions::from_probabilities(probabilities, labels).unwrap();
            for result in case["results"].as_array().unwrap() {
                let num_bins = result["num_bins"].as_u64().unwrap() as usize;
                let bins = reliability_bins(&predictions, num_bins);
                close(predictions.accuracy(), &result["accuracy"], "accuracy");
                close(predictions.nll(), &result["nll"], "nll");
                close(predictions.brier(), &result["brier"], "brier");
                close(expected_error(&bins), &result["ece"], "ece");
                close(maximum_error(&bins), &result["mce"], "mce");
                let expected = result["bins"].as_array().unwrap();
                assert_eq!(bins.len(), expected.len());
                for (bin, expected) in bins.iter().zip(expected) {
                    assert_eq!(bin.count as u64, expected["count"].as_u64().unwrap());
                    close(bin.low, &expected["low"], "low");
                    close(bin.high, &expected["high"], "high");
                    close(bin.accuracy, &expected["accuracy"], "bin accuracy");
                    close(bin.confidence, &expected["confidence"], "bin confidence");
                }
            }
        }
    }

    #[test]
    fn prefixes_are_nested_and_the_first_is_the_first_draw() {
        let draw = |shift: f64| -> LogProbabilities {
            (0..30)
                .map(|row| log_softmax(&[f64::from(row % 7) - shift, 2.0], 1.0))
                .collect()
        };
        let draws = [draw(0.0), draw(1.0), draw(4.0)];
        let labels: Vec<usize> = (0..30).map(|row| row % 2).collect();
        let bootstrap = Bootstrap {
            resamples: 20,
            ..Bootstrap::default()
        };
        let all = Scores::of_prefixes(&draws, &labels, true, &bootstrap).unwrap();
        assert_eq!(
            all.iter()
                .map(|scores| scores.samples.unwrap())
                .collect::<Vec<_>>(),
            [1, 2, 3]
        );
        let first = Scores::of(
            &Predictions::new(draws[0].clone(), labels.clone()).unwrap(),
            true,
            &bootstrap,
        );
        assert!((all[0].nll - first.nll).abs() < 1e-12 && all[0].accuracy == first.accuracy);
        assert_eq!(all[0].uncertainty.unwrap().disagreement, 0.0);
        assert!(all[2].uncertainty.unwrap().mutual_information > 0.0);
        assert_eq!(
            Scores::of_prefixes(&draws[..2], &labels, true, &bootstrap).unwrap()[..],
            all[..2]
        );
        assert!(Scores::of_prefixes(&[], &labels, true, &bootstrap).is_err());

        let json = serde_json::to_value(&all[0]).unwrap();
        for key in [
            "samples",
            "n",
            "accuracy",
            "nll",
            "brier",
            "ece",
            "ece_15",
            "ece_floor",
            "mce",
            "intervals",
            "bins",
            "classes",
        ] {
            assert!(!json[key].is_null(), "{key}");
        }
    }
}

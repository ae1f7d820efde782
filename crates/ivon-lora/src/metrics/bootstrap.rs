//! Predictions → percentile intervals of their scores, by resampling examples with replacement.

use serde::{Deserialize, Serialize};

use super::Predictions;
use super::calibration::bin_of;
use crate::random::{Purpose, below, stream};

/// How intervals are computed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bootstrap {
    /// Number of resamples.
    pub resamples: usize,
    /// Share of the resampled scores within the interval.
    pub level: f64,
    /// Seed of the resamples; the same seed draws the same rows for every method.
    pub seed: u64,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Self {
            resamples: 1000,
            level: 0.95,
            seed: 0,
        }
    }
}

/// `[low, high]` of each score.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Intervals {
    pub accuracy: [f64; 2],
    pub nll: [f64; 2],
    pub brier: [f64; 2],
    pub ece: [f64; 2],
}

/// Calls `visit` with each resample: N indices below N, drawn with replacement, which depend only on
/// seed and N.
pub fn resamples(count: usize, bootstrap: &Bootstrap, mut visit: impl FnMut(&[usize])) {
    let mut rows = vec![0; count];
    for draw in 0..bootstrap.resamples {
        let mut numbers = stream(bootstrap.seed, Purpose::Bootstrap, 0, draw as u64, "rows");
        rows.fill_with(|| below(&mut numbers, count.max(1) as u64) as usize);
        visit(&rows);
    }
}

/// Percentile intervals of the scores that each resample of `count` rows has.
pub(super) fn intervals_of<const SCORES: usize>(
    count: usize,
    bootstrap: &Bootstrap,
    scores: impl Fn(&[usize]) -> [f64; SCORES],
) -> [[f64; 2]; SCORES] {
    let mut found = [(); SCORES].map(|()| Vec::with_capacity(bootstrap.resamples));
    resamples(count, bootstrap, |rows| {
        let lists = found.iter_mut().zip(scores(rows));
        lists.for_each(|(list, score)| list.push(score));
    });
    found.map(|values| percentiles(values, bootstrap.level))
}

/// Percentile intervals of accuracy, NLL, Brier score and ECE (equal width, `bins` bins).
pub fn intervals(predictions: &Predictions, bins: usize, bootstrap: &Bootstrap) -> Intervals {
    let (confidences, correct) = (predictions.confidences(), predictions.correct());
    let (losses, brier) = (predictions.losses(), predictions.brier_losses());
    let bin_of = |&confidence: &f64| bin_of(confidence, bins);
    let bin_of_row: Vec<usize> = confidences.iter().map(bin_of).collect();
    let total = predictions.len() as f64;
    let scores = |rows: &[usize]| {
        let mut sums = [0.0; 3];
        let mut gaps = vec![0.0; bins.max(1)];
        for &row in rows {
            let right = f64::from(u8::from(correct[row]));
            sums = [sums[0] + right, sums[1] + losses[row], sums[2] + brier[row]];
            gaps[bin_of_row[row]] += right - confidences[row];
        }
        let ece = gaps.into_iter().map(f64::abs).sum::<f64>() / total;
        [sums[0] / total, sums[1] / total, sums[2] / total, ece]
    };
    let [accuracy, nll, brier, ece] = intervals_of(predictions.len(), bootstrap, scores);
    Intervals {
        accuracy,
        nll,
        brier,
        ece,
    }
}

/// The interval of mean(a − b) over resampled rows, paired so that the difficulty of rows cancels.
///
/// `a` and `b` are the losses `[N]` of two methods on the same rows; rows beyond the shorter list are
/// not used.
pub fn paired_difference(a: &[f64], b: &[f64], bootstrap: &Bootstrap) -> [f64; 2] {
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    let mut found = Vec::with_capacity(bootstrap.resamples);
    resamples(differences.len(), bootstrap, |rows| {
        found.push(rows.iter().map(|&row| differences[row]).sum::<f64>() / rows.len() as f64);
    });
    percentiles(found, bootstrap.level)
}

/// The quantiles that leave (1 − level)/2 on either side.
pub(super) fn percentiles(mut values: Vec<f64>, level: f64) -> [f64; 2] {
    values.sort_by(f64::total_cmp);
    let tail = (1.0 - level) / 2.0;
    [quantile(&values, tail), quantile(&values, 1.0 - tail)]
}

/// The quantile of sorted values, interpolated linearly like numpy's default; NaN for no values.
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else {
        return f64::NAN;
    };
    let place = share.clamp(0.0, 1.0) * last as f64;
    let (low, high) = (
        sorted[place as usize],
        sorted[(place.ceil() as usize).min(last)],
    );
    if low == high {
        low
    } else {
        low + (high - low) * place.fract()
    }
}

#[cfg(test)]
mod tests {
    use super::super::calibration::ece;
    use super::*;

    fn coin(right: usize, count: usize) -> Predictions {
        let labels = (0..count).map(|row| usize::from(row >= right)).collect();
        Predictions::from_probabilities(vec![vec![0.75, 0.25]; count], labels).unwrap()
    }

    #[test]
    fn the_interval_of_an_accuracy_is_near_the_binomial_one() {
        // p = 0.8, n = 400: standard deviation 0.02, so 0.8 ± 0.0392.
        let found = intervals(&coin(320, 400), 10, &Bootstrap::default());
        assert!(
            (found.accuracy[0] - 0.7608).abs() < 0.006
                && (found.accuracy[1] - 0.8392).abs() < 0.006,
            "{found:?}"
        );
        assert_eq!(found, intervals(&coin(320, 400), 10, &Bootstrap::default()));
        assert_ne!(
            found,
            intervals(
                &coin(320, 400),
                10,
                &Bootstrap {
                    seed: 1,
                    ..Bootstrap::default()
                }
            )
        );
    }

    #[test]
    fn scores_of_a_resample_are_those_of_the_resampled_predictions() {
        let predictions = coin(3, 5);
        let one = Bootstrap {
            resamples: 1,
            ..Bootstrap::default()
        };
        let mut again = None;
        resamples(5, &one, |rows| {
            let labels = rows.iter().map(|&row| predictions.labels()[row]).collect();
            again =
                Some(Predictions::from_probabilities(vec![vec![0.75, 0.25]; 5], labels).unwrap());
        });
        let (again, found) = (again.unwrap(), intervals(&predictions, 10, &one));
        let expected = [
            again.accuracy(),
            again.nll(),
            again.brier(),
            ece(&again, 10),
        ];
        for (interval, expected) in [found.accuracy, found.nll, found.brier, found.ece]
            .into_iter()
            .zip(expected)
        {
            assert!((interval[0] - expected).abs() < 1e-12 && interval[0] == interval[1]);
        }
    }

    #[test]
    fn a_paired_difference_forgets_what_both_share() {
        let a: Vec<f64> = (0..50).map(|row| f64::from(row) + 0.5).collect();
        let b: Vec<f64> = (0..50).map(f64::from).collect();
        assert_eq!(paired_difference(&a, &b, &Bootstrap::default()), [0.5, 0.5]);
    }

    #[test]
    fn quantiles_are_linear_between_neighbours() {
        assert_eq!(
            [0.0, 0.25, 0.5, 1.0].map(|share| quantile(&[1.0, 2.0, 4.0], share)),
            [1.0, 1.5, 2.0, 4.0]
        );
        assert!(quantile(&[], 0.5).is_nan());
    }
}

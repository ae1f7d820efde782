//! Predictions → the gap between confidence and accuracy: reliability bins, ECE, MCE.
//!
//! Confidence is that of the top choice; bins of equal width are open below and closed above, `(low,
//! high]`. An ECE means nothing without its number of bins. It is biased upward on small sets;
//! [`ece_floor`] says by how much.

use serde::{Deserialize, Serialize};

use super::Predictions;
use crate::random::{Purpose, stream, uniform};

/// The paper's number of bins.
pub const BINS: usize = 10;

/// One bar of a reliability diagram.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// Its confidences are above this …
    pub low: f64,
    /// … and at most this.
    pub high: f64,
    /// Number of examples.
    pub count: usize,
    /// Share of right answers.
    pub accuracy: f64,
    /// Mean confidence.
    pub confidence: f64,
}

impl Bin {
    fn gap(&self) -> f64 {
        (self.accuracy - self.confidence).abs()
    }
}

/// The bins of equal width, from low to high confidence, without empty ones.
pub fn reliability_bins(predictions: &Predictions, bins: usize) -> Vec<Bin> {
    let confidences = predictions.confidences().into_iter();
    let rows = confidences.zip(predictions.correct());
    bins_of(
        rows.map(|(confidence, right)| (confidence, right, 1.0)),
        bins,
    )
}

/// The bins of equal width of confidences, whether their answers are right, and weights; without
/// empty ones.
pub(super) fn bins_of(rows: impl Iterator<Item = (f64, bool, f64)>, bins: usize) -> Vec<Bin> {
    let width = 1.0 / bins.max(1) as f64;
    let mut sums = vec![(0usize, 0.0, 0.0, 0.0); bins.max(1)];
    for (confidence, right, weight) in rows {
        let sum = &mut sums[bin_of(confidence, bins)];
        let right = weight * f64::from(u8::from(right));
        *sum = (
            sum.0 + 1,
            sum.1 + weight,
            sum.2 + right,
            sum.3 + weight * confidence,
        );
    }
    let bin = |(index, (count, weight, right, confidence)): (usize, (usize, f64, f64, f64))| Bin {
        low: index as f64 * width,
        high: edge(index + 1, bins),
        count,
        accuracy: right / weight,
        confidence: confidence / weight,
    };
    let bins = sums.into_iter().enumerate().filter(|(_, sum)| sum.0 > 0);
    bins.map(bin).collect()
}

/// The upper end of bin `index − 1` as in `numpy.linspace(0, 1, bins + 1)`, so that values on an edge
/// fall into the same bin.
fn edge(index: usize, bins: usize) -> f64 {
    if index >= bins {
        1.0
    } else {
        index as f64 * (1.0 / bins as f64)
    }
}

/// The bin `(low, high]` that holds a confidence.
pub(super) fn bin_of(confidence: f64, bins: usize) -> usize {
    let bins = bins.max(1);
    let near = ((confidence * bins as f64).ceil() as usize).clamp(1, bins) - 1;
    // The product may be off by a unit in the last place: the edges decide.
    if near > 0 && confidence <= edge(near, bins) {
        near - 1
    } else if near + 1 < bins && confidence > edge(near + 1, bins) {
        near + 1
    } else {
        near
    }
}

/// Bins with about equal numbers of examples. Examples of the same confidence are never separated, so
/// that the order of rows does not matter.
pub fn equal_mass_bins(predictions: &Predictions, bins: usize) -> Vec<Bin> {
    let mut rows: Vec<(f64, bool)> = predictions
        .confidences()
        .into_iter()
        .zip(predictions.correct())
        .collect();
    rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (total, bins) = (rows.len(), bins.max(1));
    let mut found = Vec::new();
    let (mut start, mut low) = (0, 0.0);
    for bin in 1..=bins {
        let mut end = (bin * total).div_ceil(bins).max(start);
        while end > start && end < total && rows[end].0 == rows[end - 1].0 {
            end += 1;
        }
        if let Some(members @ [.., last]) = rows.get(start..end) {
            found.push(bin_between(low, last.0, members));
            (start, low) = (end, last.0);
        }
    }
    found
}

/// The bin of these confidences and whether their answers are right; at least one.
fn bin_between(low: f64, high: f64, members: &[(f64, bool)]) -> Bin {
    let count = members.len();
    let right = members.iter().filter(|row| row.1).count();
    let confidence = members.iter().map(|row| row.0).sum::<f64>() / count as f64;
    Bin {
        low,
        high,
        count,
        accuracy: right as f64 / count as f64,
        confidence,
    }
}

/// Expected calibration error of bins: Σ share · |accuracy − confidence|; lower is better.
pub fn expected_error(bins: &[Bin]) -> f64 {
    let total: usize = bins.iter().map(|bin| bin.count).sum();
    bins.iter()
        .map(|bin| bin.count as f64 / total as f64 * bin.gap())
        .sum()
}

/// The largest |accuracy − confidence| of any bin.
pub fn maximum_error(bins: &[Bin]) -> f64 {
    bins.iter().map(Bin::gap).fold(0.0, f64::max)
}

/// ECE over `bins` bins of equal width.
pub fn ece(predictions: &Predictions, bins: usize) -> f64 {
    expected_error(&reliability_bins(predictions, bins))
}

/// The ECE that these confidences have if they are exactly right: the median over `draws` sets of
/// labels drawn from the model's own probabilities. A measured ECE near it is no evidence of
/// miscalibration.
pub fn ece_floor(predictions: &Predictions, bins: usize, draws: usize, seed: u64) -> f64 {
    let bins = bins.max(1);
    let rows: Vec<(f64, usize)> = predictions
        .confidences()
        .iter()
        .map(|&confidence| (confidence, bin_of(confidence, bins)))
        .collect();
    let mut found: Vec<f64> = (0..draws.max(1))
        .map(|draw| {
            let mut numbers = stream(seed, Purpose::Bootstrap, 0, draw as u64, "ece_floor");
            let mut gaps = vec![0.0; bins];
            for &(confidence, bin) in &rows {
                gaps[bin] += f64::from(u8::from(uniform(&mut numbers) < confidence)) - confidence;
            }
            gaps.into_iter().map(f64::abs).sum::<f64>() / rows.len() as f64
        })
        .collect();
    found.sort_by(f64::total_cmp);
    (found[(found.len() - 1) / 2] + found[found.len() / 2]) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two choices, the first of them with this probability, and whether it is right.
    fn binary(rows: &[(f64, bool)]) -> Predictions {
        let probabilities = rows.iter().map(|row| vec![row.0, 1.0 - row.0]).collect();
        Predictions::from_probabilities(
            probabilities,
            rows.iter().map(|row| usize::from(!row.1)).collect(),
        )
        .unwrap()
    }

    #[test]
    fn bins_are_open_below_and_closed_above() {
        for bins in [1, 2, 3, 7, 10, 15, 100] {
            for index in 0..=bins {
                let at = edge(index, bins);
                assert_eq!(bin_of(at, bins), index.max(1) - 1, "{index} of {bins}");
                if index < bins {
                    assert_eq!(bin_of(at.next_up(), bins), index, "above {index} of {bins}");
                }
            }
        }
        let bins = reliability_bins(&binary(&[(0.75, true), (1.0, true), (0.8, false)]), 10);
        assert_eq!(bins.iter().map(|bin| bin.count).collect::<Vec<_>>(), [2, 1]);
    }

    #[test]
    fn ece_of_a_set_that_can_be_done_by_hand() {
        // 0.9 twice, right once: gap 0.4 on half of the set; 0.6 twice, right twice: gap 0.4 on the
        // other half.
        let predictions = binary(&[(0.9, true), (0.9, false), (0.6, true), (0.6, true)]);
        let bins = reliability_bins(&predictions, 10);
        assert!(
            (expected_error(&bins) - 0.4).abs() < 1e-12
                && (maximum_error(&bins) - 0.4).abs() < 1e-12
        );
        assert!((ece(&predictions, 1) - 0.0).abs() < 1e-12);
    }

    #[test]
    fn equal_mass_bins_keep_ties_together_and_lose_no_row() {
        let rows: Vec<_> = [0.6, 0.7, 0.7, 0.7, 0.7, 0.9]
            .iter()
            .enumerate()
            .map(|(i, &p)| (p, i % 2 == 0))
            .collect();
        let bins = equal_mass_bins(&binary(&rows), 3);
        assert_eq!(bins.iter().map(|bin| bin.count).collect::<Vec<_>>(), [5, 1]);
        let mut reversed = rows;
        reversed.reverse();
        assert_eq!(bins, equal_mass_bins(&binary(&reversed), 3));
        let spread: Vec<_> = (0..100)
            .map(|i| (0.5 + f64::from(i) / 200.0, true))
            .collect();
        assert!(
            equal_mass_bins(&binary(&spread), 10)
                .iter()
                .all(|bin| bin.count == 10)
        );
    }

    #[test]
    fn the_floor_of_one_bin_is_the_median_of_a_half_normal() {
        // 2,500 answers of confidence 0.8: |mean − 0.8| has median 0.6745 · √(0.16 / 2500) =
        // 0.0054.
        let predictions = binary(&vec![(0.8, true); 2500]);
        let floor = ece_floor(&predictions, 10, 1000, 1);
        assert!((floor - 0.6745 * 0.008).abs() < 0.0006, "{floor}");
        assert_eq!(floor, ece_floor(&predictions, 10, 1000, 1));
    }
}

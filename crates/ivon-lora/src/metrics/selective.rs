//! Selective prediction: the accuracy if the least confident examples are left to someone else.

use serde::{Deserialize, Serialize};

use super::Predictions;

/// A point of the curve of accuracy against coverage.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SelectivePoint {
    /// Share of examples answered.
    pub coverage: f64,
    /// Share of these that are right.
    pub accuracy: f64,
}

/// Accuracy at each coverage k/N for k = 1..N, the most confident first.
///
/// Within a group of examples of the same confidence each counts as the group's mean, so that the
/// order of rows does not matter.
pub fn accuracy_by_coverage(correct: &[bool], confidences: &[f64]) -> Vec<f64> {
    let mut rows: Vec<(f64, bool)> = confidences
        .iter()
        .copied()
        .zip(correct.iter().copied())
        .collect();
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));
    let groups = rows.chunk_by(|a, b| a.0 == b.0);
    let counts = |group: &[(f64, bool)]| {
        let right = group.iter().filter(|row| row.1).count();
        (right as f64, group.len())
    };
    accuracy_by_group(groups.map(counts))
}

/// Accuracy at each coverage k/N of groups of examples that cannot be told apart, each with how many
/// are right and how many there are, the most confident first.
pub(super) fn accuracy_by_group(groups: impl Iterator<Item = (f64, usize)>) -> Vec<f64> {
    let mut accuracies = Vec::new();
    let mut right_before = 0.0;
    for (right, count) in groups {
        let (before, share) = (accuracies.len(), right / count as f64);
        for taken in 1..=count {
            accuracies.push((right_before + share * taken as f64) / (before + taken) as f64);
        }
        right_before += right;
    }
    accuracies
}

/// How many of N examples are answered at a coverage, at least one.
pub(super) fn answered(coverage: f64, count: usize) -> usize {
    ((coverage * count as f64).round() as usize).clamp(1, count.max(1))
}

/// Accuracy if the share `coverage` of the most confident examples is answered (at least one).
pub fn selective_accuracy(predictions: &Predictions, coverage: f64) -> SelectivePoint {
    let accuracies = accuracy_by_coverage(&predictions.correct(), &predictions.confidences());
    let count = accuracies.len();
    let answered = answered(coverage, count);
    SelectivePoint {
        coverage: answered as f64 / count as f64,
        accuracy: accuracies.get(answered - 1).copied().unwrap_or(f64::NAN),
    }
}

/// Accuracy at each of these coverages.
pub fn selective_curve(predictions: &Predictions, coverages: &[f64]) -> Vec<SelectivePoint> {
    coverages
        .iter()
        .map(|&coverage| selective_accuracy(predictions, coverage))
        .collect()
}

/// Area under accuracy against coverage: the mean of accuracy over coverages k/N; higher is better.
pub fn area_under_selective_accuracy(correct: &[bool], confidences: &[f64]) -> f64 {
    let accuracies = accuracy_by_coverage(correct, confidences);
    accuracies.iter().sum::<f64>() / accuracies.len() as f64
}

impl Predictions {
    /// Area under error against coverage (AURC): the mean of the error over coverages k/N, the most
    /// confident first; lower is better.
    pub fn area_under_selective_error(&self) -> f64 {
        1.0 - area_under_selective_accuracy(&self.correct(), &self.confidences())
    }

    /// Share of wrong answers among the share `coverage` of most confident examples.
    pub fn selective_error(&self, coverage: f64) -> f64 {
        1.0 - selective_accuracy(self, coverage).accuracy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_curve_of_four_answers() {
        let (correct, confidences) = ([false, true, true, false], [0.6, 0.9, 0.8, 0.7]);
        let expected = [1.0, 1.0, 2.0 / 3.0, 0.5];
        assert_eq!(accuracy_by_coverage(&correct, &confidences), expected);
        let area = area_under_selective_accuracy(&correct, &confidences);
        assert!((area - expected.iter().sum::<f64>() / 4.0).abs() < 1e-15);
    }

    #[test]
    fn answers_of_one_confidence_share_their_accuracy() {
        assert_eq!(
            accuracy_by_coverage(&[true, false, false, false], &[0.5; 4]),
            [0.25; 4]
        );
        assert_eq!(
            accuracy_by_coverage(&[false, false, false, true], &[0.5; 4]),
            [0.25; 4]
        );
    }

    #[test]
    fn leaving_out_a_fifth_leaves_four_of_five() {
        let probabilities = [0.9, 0.8, 0.7, 0.6, 0.55].map(|p| vec![p, 1.0 - p]).into();
        let predictions =
            Predictions::from_probabilities(probabilities, vec![0, 0, 0, 1, 1]).unwrap();
        assert_eq!(
            selective_accuracy(&predictions, 0.8),
            SelectivePoint {
                coverage: 0.8,
                accuracy: 0.75
            }
        );
        assert_eq!(
            selective_accuracy(&predictions, 0.0),
            SelectivePoint {
                coverage: 0.2,
                accuracy: 1.0
            }
        );
    }
}

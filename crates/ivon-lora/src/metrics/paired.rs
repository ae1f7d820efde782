//! Two methods on the same examples and seeds → an interval of the difference of a score (methods.md,
//! section 7).

use super::calibration::bin_of;
use super::selective::{accuracy_by_group, answered};
use super::{BINS, Bootstrap, Predictions, quantile, resamples};
use crate::random::{Purpose, below, stream};

/// A score by which methods are compared; lower is better for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ComparedScore {
    /// Share of wrong answers.
    Error,
    /// Negative log-likelihood, nats.
    Nll,
    /// Brier score.
    Brier,
    /// ECE with 10 bins.
    Ece,
    /// Area under error against coverage.
    Aurc,
    /// Share of wrong answers among the most confident 80 %.
    ErrorAt80,
}

/// The coverage of [`ComparedScore::ErrorAt80`].
pub const COMPARED_COVERAGE: f64 = 0.8;

impl ComparedScore {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Error,
        Self::Nll,
        Self::Brier,
        Self::Ece,
        Self::Aurc,
        Self::ErrorAt80,
    ];

    /// The term of each example, whose mean is the score; for ECE the signed gap, which is first
    /// summed by bin; for scores by confidence whether the answer is wrong.
    fn losses(self, predictions: &Predictions) -> Vec<f64> {
        let wrong = || {
            predictions
                .correct()
                .into_iter()
                .map(|right| f64::from(u8::from(!right)))
        };
        match self {
            Self::Error | Self::Aurc | Self::ErrorAt80 => wrong().collect(),
            Self::Nll => predictions.losses(),
            Self::Brier => predictions.brier_losses(),
            Self::Ece => wrong()
                .zip(predictions.confidences())
                .map(|(wrong, confidence)| 1.0 - wrong - confidence)
                .collect(),
        }
    }
}

/// What a score needs of one method under one seed.
struct Member {
    score: ComparedScore,
    losses: Vec<f64>,
    /// The bin of each example; for scores by confidence its rank, the most confident first; empty
    /// for scores that need neither.
    bins: Vec<usize>,
}

impl Member {
    fn new(score: ComparedScore, predictions: &Predictions) -> Self {
        let confidences = predictions.confidences();
        let bins = match score {
            ComparedScore::Error | ComparedScore::Nll | ComparedScore::Brier => Vec::new(),
            ComparedScore::Ece => confidences
                .into_iter()
                .map(|confidence| bin_of(confidence, BINS))
                .collect(),
            ComparedScore::Aurc | ComparedScore::ErrorAt80 => groups(&confidences),
        };
        Self {
            score,
            losses: score.losses(predictions),
            bins,
        }
    }

    /// The score on these rows.
    fn score(&self, rows: &[usize]) -> f64 {
        let count = rows.len() as f64;
        match self.score {
            ComparedScore::Error | ComparedScore::Nll | ComparedScore::Brier => {
                rows.iter().map(|&row| self.losses[row]).sum::<f64>() / count
            }
            ComparedScore::Ece => {
                let mut gaps = [0.0; BINS];
                rows.iter()
                    .for_each(|&row| gaps[self.bins[row]] += self.losses[row]);
                gaps.into_iter().map(f64::abs).sum::<f64>() / count
            }
            ComparedScore::Aurc => 1.0 - self.accuracies(rows).iter().sum::<f64>() / count,
            ComparedScore::ErrorAt80 => {
                let accuracies = self.accuracies(rows);
                1.0 - accuracies[answered(COMPARED_COVERAGE, rows.len()) - 1]
            }
        }
    }

    /// Accuracy at each coverage of these rows.
    fn accuracies(&self, rows: &[usize]) -> Vec<f64> {
        let mut groups = vec![(0.0, 0); self.losses.len()];
        for &row in rows {
            let (right, count) = &mut groups[self.bins[row]];
            *right += 1.0 - self.losses[row];
            *count += 1;
        }
        accuracy_by_group(groups.into_iter().filter(|(_, count)| *count > 0))
    }
}

/// The place of each confidence among those that differ, the highest first.
fn groups(confidences: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..confidences.len()).collect();
    order.sort_by(|&a, &b| confidences[b].total_cmp(&confidences[a]));
    let mut groups = vec![0; confidences.len()];
    let chunks = order.chunk_by(|&a, &b| confidences[a] == confidences[b]);
    for (place, chunk) in chunks.enumerate() {
        chunk.iter().for_each(|&row| groups[row] = place);
    }
    groups
}

/// The interval of the mean over seeds of score(a) − score(b), where examples and seeds are drawn with
/// replacement, the same for both.
///
/// `a` and `b` hold the predictions of the same seeds in the same order, on the same examples in the
/// same order; seeds beyond the shorter list are not used. None if there is no seed, or the numbers
/// of examples differ.
pub fn paired_over_seeds(
    score: ComparedScore,
    a: &[&Predictions],
    b: &[&Predictions],
    bootstrap: &Bootstrap,
) -> Option<[f64; 2]> {
    let pairs: Vec<[Member; 2]> = a
        .iter()
        .zip(b)
        .map(|(a, b)| [a, b].map(|one| Member::new(score, one)))
        .collect();
    let count = pairs.first()?[0].losses.len();
    if pairs
        .iter()
        .flatten()
        .any(|member| member.losses.len() != count)
    {
        return None;
    }
    let mut found = Vec::with_capacity(bootstrap.resamples);
    resamples(count, bootstrap, |rows| {
        let mut numbers = stream(
            bootstrap.seed,
            Purpose::Bootstrap,
            1,
            found.len() as u64,
            "seeds",
        );
        let difference = |_| {
            let [a, b] = &pairs[below(&mut numbers, pairs.len() as u64) as usize];
            a.score(rows) - b.score(rows)
        };
        found.push((0..pairs.len()).map(difference).sum::<f64>() / pairs.len() as f64);
    });
    found.sort_by(f64::total_cmp);
    let tail = (1.0 - bootstrap.level) / 2.0;
    Some([tail, 1.0 - tail].map(|share| quantile(&found, share)))
}

#[cfg(test)]
mod tests {
    use super::super::calibration::ece;
    use super::*;

    /// Of `count` answers with confidence 0.75 the first `right` are right.
    fn coin(right: usize, count: usize) -> Predictions {
        let labels = (0..count).map(|row| usize::from(row >= right)).collect();
        Predictions::from_probabilities(vec![vec![0.75, 0.25]; count], labels).unwrap()
    }

    #[test]
    fn scores_by_confidence_are_those_of_the_rows() {
        let row = |p: f64| vec![p, 1.0 - p];
        let rows = [0.9, 0.9, 0.8, 0.7, 0.6, 0.95].map(row).to_vec();
        let predictions = Predictions::from_probabilities(rows, vec![0, 1, 0, 1, 0, 0]).unwrap();
        let all: Vec<usize> = (0..6).collect();
        let score = |score: ComparedScore| Member::new(score, &predictions).score(&all);
        let area = predictions.area_under_selective_error();
        assert!((score(ComparedScore::Aurc) - area).abs() < 1e-12);
        let error = predictions.selective_error(COMPARED_COVERAGE);
        assert!((score(ComparedScore::ErrorAt80) - error).abs() < 1e-12 && error > 0.0);
        // Rows that are drawn twice count twice.
        let twice = |rows: &[usize]| Member::new(ComparedScore::Aurc, &predictions).score(rows);
        assert_eq!([twice(&[5, 5]), twice(&[3, 3, 3])], [0.0, 1.0]);
    }

    #[test]
    fn a_method_against_itself_differs_by_nothing() {
        let (one, two) = (coin(60, 100), coin(80, 100));
        for score in ComparedScore::ALL {
            assert_eq!(
                paired_over_seeds(score, &[&one, &two], &[&one, &two], &Bootstrap::default()),
                Some([0.0, 0.0]),
                "{score:?}"
            );
        }
    }

    #[test]
    fn rows_that_both_answer_alike_cancel() {
        // Ten of a hundred rows are right in one and wrong in the other: 0.1 ± 1.96 · √(0.1 · 0.9 /
        // 100) = 0.041 to 0.159.
        let [low, high] = paired_over_seeds(
            ComparedScore::Error,
            &[&coin(70, 100)],
            &[&coin(80, 100)],
            &Bootstrap::default(),
        )
        .unwrap();
        assert!(
            (low - 0.041).abs() < 0.012 && (high - 0.159).abs() < 0.022,
            "{low} {high}"
        );
    }

    #[test]
    fn ece_of_resampled_rows_is_that_of_their_predictions() {
        let one = Bootstrap {
            resamples: 1,
            ..Bootstrap::default()
        };
        let (a, b) = (coin(3, 8), coin(6, 8));
        let mut expected = 0.0;
        resamples(8, &one, |rows| {
            let again = |right: usize| {
                let labels = rows.iter().map(|&row| usize::from(row >= right)).collect();
                ece(
                    &Predictions::from_probabilities(vec![vec![0.75, 0.25]; 8], labels).unwrap(),
                    BINS,
                )
            };
            expected = again(3) - again(6);
        });
        let [low, high] = paired_over_seeds(ComparedScore::Ece, &[&a], &[&b], &one).unwrap();
        assert!((low - expected).abs() < 1e-12 && low == high);
    }

    #[test]
    fn seeds_that_disagree_widen_the_interval() {
        let (worse, better) = (coin(60, 100), coin(80, 100));
        let alike = paired_over_seeds(
            ComparedScore::Error,
            &[&worse, &worse],
            &[&better, &better],
            &Bootstrap::default(),
        )
        .unwrap();
        let mixed = paired_over_seeds(
            ComparedScore::Error,
            &[&worse, &better],
            &[&better, &worse],
            &Bootstrap::default(),
        )
        .unwrap();
        assert!(
            alike[0] > 0.0 && mixed[0] < 0.0 && mixed[1] > 0.0,
            "{alike:?} {mixed:?}"
        );
        assert_eq!(
            paired_over_seeds(ComparedScore::Error, &[], &[], &Bootstrap::default()),
            None
        );
        assert_eq!(
            paired_over_seeds(
                ComparedScore::Error,
                &[&coin(1, 2)],
                &[&coin(1, 3)],
                &Bootstrap::default()
            ),
            None
        );
    }
}

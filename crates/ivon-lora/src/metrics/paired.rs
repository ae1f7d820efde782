//! Two methods on the same examples and seeds → an interval of the difference of a score (methods.md,
//! section 7).

use super::calibration::bin_of;
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
}

impl ComparedScore {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Error, Self::Nll, Self::Brier, Self::Ece];

    /// The term of each example, whose mean is the score; for ECE the signed gap, which is first
    /// summed by bin.
    fn losses(self, predictions: &Predictions) -> Vec<f64> {
        let wrong = || {
            predictions
                .correct()
                .into_iter()
                .map(|right| f64::from(u8::from(!right)))
        };
        match self {
            Self::Error => wrong().collect(),
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
    losses: Vec<f64>,
    /// The bin of each example; empty for scores without bins.
    bins: Vec<usize>,
}

impl Member {
    fn new(score: ComparedScore, predictions: &Predictions) -> Self {
        let bins = match score {
            ComparedScore::Ece => predictions
                .confidences()
                .into_iter()
                .map(|confidence| bin_of(confidence, BINS))
                .collect(),
            _ => Vec::new(),
        };
        Self {
            losses: score.losses(predictions),
            bins,
        }
    }

    /// The score on these rows.
    fn score(&self, rows: &[usize]) -> f64 {
        let count = rows.len() as f64;
        if self.bins.is_empty() {
            return rows.iter().map(|&row| self.losses[row]).sum::<f64>() / count;
        }
        let mut gaps = [0.0; BINS];
        rows.iter()
            .for_each(|&row| gaps[self.bins[row]] += self.losses[row]);
        gaps.into_iter().map(f64::abs).sum::<f64>() / count
    }
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

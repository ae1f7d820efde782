//! Two methods on the same examples and seeds → an interval of the difference of a score (methods.md,
//! section 7).

use super::calibration::bin_of;
use super::selective::{accuracy_by_group, answered};
use super::token_scores::TokenSums;
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

/// One method under one seed, which has a score on any of its rows.
trait Scored {
    /// The number of rows.
    fn count(&self) -> usize;
    /// The score on these rows.
    fn score(&self, rows: &[usize]) -> f64;
}

/// What a score needs of predicted choices.
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

impl Scored for Member {
    fn count(&self) -> usize {
        self.losses.len()
    }

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
}

/// The sums of predicted texts, and the place of a score in [`TokenSums::scores_of`].
struct Texts<'a>(&'a [TokenSums], usize);

impl Scored for Texts<'_> {
    fn count(&self) -> usize {
        self.0.len()
    }

    /// Of accuracy what is missing to 1, so that for each score lower is better.
    fn score(&self, rows: &[usize]) -> f64 {
        let score = TokenSums::scores_of(self.0, rows)[self.1];
        match self.1 {
            TEXT_ACCURACY => 1.0 - score,
            _ => score,
        }
    }
}

const TEXT_ACCURACY: usize = 3;

/// The place of a score in [`TokenSums::scores_of`]; none of those by the confidence of an answer.
fn text_score(score: ComparedScore) -> Option<usize> {
    match score {
        ComparedScore::Error => Some(TEXT_ACCURACY),
        ComparedScore::Nll => Some(0),
        ComparedScore::Brier => Some(5),
        ComparedScore::Ece => Some(4),
        ComparedScore::Aurc | ComparedScore::ErrorAt80 => None,
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
    let pairs = a.iter().zip(b);
    let pairs: Vec<[Member; 2]> = pairs
        .map(|(a, b)| [a, b].map(|one| Member::new(score, one)))
        .collect();
    interval_over_seeds(&pairs, bootstrap)
}

/// The same for texts, where whole documents are drawn, since the tokens of one depend on each other;
/// none of a score by the confidence of an answer, which texts do not have.
pub fn paired_texts_over_seeds(
    score: ComparedScore,
    a: &[&[TokenSums]],
    b: &[&[TokenSums]],
    bootstrap: &Bootstrap,
) -> Option<[f64; 2]> {
    let place = text_score(score)?;
    let pairs = a.iter().zip(b);
    let pairs: Vec<[Texts<'_>; 2]> = pairs
        .map(|(a, b)| [a, b].map(|one| Texts(one, place)))
        .collect();
    interval_over_seeds(&pairs, bootstrap)
}

fn interval_over_seeds<M: Scored>(pairs: &[[M; 2]], bootstrap: &Bootstrap) -> Option<[f64; 2]> {
    let count = pairs.first()?[0].count();
    if pairs.iter().flatten().any(|member| member.count() != count) {
        return None;
    }
    let mut found = Vec::with_capacity(bootstrap.resamples);
    resamples(count, bootstrap, |rows| {
        let resample = found.len() as u64;
        let mut numbers = stream(bootstrap.seed, Purpose::Bootstrap, 1, resample, "seeds");
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
    fn texts_are_drawn_whole_and_weigh_by_their_tokens() {
        let sums = |weight: f64, loss: f64| TokenSums {
            weight,
            loss,
            right: weight / 2.0,
            brier: 0.0,
            bytes: weight,
            gaps: [0.0; BINS],
        };
        // The second loses 0.5 nats a token more on the long texts, and as much less on the short ones.
        let lengths = [90.0, 10.0].repeat(50);
        let of = |long: f64, short: f64| -> Vec<TokenSums> {
            let loss = |weight: f64| if weight > 50.0 { long } else { short };
            let document = |&weight: &f64| sums(weight, weight * loss(weight));
            lengths.iter().map(document).collect()
        };
        let (a, b) = (of(2.0, 2.5), of(2.5, 2.0));
        let interval = |score, a: &[TokenSums], b: &[TokenSums]| {
            paired_texts_over_seeds(score, &[a], &[b], &Bootstrap::default())
        };
        // −0.5 · 0.9 + 0.5 · 0.1, where by document it would be 0.
        let [low, high] = interval(ComparedScore::Nll, &a, &b).unwrap();
        assert!(
            low < -0.4 && high > -0.4 && low > -0.5 && high < -0.3,
            "{low} {high}"
        );
        assert_eq!(interval(ComparedScore::Error, &a, &b), Some([0.0, 0.0]));
        assert_eq!(interval(ComparedScore::Aurc, &a, &b), None);
        assert_eq!(interval(ComparedScore::Nll, &a, &b[1..]), None);
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

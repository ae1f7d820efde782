//! Held-out predictions → whether to choose by them at all, and which of several candidates they
//! prefer.
//!
//! A few rows, or rows without a mistake, always favour more confidence: with nothing to weigh against
//! it, nothing is chosen.

use super::{PredictedDocument, Predictions};

/// The fewest rows to choose by.
pub const FEWEST_ROWS: usize = 20;
/// The fewest right answers, and the fewest wrong ones, among these rows.
pub const FEWEST_OF_EACH: usize = 5;

/// How much ground a set of rows gives for a choice: its rows, and its right and wrong answers, which
/// in texts are tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ground {
    /// Number of rows.
    pub rows: usize,
    /// Number of right answers.
    pub right: usize,
    /// Number of wrong answers.
    pub wrong: usize,
}

impl Ground {
    /// The ground that these predictions give.
    pub fn of(predictions: &Predictions) -> Self {
        let wrong = predictions
            .correct()
            .into_iter()
            .filter(|is_right| !is_right)
            .count();
        Self {
            rows: predictions.len(),
            right: predictions.len() - wrong,
            wrong,
        }
    }

    /// The ground that predicted texts give.
    pub fn of_texts(documents: &[PredictedDocument]) -> Self {
        let tokens = documents.iter().flat_map(|document| &document.tokens);
        let right = tokens.clone().filter(|token| token.is_top).count();
        Self {
            rows: documents.len(),
            right,
            wrong: tokens.count() - right,
        }
    }

    /// Checks that it is enough to choose by.
    ///
    /// # Errors
    /// [`TooLittle`] if there are fewer rows than [`FEWEST_ROWS`], or fewer right or wrong answers
    /// than [`FEWEST_OF_EACH`].
    pub fn check(self) -> Result<(), TooLittle> {
        let Self { rows, right, wrong } = self;
        let is_enough = rows >= FEWEST_ROWS && right >= FEWEST_OF_EACH && wrong >= FEWEST_OF_EACH;
        if is_enough {
            Ok(())
        } else {
            Err(TooLittle(self))
        }
    }
}

/// Too few rows, or too few right or wrong answers, to choose by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} rows with {} wrong answers cannot carry a choice, expected at least {FEWEST_ROWS} rows, and \
     {FEWEST_OF_EACH} right answers and {FEWEST_OF_EACH} wrong ones among them",
    .0.rows, .0.wrong
)]
pub struct TooLittle(pub Ground);

/// The candidate with the lowest mean loss, if it is better than the one at `default` by more than
/// one standard error of the paired difference; otherwise the default. Each candidate has a loss for
/// each row.
pub fn preferred(losses: &[Vec<f64>], default: usize) -> usize {
    let Some(known) = losses.get(default) else {
        return default;
    };
    let better = |best: usize, next: usize| {
        if sum(&losses[next]) < sum(&losses[best]) {
            next
        } else {
            best
        }
    };
    let best = (0..losses.len()).fold(default, better);
    let (advantage, error) = paired(known, &losses[best]);
    // A NaN, as from two infinite losses, prefers nothing.
    if advantage > error { best } else { default }
}

/// The candidates that these rows cannot tell from the one at `best`: those worse by at most one
/// standard error of the paired difference.
pub fn not_told_from(losses: &[Vec<f64>], best: usize) -> Vec<usize> {
    let Some(known) = losses.get(best) else {
        return Vec::new();
    };
    let is_alike = |index: &usize| {
        let (advantage, error) = paired(&losses[*index], known);
        advantage <= error
    };
    (0..losses.len()).filter(is_alike).collect()
}

/// By how much the second mean loss is lower, and the standard error of this difference.
fn paired(first: &[f64], second: &[f64]) -> (f64, f64) {
    let count = first.len() as f64;
    let differences: Vec<f64> = first
        .iter()
        .zip(second)
        .map(|(first, second)| first - second)
        .collect();
    let mean = sum(&differences) / count;
    let squares: f64 = differences
        .iter()
        .map(|difference| (difference - mean).powi(2))
        .sum();
    (mean, (squares / (count - 1.0).max(1.0) / count).sqrt())
}

fn sum(values: &[f64]) -> f64 {
    values.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ground(rows: usize, wrong: usize) -> Ground {
        let labels = (0..rows).map(|row| usize::from(row < wrong)).collect();
        Ground::of(&Predictions::from_probabilities(vec![vec![0.9, 0.1]; rows], labels).unwrap())
    }

    #[test]
    fn few_rows_and_rows_without_mistakes_carry_nothing() {
        for (rows, wrong, carries) in [
            (20, 5, true),
            (20, 15, true),
            (19, 9, false),
            (20, 4, false),
            (20, 16, false),
            (400, 0, false),
        ] {
            assert_eq!(
                ground(rows, wrong).check().is_ok(),
                carries,
                "{rows} {wrong}"
            );
        }
        assert_eq!(
            ground(20, 0).check().unwrap_err().to_string(),
            "20 rows with 0 wrong answers cannot carry a choice, expected at least 20 rows, and 5 right answers \
             and 5 wrong ones among them"
        );
    }

    #[test]
    fn a_candidate_must_be_better_by_more_than_its_standard_error() {
        // Differences 0.3, 0.1, 0.3, 0.1: mean 0.2, sd √(4 · 0.01/3) = 0.1155, standard error
        // 0.0577.
        let clear = [vec![1.0; 4], vec![0.7, 0.9, 0.7, 0.9]];
        assert_eq!((preferred(&clear, 0), preferred(&clear, 1)), (1, 1));
        // Differences 1, −0.9, 1, −0.9: mean 0.05, standard error 0.548.
        let vague = [vec![1.0; 4], vec![0.0, 1.9, 0.0, 1.9]];
        assert_eq!((preferred(&vague, 0), preferred(&vague, 1)), (0, 1));
        assert_eq!(
            (not_told_from(&clear, 1), not_told_from(&vague, 1)),
            (vec![1], vec![0, 1])
        );
    }

    #[test]
    fn losses_that_cannot_be_compared_prefer_nothing() {
        let infinite = [vec![f64::INFINITY, 1.0], vec![f64::INFINITY, 0.5]];
        assert_eq!(preferred(&infinite, 0), 0);
        assert_eq!((preferred(&[], 0), not_told_from(&[], 0)), (0, vec![]));
        assert_eq!(preferred(&[vec![1.0]], 0), 0);
    }
}

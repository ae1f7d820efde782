//! Logits → log-probabilities → predictions, from which every score is computed: for each example a
//! distribution over its own choices, and a label.
//!
//! All arithmetic is in f64, and in logarithms as long as possible, so that a probability too small
//! for f64 still has a finite negative log-likelihood.

use super::MetricsError;

/// Log-probabilities `[N][C]` in nats; C may differ from row to row.
pub type LogProbabilities = Vec<Vec<f64>>;

/// ln Σ exp(values), without overflow; −∞ for no values.
pub fn log_sum_exp(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let largest = values.clone().fold(f64::NEG_INFINITY, f64::max);
    if largest.is_infinite() {
        return largest;
    }
    largest
        + values
            .map(|value| (value - largest).exp())
            .sum::<f64>()
            .ln()
}

/// Log-probabilities of one row of logits divided by `temperature` (above 0), nats.
pub fn log_softmax(logits: &[f64], temperature: f64) -> Vec<f64> {
    let scaled: Vec<f64> = logits.iter().map(|logit| logit / temperature).collect();
    let total = log_sum_exp(scaled.iter().copied());
    scaled.into_iter().map(|logit| logit - total).collect()
}

/// The logarithm of the mean over draws of the probabilities: `[S][N][C]` → `[N][C]`.
///
/// # Errors
/// If there are no draws, or they differ in their numbers of examples or choices.
pub fn mean_of_draws(draws: &[LogProbabilities]) -> Result<LogProbabilities, MetricsError> {
    let (first, rest) = draws.split_first().ok_or(MetricsError::Empty)?;
    for draw in rest {
        check_length("examples in a draw", first.len(), draw.len())?;
        for (here, there) in first.iter().zip(draw) {
            check_length("choices in a draw", here.len(), there.len())?;
        }
    }
    let log_count = (draws.len() as f64).ln();
    Ok((0..first.len())
        .map(|row| {
            (0..first[row].len())
                .map(|choice| log_sum_exp(draws.iter().map(|draw| draw[row][choice])) - log_count)
                .collect()
        })
        .collect())
}

pub(super) fn check_length(
    what: &'static str,
    expected: usize,
    found: usize,
) -> Result<(), MetricsError> {
    if expected == found {
        Ok(())
    } else {
        Err(MetricsError::Length {
            what,
            expected,
            found,
        })
    }
}

/// Predictions on a labelled set: at least one example, each row a distribution, each label one of
/// the row's choices.
#[derive(Clone, Debug)]
pub struct Predictions {
    log_probabilities: LogProbabilities,
    probabilities: Vec<Vec<f64>>,
    labels: Vec<usize>,
}

impl Predictions {
    /// Predictions from log-probabilities `[N][C]` and labels `[N]`.
    ///
    /// # Errors
    /// If there is no example, lengths differ, a label is out of range, or a row does not sum to 1
    /// (within 1e-6).
    pub fn new(
        log_probabilities: LogProbabilities,
        labels: Vec<usize>,
    ) -> Result<Self, MetricsError> {
        let probabilities = log_probabilities
            .iter()
            .map(|row| row.iter().map(|value| value.exp()).collect())
            .collect();
        Self {
            log_probabilities,
            probabilities,
            labels,
        }
        .checked()
    }

    /// Predictions from probabilities `[N][C]` and labels `[N]`; a probability of 0 at the label has
    /// an infinite loss.
    ///
    /// # Errors
    /// As [`Predictions::new`].
    pub fn from_probabilities(
        probabilities: Vec<Vec<f64>>,
        labels: Vec<usize>,
    ) -> Result<Self, MetricsError> {
        let log_probabilities = probabilities
            .iter()
            .map(|row| row.iter().map(|value| value.ln()).collect())
            .collect();
        Self {
            log_probabilities,
            probabilities,
            labels,
        }
        .checked()
    }

    fn checked(self) -> Result<Self, MetricsError> {
        if self.labels.is_empty() {
            return Err(MetricsError::Empty);
        }
        check_length(
            "rows of probabilities",
            self.labels.len(),
            self.probabilities.len(),
        )?;
        for (example, (row, &label)) in self.probabilities.iter().zip(&self.labels).enumerate() {
            let sum: f64 = row.iter().sum();
            if row.iter().any(|value| value.is_nan()) || (sum - 1.0).abs() > 1e-6 {
                return Err(MetricsError::NotADistribution {
                    example,
                    found: format!("probabilities that sum to {}", sum + 0.0),
                });
            }
            if label >= row.len() {
                return Err(MetricsError::Label {
                    example,
                    label,
                    choices: row.len(),
                });
            }
        }
        Ok(self)
    }

    /// The number of examples N, at least 1.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Always false; exists because [`len`](Self::len) does.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Probabilities `[N][C]`.
    pub fn probabilities(&self) -> &[Vec<f64>] {
        &self.probabilities
    }

    /// Log-probabilities `[N][C]`, nats.
    pub fn log_probabilities(&self) -> &[Vec<f64>] {
        &self.log_probabilities
    }

    /// The right choices `[N]`.
    pub fn labels(&self) -> &[usize] {
        &self.labels
    }

    /// The most probable choice of each example, the first of those that tie, `[N]`.
    pub fn answers(&self) -> Vec<usize> {
        self.log_probabilities
            .iter()
            .map(|row| first_largest(row))
            .collect()
    }

    /// The probability of each answer, `[N]`.
    pub fn confidences(&self) -> Vec<f64> {
        self.probabilities
            .iter()
            .map(|row| row.iter().copied().fold(0.0, f64::max).min(1.0))
            .collect()
    }

    /// Whether each answer is the label, `[N]`.
    pub fn correct(&self) -> Vec<bool> {
        self.answers()
            .into_iter()
            .zip(&self.labels)
            .map(|(answer, &label)| answer == label)
            .collect()
    }

    /// −ln of the label's probability, for each example, nats, lower is better, `[N]`.
    pub fn losses(&self) -> Vec<f64> {
        // A logarithm may be above 0 by rounding; adding 0 turns −0 into 0.
        let loss = |(row, &label): (&Vec<f64>, &usize)| (-row[label]).max(0.0) + 0.0;
        self.log_probabilities
            .iter()
            .zip(&self.labels)
            .map(loss)
            .collect()
    }

    /// Σ over choices of (p − 1[choice = label])² of each example, lower is better, `[N]`.
    pub fn brier_losses(&self) -> Vec<f64> {
        let squared = |row: &[f64], label: usize| {
            row.iter()
                .enumerate()
                .map(|(choice, p)| (p - f64::from(u8::from(choice == label))).powi(2))
                .sum()
        };
        self.probabilities
            .iter()
            .zip(&self.labels)
            .map(|(row, &label)| squared(row, label))
            .collect()
    }

    /// Share of right answers.
    pub fn accuracy(&self) -> f64 {
        mean(
            &self
                .correct()
                .iter()
                .map(|&right| f64::from(u8::from(right)))
                .collect::<Vec<_>>(),
        )
    }

    /// Mean negative log-likelihood, nats, lower is better.
    pub fn nll(&self) -> f64 {
        mean(&self.losses())
    }

    /// Brier score: summed over choices, mean over examples, between 0 and 2, lower is better.
    pub fn brier(&self) -> f64 {
        mean(&self.brier_losses())
    }
}

/// The index of the largest value, the first of those that tie; 0 for no values.
pub fn first_largest(values: &[f64]) -> usize {
    let better = |best: usize, (index, &value): (usize, &f64)| {
        if value > values[best] { index } else { best }
    };
    values.iter().enumerate().fold(0, better)
}

pub(super) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_softmax_is_right_where_softmax_would_underflow() {
        let row = log_softmax(&[1000.0, 0.0], 1.0);
        assert_eq!(row, [0.0, -1000.0]);
        let predictions = Predictions::new(vec![row], vec![1]).unwrap();
        assert_eq!(
            (
                predictions.nll(),
                predictions.accuracy(),
                predictions.brier()
            ),
            (1000.0, 0.0, 2.0)
        );
        let halved = log_softmax(&[2.0 * 3f64.ln(), 0.0], 2.0);
        assert!((halved[0] - 0.75f64.ln()).abs() < 1e-15);
    }

    #[test]
    fn a_loss_is_never_below_zero_and_never_minus_zero() {
        let certain = Predictions::new(
            vec![vec![0.0, f64::NEG_INFINITY], vec![1e-12, -40.0]],
            vec![0, 0],
        )
        .unwrap();
        assert!(
            certain.losses().iter().all(|loss| loss.to_bits() == 0),
            "{:?}",
            certain.losses()
        );
        assert_eq!(format!("{:.3}", certain.nll()), "0.000");
    }

    #[test]
    fn the_mean_of_draws_is_that_of_probabilities_not_of_logits() {
        let draws = [
            vec![log_softmax(&[0.9f64.ln(), 0.1f64.ln()], 1.0)],
            vec![log_softmax(&[0.3f64.ln(), 0.7f64.ln()], 1.0)],
        ];
        let mean = mean_of_draws(&draws).unwrap();
        assert!((mean[0][0].exp() - 0.6).abs() < 1e-15 && (mean[0][1].exp() - 0.4).abs() < 1e-15);
        let far = mean_of_draws(&[vec![vec![0.0, -1000.0]], vec![vec![0.0, -1002.0]]]).unwrap();
        assert!((far[0][1] - (-1000.0 + ((1.0 + (-2f64).exp()) / 2.0).ln())).abs() < 1e-12);
    }

    #[test]
    fn a_tie_goes_to_the_first_choice() {
        let predictions = Predictions::from_probabilities(
            vec![vec![0.4, 0.4, 0.2], vec![0.2, 0.4, 0.4]],
            vec![1, 1],
        )
        .unwrap();
        assert_eq!(predictions.answers(), [0, 1]);
        assert_eq!(predictions.accuracy(), 0.5);
    }

    #[test]
    fn what_is_no_labelled_distribution_is_refused() {
        let message = |probabilities, labels| {
            Predictions::from_probabilities(probabilities, labels)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(message(vec![], vec![]), "there are no examples to score");
        assert_eq!(
            message(vec![vec![1.0]], vec![0, 0]),
            "there are 1 rows of probabilities, expected 2"
        );
        assert_eq!(
            message(vec![vec![0.5, 0.5]], vec![2]),
            "example 0 has label 2, expected below its 2 choices"
        );
        assert!(
            message(vec![vec![0.5, 0.6]], vec![0])
                .starts_with("example 0 has probabilities that sum to 1.1, expected")
        );
        assert!(message(vec![vec![f64::NAN, 0.6]], vec![0]).contains("sum to NaN"));
        assert!(message(vec![vec![]], vec![0]).contains("sum to 0"));
        assert_eq!(mean_of_draws(&[]).unwrap_err(), MetricsError::Empty);
        assert!(mean_of_draws(&[vec![vec![0.0]], vec![]]).is_err());
    }
}

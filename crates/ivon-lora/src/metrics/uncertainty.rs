//! Draws of the probabilities of one example → how uncertain the prediction is, and why, in nats.

use serde::{Deserialize, Serialize};

use super::predictions::{check_length, first_largest, mean_of_draws};
use super::{LogProbabilities, MetricsError};

/// The uncertainty of one example's prediction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Uncertainty {
    /// Entropy of the mean probabilities: total uncertainty.
    pub entropy: f64,
    /// Mean of the draws' entropies: the part that more data could not remove.
    pub aleatoric: f64,
    /// Their difference, the mutual information of answer and weights, at least 0: the part that comes
    /// from uncertain weights.
    pub mutual_information: f64,
    /// Share of draws whose answer is not that of the mean probabilities.
    pub disagreement: f64,
}

/// −Σ p ln p of log-probabilities; a probability of 0 contributes 0.
pub fn entropy(log_probabilities: &[f64]) -> f64 {
    let sum: f64 = log_probabilities
        .iter()
        .filter(|value| value.is_finite())
        .map(|value| value.exp() * value)
        .sum();
    // Neither −0 nor a rounding error below it.
    (-sum).max(0.0) + 0.0
}

/// The uncertainty of every example from draws `[S][N][C]`; with a single draw, all of it is
/// aleatoric.
///
/// # Errors
/// If there are no draws or their shapes differ.
pub fn uncertainties(draws: &[LogProbabilities]) -> Result<Vec<Uncertainty>, MetricsError> {
    let mean = mean_of_draws(draws)?;
    draws
        .iter()
        .try_for_each(|draw| check_length("examples in a draw", mean.len(), draw.len()))?;
    let rows = mean.iter().enumerate();
    Ok(rows
        .map(|(row, mean)| uncertainty(draws, row, mean))
        .collect())
}

/// The uncertainty of one example; `mean` are its averaged log-probabilities.
fn uncertainty(draws: &[LogProbabilities], row: usize, mean: &[f64]) -> Uncertainty {
    let count = draws.len() as f64;
    let total = entropy(mean);
    let aleatoric = draws.iter().map(|draw| entropy(&draw[row])).sum::<f64>() / count;
    let answer = first_largest(mean);
    let answers = draws.iter().map(|draw| first_largest(&draw[row]));
    let others = answers.filter(|other| *other != answer).count();
    Uncertainty {
        entropy: total,
        aleatoric,
        mutual_information: (total - aleatoric).max(0.0) + 0.0,
        disagreement: others as f64 / count,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logs(row: &[f64]) -> Vec<f64> {
        row.iter().map(|p| p.ln()).collect()
    }

    #[test]
    fn certain_draws_that_contradict_each_other_are_all_epistemic() {
        let draws = [vec![logs(&[1.0, 0.0])], vec![logs(&[0.0, 1.0])]];
        let found = uncertainties(&draws).unwrap()[0];
        assert!((found.entropy - 2f64.ln()).abs() < 1e-15 && found.aleatoric == 0.0);
        assert_eq!(
            (found.mutual_information, found.disagreement),
            (found.entropy, 0.5)
        );
    }

    #[test]
    fn draws_that_agree_are_all_aleatoric() {
        let draws = vec![vec![logs(&[0.25; 4]), logs(&[1.0])]; 3];
        let found = uncertainties(&draws).unwrap();
        assert!(
            (found[0].entropy - 4f64.ln()).abs() < 1e-12 && found[0].mutual_information < 1e-12
        );
        assert_eq!(found[1], Uncertainty::default());
        assert!(uncertainties(&[]).is_err());
    }
}

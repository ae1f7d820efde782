//! Temperature scaling (Guo et al., arXiv 1706.04599): one number T by which logits are divided, so that confidence fits a held-out set.
//!
//! With log-probabilities z in place of logits the outcome is the same: softmax(z/T) does not see what all choices of a row share.

use super::predictions::{LogProbabilities, Predictions, log_softmax};

/// The range in which T is looked for: beyond it, predictions are as good as certain, or as good as uniform.
pub const TEMPERATURES: [f64; 2] = [0.05, 20.0];
/// Halvings of the range: its logarithm, 6, comes down to 3e-8.
const HALVINGS: usize = 27;

/// The log-probabilities at temperature T, `[N][C]`: ln softmax(z/T). The answers stay what they are.
pub fn at_temperature(log_probabilities: &[Vec<f64>], temperature: f64) -> LogProbabilities {
    log_probabilities.iter().map(|row| log_softmax(row, temperature)).collect()
}

/// The temperature in [`TEMPERATURES`] with the lowest NLL of these predictions.
///
/// In β = 1/T the NLL is mean(ln Σ exp(β z) − β z\[label\]), which is convex, with the slope mean(Σ p z − z\[label\]) where
/// p = softmax(β z): its root is found by halving the range of ln T.
pub fn best_temperature(predictions: &Predictions) -> f64 {
    let slope = |temperature: f64| -> f64 {
        let of = |(row, &label): (&Vec<f64>, &usize)| {
            let scaled = log_softmax(row, temperature);
            scaled.iter().zip(row).map(|(log, z)| log.exp() * z).sum::<f64>() - row[label]
        };
        predictions.log_probabilities().iter().zip(predictions.labels()).map(of).sum()
    };
    let [mut low, mut high] = TEMPERATURES.map(f64::ln);
    for _ in 0..HALVINGS {
        let middle = 0.5 * (low + high);
        // Rising in β: the lowest NLL has a larger β, a smaller T, or the reverse.
        if slope(middle.exp()) < 0.0 { high = middle } else { low = middle }
    }
    (0.5 * (low + high)).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `right` of `count` examples have the label 0, to which all give the logit `z` above the other.
    fn alike(z: f64, right: usize, count: usize) -> Predictions {
        let rows = vec![log_softmax(&[z, 0.0], 1.0); count];
        Predictions::new(rows, (0..count).map(|index| usize::from(index >= right)).collect()).unwrap()
    }

    #[test]
    fn confidence_becomes_the_share_of_right_answers() {
        // σ(z/T) = 0.75 where z/T = ln 3.
        for z in [0.4, 2.0, 6.0] {
            let predictions = alike(z, 75, 100);
            let temperature = best_temperature(&predictions);
            assert!((temperature - z / 3f64.ln()).abs() < 1e-6 * z, "{temperature}");
            let scaled = at_temperature(predictions.log_probabilities(), temperature);
            assert!((scaled[0][0].exp() - 0.75).abs() < 1e-6);
        }
    }

    #[test]
    fn no_other_temperature_has_a_lower_nll() {
        let logits = [[2.0, 0.3, -1.0], [0.1, 0.2, 0.9], [-3.0, 4.0, 0.0], [1.0, 1.1, 0.9], [5.0, 0.0, 1.0]];
        let rows = logits.map(|row| log_softmax(&row, 1.0)).to_vec();
        let labels = vec![0, 1, 1, 2, 0];
        let nll = |temperature: f64| Predictions::new(at_temperature(&rows, temperature), labels.clone()).unwrap().nll();
        let best = best_temperature(&Predictions::new(rows.clone(), labels.clone()).unwrap());
        for step in -200..=200 {
            assert!(nll(best) <= nll(best * (f64::from(step) * 0.01).exp()) + 1e-12);
        }
    }

    #[test]
    fn the_range_is_kept_where_all_answers_are_right_or_wrong() {
        assert!((best_temperature(&alike(1.0, 9, 9)) / TEMPERATURES[0] - 1.0).abs() < 1e-6);
        assert!((best_temperature(&alike(1.0, 0, 9)) / TEMPERATURES[1] - 1.0).abs() < 1e-6);
    }
}

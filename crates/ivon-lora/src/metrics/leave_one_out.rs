//! Predictions of training rows under draws → the loss that each would have if the model had not been
//! trained on it.
//!
//! The memory-perturbation equation (Nickl, Xu, Tailor, Möllenhoff and Khan, NeurIPS 2023, eq. 8): without
//! row i the mean moves by Σ ∇ℓᵢ(m), so its logits by V (p − y), where V = J Σ Jᵀ is the covariance of
//! these logits under the posterior, p its probabilities and y its label. V is that of the draws.

use super::predictions::check_length;
use super::{LogProbabilities, MetricsError, log_sum_exp};

/// The negative log-likelihood of each row `[N]` without it, nats, from log-probabilities at the mean
/// `[N][C]` and under draws `[S][N][C]`, S at least 2.
///
/// # Errors
/// If there are fewer than two draws, or lengths differ.
pub fn leave_one_out_losses(
    mean: &LogProbabilities,
    draws: &[LogProbabilities],
    labels: &[usize],
) -> Result<Vec<f64>, MetricsError> {
    if draws.len() < 2 {
        return Err(MetricsError::Length {
            what: "draws",
            expected: 2,
            found: draws.len(),
        });
    }
    check_length("labels", mean.len(), labels.len())?;
    for draw in draws {
        check_length("examples in a draw", mean.len(), draw.len())?;
    }
    let loss = |(row, &label): (usize, &usize)| {
        let drawn: Vec<&[f64]> = draws.iter().map(|draw| draw[row].as_slice()).collect();
        loss_without(&mean[row], &drawn, label)
    };
    Ok(labels.iter().enumerate().map(loss).collect())
}

/// −ln softmax(f + V (p − y)) of the label; `mean` are the log-probabilities f, which are logits, too.
fn loss_without(mean: &[f64], draws: &[&[f64]], label: usize) -> f64 {
    let error: Vec<f64> = mean
        .iter()
        .enumerate()
        .map(|(class, value)| value.exp() - f64::from(u8::from(class == label)))
        .collect();
    let count = draws.len() as f64;
    let center = |class: usize| draws.iter().map(|draw| draw[class]).sum::<f64>() / count;
    let centers: Vec<f64> = (0..mean.len()).map(center).collect();
    let mut logits = mean.to_vec();
    for draw in draws {
        let away: Vec<f64> = draw.iter().zip(&centers).map(|(g, c)| g - c).collect();
        // One term of V (p − y): (g − ḡ) (g − ḡ)ᵀ (p − y) / (S − 1).
        let along = away.iter().zip(&error).map(|(a, e)| a * e).sum::<f64>() / (count - 1.0);
        let moved = logits.iter_mut().zip(&away);
        moved.for_each(|(logit, away)| *logit += along * away);
    }
    log_sum_exp(logits.iter().copied()) - logits[label]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Logistic regression of one weight with a standard normal prior: rows (x, y).
    const ROWS: [(f64, usize); 12] = [
        (1.2, 1),
        (0.8, 1),
        (1.5, 1),
        (-0.9, 0),
        (-1.4, 0),
        (-0.6, 0),
        (0.4, 1),
        (-0.3, 0),
        (1.0, 0),
        (-1.1, 1),
        (2.0, 1),
        (-2.0, 0),
    ];

    fn probability(weight: f64, x: f64) -> f64 {
        1.0 / (1.0 + (-weight * x).exp())
    }

    /// The most probable weight without one row, and the curvature there.
    fn fitted(without: Option<usize>) -> (f64, f64) {
        let (mut weight, mut curvature) = (0.0, 1.0);
        for _ in 0..50 {
            let (mut gradient, mut hessian) = (weight, 1.0);
            for (row, (x, y)) in ROWS.iter().enumerate() {
                if Some(row) != without {
                    let p = probability(weight, *x);
                    gradient += (p - *y as f64) * x;
                    hessian += p * (1.0 - p) * x * x;
                }
            }
            weight -= gradient / hessian;
            curvature = hessian;
        }
        (weight, curvature)
    }

    fn log_probabilities(weight: f64) -> LogProbabilities {
        let row = |(x, _): &(f64, usize)| {
            let p = probability(weight, *x);
            vec![(1.0 - p).ln(), p.ln()]
        };
        ROWS.iter().map(row).collect()
    }

    #[test]
    fn the_losses_of_a_logistic_regression_are_those_of_fits_without_each_row() {
        let (weight, curvature) = fitted(None);
        // Two draws whose variance is exactly 1 / curvature.
        let away = (0.5 / curvature).sqrt();
        let draws = [weight - away, weight + away].map(log_probabilities);
        let labels: Vec<usize> = ROWS.iter().map(|row| row.1).collect();
        let mean = log_probabilities(weight);
        let found = leave_one_out_losses(&mean, &draws, &labels).unwrap();
        for (row, label) in labels.iter().enumerate() {
            let exact = -log_probabilities(fitted(Some(row)).0)[row][*label];
            let plain = -mean[row][*label];
            // It closes most of the gap to the loss without the row, to first order.
            let (left, whole) = ((found[row] - exact).abs(), (plain - exact).abs());
            assert!(
                left < 0.35 * whole + 0.01,
                "{row}: {exact} {plain} {}",
                found[row]
            );
        }
    }

    #[test]
    fn draws_that_agree_leave_the_loss_and_one_draw_says_nothing() {
        let mean = log_probabilities(0.7);
        let draws = vec![mean.clone(), mean.clone()];
        let labels: Vec<usize> = ROWS.iter().map(|row| row.1).collect();
        let found = leave_one_out_losses(&mean, &draws, &labels).unwrap();
        for (row, label) in labels.iter().enumerate() {
            assert!((found[row] + mean[row][*label]).abs() < 1e-12);
        }
        assert!(leave_one_out_losses(&mean, &draws[..1], &labels).is_err());
    }
}

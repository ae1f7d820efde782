//! A bound on the expected loss under normal logits, which a variational last layer is trained on.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor};

use crate::predict::NoisyLogits;

/// An upper bound of E −ln softmax(z)_y over independent logits z_c ~ N(m_c, v_c), for each
/// row, `[B, 1]`, nats: by Jensen's inequality
///
/// ```text
/// E −ln softmax(z)_y = −m_y + E ln Σ exp(z_c) ≤ −m_y + ln Σ exp(m_c + ½ v_c)
///                    = −ln softmax(m + ½ v)_y + ½ v_y
/// ```
///
/// (Harrison et al., arXiv 2404.11599). Its derivative by v_c is ½ softmax(m + ½ v)_c, whichever choice
/// is right; without variance it is the loss itself. `labels` is `[B, 1]`.
pub fn expected_loss_bound(logits: NoisyLogits, labels: Tensor<2, Int>) -> Tensor<2> {
    let half = logits.variances * 0.5;
    let log_probabilities = log_softmax(logits.means + half.clone(), 1);
    (half - log_probabilities).gather(1, labels)
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;
    use crate::metrics::{log_softmax, log_sum_exp};
    use crate::testing::golden_normals;

    const MEANS: [f64; 3] = [0.3, -0.2, 1.0];

    fn bound(variances: [f64; 3], label: i64) -> f64 {
        let device = Device::flex();
        let row = |values: [f64; 3]| {
            let values = values.map(|value| value as f32).to_vec();
            Tensor::<2>::from_data(TensorData::new(values, [1, 3]), &device)
        };
        let logits = NoisyLogits {
            means: row(MEANS),
            variances: row(variances),
        };
        let labels = Tensor::<2, Int>::from_data(TensorData::new(vec![label], [1, 1]), &device);
        f64::from(expected_loss_bound(logits, labels).into_scalar::<f32>())
    }

    /// E −ln softmax(z)_y by 20,000 draws.
    fn expected(variances: [f64; 3], label: usize) -> f64 {
        let normals = golden_normals(7, 60_000);
        let loss = |z: &[f64]| {
            let drawn: Vec<f64> = (0..3)
                .map(|c| MEANS[c] + variances[c].sqrt() * z[c])
                .collect();
            -log_softmax(&drawn, 1.0)[label]
        };
        normals.chunks_exact(3).map(loss).sum::<f64>() / 20_000.0
    }

    #[test]
    fn it_lies_above_the_expected_loss_and_comes_down_to_it_as_the_variance_falls() {
        for label in 0..3 {
            let mut gaps = Vec::new();
            for size in [4.0f64, 1.0, 0.1, 0.01] {
                let variances = [size, 0.5 * size, 2.0 * size];
                // A loss has about the standard deviation of a logit, √(3 size): its mean over
                // 20,000 draws a hundredth of that.
                let error = 0.02 * (3.0 * size).sqrt();
                let gap = bound(variances, label as i64) - expected(variances, label);
                assert!(gap > -error, "{label} {size}: {gap}");
                gaps.push(gap);
            }
            assert!(gaps[0] > 0.5 && gaps[3].abs() < 0.01, "{gaps:?}");
        }
    }

    #[test]
    fn without_variance_it_is_the_loss_and_with_it_the_formula() {
        let loss = -log_softmax(&MEANS, 1.0)[1];
        assert!((bound([0.0; 3], 1) - loss).abs() < 1e-6);
        let variances = [0.4, 0.8, 2.0];
        let shifted = (0..3).map(|c| MEANS[c] + 0.5 * variances[c]);
        let formula = -MEANS[1] + log_sum_exp(shifted);
        assert!((bound(variances, 1) - formula).abs() < 1e-6);
    }

    #[test]
    fn its_gradient_in_a_variance_is_half_the_probability_under_the_shifted_logits() {
        let variances = [0.4, 0.8, 2.0];
        let shifted: Vec<f64> = (0..3).map(|c| MEANS[c] + 0.5 * variances[c]).collect();
        for (choice, log) in log_softmax(&shifted, 1.0).into_iter().enumerate() {
            let moved = |by: f64| {
                let mut variances = variances;
                variances[choice] += by;
                bound(variances, 2)
            };
            let slope = (moved(0.05) - moved(-0.05)) / 0.1;
            assert!((slope - 0.5 * log.exp()).abs() < 1e-4, "{choice}: {slope}");
        }
    }
}

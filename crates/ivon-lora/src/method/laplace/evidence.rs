//! The prior precision λ with the highest evidence, from the eigenvalues h of the curvature, or from
//! its diagonal.
//!
//! ```text
//! log-likelihood − ½ (log det P − log det λI + λ ‖θ‖²),   P = H + λ
//! ```
//!
//! (the published `bayesian_lora` has the wrong sign, the norm unsquared and no ½). Directions in
//! which H is 0 cancel between the two determinants.

use crate::metrics::bisection;

/// The range of the search.
const PRECISIONS: [f64; 2] = [1e-6, 1e8];
/// Halvings of the range in ln λ, from 32 down to 3e-8.
const HALVINGS: usize = 30;

/// The logarithm of the evidence at λ, nats, up to a constant. `squares` is ‖θ‖².
pub fn log_evidence(log_likelihood: f64, h: &[f64], squares: f64, precision: f64) -> f64 {
    log_likelihood
        - 0.5 * (h.iter().map(|h| (h / precision).ln_1p()).sum::<f64>() + precision * squares)
}

/// The λ in [`PRECISIONS`] with the highest evidence: the zero of its slope in ln λ, ½ (Σ h/(h+λ) −
/// λ‖θ‖²), which decreases in λ.
pub fn best_precision(h: &[f64], squares: f64) -> f64 {
    let slope =
        |precision: f64| h.iter().map(|h| h / (h + precision)).sum::<f64>() - precision * squares;
    let is_rising = |logarithm: f64| slope(logarithm.exp()) > 0.0;
    bisection(PRECISIONS.map(f64::ln), HALVINGS, |logarithm| {
        !is_rising(logarithm)
    })
    .exp()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::golden_normals;

    #[test]
    fn no_other_precision_has_a_higher_evidence() {
        let h: Vec<f64> = golden_normals(3, 40).iter().map(|x| x * x * 10.0).collect();
        let best = best_precision(&h, 7.0);
        for step in -500..=500 {
            let other = best * (f64::from(step) * 0.02).exp();
            assert!(log_evidence(-1.0, &h, 7.0, other) <= log_evidence(-1.0, &h, 7.0, best) + 1e-9);
        }
        // All of one kind: h/(h+λ) · 4 = λ · 2 at h = 3 has the root λ = (√33 − 3)/2.
        assert!((best_precision(&[3.0; 4], 2.0) - (33f64.sqrt() - 3.0) / 2.0).abs() < 1e-6);
    }

    #[test]
    fn the_evidence_is_that_of_linear_regression() {
        // One weight, y = θ + noise of variance 1, observed n times at the mean m; prior N(0, 1/λ):
        // ln p(y) in closed form.
        let (y, precision) = ([0.3f64, 1.1, 0.7], 0.6);
        let n = y.len() as f64;
        let map = y.iter().sum::<f64>() / (n + precision);
        let log_likelihood: f64 = y
            .iter()
            .map(|y| -0.5 * (y - map).powi(2) - 0.5 * (2.0 * std::f64::consts::PI).ln())
            .sum();
        // y ~ N(0, I + 11ᵀ/λ): its determinant is 1 + n/λ, its inverse I − 11ᵀ/(λ + n).
        let (sum, squares): (f64, f64) = (y.iter().sum(), y.iter().map(|y| y * y).sum());
        let exact = -0.5
            * (n * (2.0 * std::f64::consts::PI).ln() + (1.0 + n / precision).ln() + squares
                - sum * sum / (precision + n));
        assert!((log_evidence(log_likelihood, &[n], map * map, precision) - exact).abs() < 1e-12);
    }
}

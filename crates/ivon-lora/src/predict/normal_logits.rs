//! Normally distributed logits: the predictions of a set under a posterior that gives the mean and the
//! covariance of each example's logits, from which all draws are made.

use ivon::noise::{Address, Purpose};

use crate::kernel::cholesky;
use crate::metrics::{LogProbabilities, log_softmax};
use crate::posterior::LinearisedForm;

/// A set with the distribution of each example's logits. Logits are relative to the first choice,
/// d_c = z_c − z_0, which is all that a softmax depends on.
pub(super) struct NormalLogits {
    rows: LogProbabilities,
    covariances: Vec<Vec<f64>>,
    keys: Vec<u64>,
    form: LinearisedForm,
}

impl NormalLogits {
    /// An empty set, with room for this many examples.
    pub(super) fn new(form: LinearisedForm, examples: usize) -> Self {
        Self {
            rows: Vec::with_capacity(examples),
            covariances: Vec::with_capacity(examples),
            keys: Vec::with_capacity(examples),
            form,
        }
    }

    /// Adds an example: the key that addresses its noise, its log-probabilities at the mean `[C]` and
    /// the covariance of d `[(C−1)²]`, row by row.
    pub(super) fn push(&mut self, key: u64, log_probabilities: Vec<f64>, covariance: Vec<f64>) {
        self.keys.push(key);
        self.rows.push(log_probabilities);
        self.covariances.push(covariance);
    }

    /// Log-probabilities at the mean, `[N][C]`.
    pub(super) fn mean(&self) -> LogProbabilities {
        self.rows.clone()
    }

    /// `samples` draws of the logits of all examples at τ = `scale`, as log-probabilities `[S][N][C]`;
    /// in the probit form only one, which is the average itself.
    pub(super) fn draws(&self, samples: usize, seed: u64, scale: f64) -> Vec<LogProbabilities> {
        if scale == 0.0 {
            return vec![self.mean(); samples];
        }
        let indices = 0..self.rows.len();
        let probit = |index: usize| probit(&self.rows[index], &self.covariances[index], scale);
        let draw = |sample: usize| {
            let address = Address {
                seed,
                purpose: Purpose::Posterior,
                step: 0,
                draw: sample as u64,
            };
            let rows = indices.clone();
            rows.map(|index| self.drawn(index, address, scale))
                .collect()
        };
        match self.form {
            LinearisedForm::Probit if samples == 0 => Vec::new(),
            LinearisedForm::Probit => vec![indices.clone().map(probit).collect()],
            LinearisedForm::Samples => (0..samples).map(draw).collect(),
        }
    }

    /// Log-probabilities at d + √τ L z, where L Lᵀ is the covariance; z is addressed by the example.
    fn drawn(&self, index: usize, address: Address, scale: f64) -> Vec<f64> {
        let row = &self.rows[index];
        let size = row.len() - 1;
        let root = cholesky(&self.covariances[index], size);
        let mut normals = vec![0.0f32; size];
        address.fill(&format!("linearised.{}", self.keys[index]), &mut normals);
        let mut logits = row.clone();
        for (choice, logit) in logits.iter_mut().skip(1).enumerate() {
            *logit += scale.sqrt()
                * (0..=choice)
                    .map(|k| root[choice * size + k] * f64::from(normals[k]))
                    .sum::<f64>();
        }
        log_softmax(&logits, 1.0)
    }
}

/// MacKay's probit form: softmax(z_c / √(1 + π/8 v_c)), where v_c is the variance of logit c. The
/// variance of a logit depends on what is subtracted from all of them; here z sums to zero over the
/// choices, which treats all choices alike.
fn probit(row: &[f64], covariance: &[f64], scale: f64) -> Vec<f64> {
    let count = row.len();
    let size = count - 1;
    // K, the covariance of (0, d); with the mean over choices subtracted it is H K H, H = I − 1/C.
    let full = |a: usize, b: usize| {
        if a == 0 || b == 0 {
            0.0
        } else {
            covariance[(a - 1) * size + b - 1]
        }
    };
    let share = 1.0 / count as f64;
    let total: f64 = (0..count)
        .flat_map(|a| (0..count).map(move |b| (a, b)))
        .map(|(a, b)| full(a, b))
        .sum();
    let mean = row.iter().sum::<f64>() * share;
    let logits: Vec<f64> = (0..count)
        .map(|choice| {
            let common: f64 = (0..count).map(|other| full(choice, other)).sum();
            let variance = full(choice, choice) - 2.0 * share * common + share * share * total;
            // Relative to the mean of two choices a logit is half of d and has a quarter of its
            // variance; C/(C−1) makes up for it.
            let stretch = count as f64 / size.max(1) as f64;
            (row[choice] - mean)
                / (1.0 + std::f64::consts::PI / 8.0 * scale * variance * stretch * stretch).sqrt()
        })
        .collect();
    log_softmax(&logits, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(row: &[f64], covariance: &[f64], form: LinearisedForm) -> NormalLogits {
        NormalLogits {
            rows: vec![log_softmax(row, 1.0)],
            covariances: vec![covariance.to_vec()],
            keys: vec![7],
            form,
        }
    }

    /// E σ(d + √v z) by the trapezoid rule.
    fn expected(d: f64, v: f64) -> f64 {
        let density = |z: f64| (-0.5 * z * z).exp() / (2.0 * std::f64::consts::PI).sqrt();
        (-4000..=4000)
            .map(|i| f64::from(i) * 0.002)
            .map(|z| 0.002 * density(z) / (1.0 + (-(d + v.sqrt() * z)).exp()))
            .sum()
    }

    #[test]
    fn both_forms_come_near_the_integral() {
        for (d, v) in [(0.5, 1.0), (2.0, 4.0), (-1.0, 0.2)] {
            let samples = set(&[0.0, d], &[v], LinearisedForm::Samples).draws(4000, 3, 1.0);
            let mean = samples.iter().map(|draw| draw[0][1].exp()).sum::<f64>() / 4000.0;
            // A probability has a standard deviation of at most ½: 0.008 for the mean of 4,000.
            assert!(
                (mean - expected(d, v)).abs() < 0.02,
                "{mean} {}",
                expected(d, v)
            );
            let probit = set(&[0.0, d], &[v], LinearisedForm::Probit).draws(10, 3, 1.0);
            assert_eq!(probit.len(), 1);
            assert!(
                (probit[0][0][1].exp()
                    - 1.0 / (1.0 + (-d / (1.0 + std::f64::consts::PI / 8.0 * v).sqrt()).exp()))
                .abs()
                    < 1e-12
            );
            assert!((probit[0][0][1].exp() - expected(d, v)).abs() < 0.02);
        }
    }

    #[test]
    fn draws_of_logits_have_the_covariance_that_was_given() {
        let covariance = [2.0, 0.9, 0.9, 1.0];
        let draws =
            set(&[0.0, 1.0, -1.0], &covariance, LinearisedForm::Samples).draws(8000, 1, 0.25);
        let logits: Vec<[f64; 2]> = draws
            .iter()
            .map(|draw| [draw[0][1] - draw[0][0] - 1.0, draw[0][2] - draw[0][0] + 1.0])
            .collect();
        for (a, b) in [(0, 0), (0, 1), (1, 1)] {
            let found = logits.iter().map(|d| d[a] * d[b]).sum::<f64>() / 8000.0;
            // Standard error of a product's mean: at most √3 · 2 · 0.25 / √8000 = 0.01.
            assert!(
                (found - 0.25 * covariance[2 * a + b]).abs() < 0.04,
                "{a} {b}: {found}"
            );
        }
    }

    #[test]
    fn the_probit_form_treats_all_choices_alike() {
        // The same three logits and covariance with the choices in another order: z independent
        // with variances 1, 2, 3.
        let (logits, variances) = ([0.3, -0.2, 1.0], [1.0, 2.0, 3.0]);
        let of = |order: [usize; 3]| {
            let [a, b, c] = order.map(|choice| variances[choice]);
            let covariance = [a + b, a, a, a + c];
            let found = set(
                &order.map(|choice| logits[choice]),
                &covariance,
                LinearisedForm::Probit,
            )
            .draws(1, 0, 1.0);
            order
                .iter()
                .zip(&found[0][0])
                .map(|(&choice, &log)| (choice, log))
                .collect::<std::collections::BTreeMap<_, _>>()
        };
        let (one, other) = (of([0, 1, 2]), of([2, 0, 1]));
        assert!(
            one.iter()
                .all(|(choice, log)| (log - other[choice]).abs() < 1e-12)
        );
    }
}

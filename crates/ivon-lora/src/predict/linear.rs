//! The linearised model: choice logits as a linear function of the weights around the mean, so that
//! a normal distribution over weights becomes one over logits.
//!
//! Logits are relative to the first choice: d_c = z_c − z_0 for c = 1 … C−1, which is all that a
//! softmax depends on. With the Jacobian J = ∂d/∂θ at the mean, d ~ N(d(mean), τ J Σ Jᵀ).

use std::sync::Arc;

use burn::optim::GradientsParams;
use burn::tensor::{Tensor, TensorData};
use ivon::noise::{Address, Purpose};

use super::choice::{Questions, choice_log_probabilities, log_probabilities_at};
use super::error::PredictError;
use crate::data::Encoded;
use crate::forward::{Network, Observer};
use crate::kernel::cholesky;
use crate::lora::{Adapter, Draw};
use crate::metrics::{LogProbabilities, log_softmax};
use crate::posterior::{Linearised, LinearisedForm, Posterior};
use crate::watch::Progress;

/// The prediction of one example at an adapter, and its derivative by the weights.
#[derive(Clone, Debug)]
pub struct Linearisation {
    /// Log-probabilities `[C]`, nats.
    pub log_probabilities: Vec<f64>,
    /// ∂(z_c − z_0)/∂θ for c = 1 … C−1, `[C−1][P]`, weights in the order of [`Adapter::flatten`].
    pub jacobian: Vec<Vec<f32>>,
}

impl Linearisation {
    /// Predicts an example and differentiates by the weights of the decoder layers from `first` up;
    /// those below are taken as constants. It takes C−1 forward and backward passes, or one forward
    /// pass if there is a single choice.
    ///
    /// # Errors
    /// If a number is not finite, or the device does not return its data.
    pub fn of(
        network: &Network,
        adapter: &Adapter,
        first: usize,
        example: &Encoded,
    ) -> Result<Self, PredictError> {
        let draw = Draw::of(adapter.tracked_from(first));
        let questions = Questions::pack(&[example]);
        let not_finite = || PredictError::NotFinite {
            id: example.id.clone(),
        };
        let choices = example.choices().len();
        let mut row = Vec::new();
        let mut jacobian = Vec::new();
        for choice in 1..choices.max(2) {
            let found = choice_log_probabilities(network, &draw, &questions);
            if choice == 1 {
                row = numbers(found.clone().inner())?;
            }
            if choice < choices {
                let difference = found.clone().narrow(1, choice, 1) - found.narrow(1, 0, 1);
                jacobian.push(gradient(difference, &draw.adapter, first)?);
            }
        }
        if jacobian.iter().flatten().any(|value| !value.is_finite()) {
            return Err(not_finite());
        }
        let row: Vec<f64> = row.into_iter().map(f64::from).collect();
        let log_probabilities = log_softmax(&row, 1.0);
        if log_probabilities.iter().any(|value| value.is_nan()) {
            return Err(not_finite());
        }
        Ok(Self {
            log_probabilities,
            jacobian,
        })
    }

    /// The Hessian of −ln p(label) in d, which is the same for every label: diag(p) − p pᵀ without
    /// the first choice, `[(C−1)²]` row by row.
    pub fn curvature(&self) -> Vec<f64> {
        curvature(&self.log_probabilities)
    }
}

/// The gradient of a scalar by all weights of an adapter, `[P]`, 0 below decoder layer `first`.
fn gradient(scalar: Tensor<2>, adapter: &Adapter, first: usize) -> Result<Vec<f32>, PredictError> {
    let mut flat = Vec::with_capacity(adapter.parameter_count());
    if first >= adapter.layers.len() {
        // No weight is tracked.
        flat.resize(adapter.parameter_count(), 0.0);
        return Ok(flat);
    }
    let mut gradients = GradientsParams::from_grads(scalar.sum().backward(), adapter);
    for (_, parameter) in adapter.parameters() {
        match gradients.remove::<2>(parameter.id) {
            Some(gradient) => flat.extend(numbers(gradient)?),
            None => flat.resize(flat.len() + parameter.lazy_shape().num_elements(), 0.0),
        }
    }
    Ok(flat)
}

/// diag(p) − p pᵀ without the first choice, `[(C−1)²]` row by row.
fn curvature(log_probabilities: &[f64]) -> Vec<f64> {
    let p: Vec<f64> = log_probabilities
        .iter()
        .skip(1)
        .map(|log| log.exp())
        .collect();
    let entry = |a: usize, b: usize| {
        if a == b {
            p[a] * (1.0 - p[a])
        } else {
            -p[a] * p[b]
        }
    };
    (0..p.len())
        .flat_map(|a| (0..p.len()).map(move |b| (a, b)))
        .map(|(a, b)| entry(a, b))
        .collect()
}

/// Predicts an example, `[C]`, nats, and lets `observer` see the backward passes, down to decoder
/// layer `first`, of d weighted by each column of R, where R Rᵀ = Λ is the curvature in d: squares of
/// the gradients, summed over the passes, are those of Jᵀ Λ J. `pass` is called with the number of
/// each pass before it.
///
/// # Errors
/// If a number is not finite, the device does not return its data, or the base is not on the CPU.
pub fn watch_curvature(
    network: &Network,
    adapter: &Adapter,
    first: usize,
    example: &Encoded,
    observer: &Arc<dyn Observer>,
    pass: &mut dyn FnMut(usize),
) -> Result<Vec<f64>, PredictError> {
    let draw = Draw::of(adapter.tracked_from(first));
    let questions = Questions::pack(&[example]);
    let size = example.choices().len().saturating_sub(1);
    let mut row = Vec::new();
    for column in 0..size.max(1) {
        let hidden = network.hidden_watched(&questions.batch, &draw, observer);
        let hidden = hidden.ok_or_else(|| PredictError::OnlyCpu {
            device: "another device".into(),
        })?;
        let found = log_probabilities_at(network, hidden.states, &questions);
        let numbers: Vec<f64> = numbers(found.clone().inner())?
            .into_iter()
            .map(f64::from)
            .collect();
        row = log_softmax(&numbers, 1.0);
        if row.iter().any(|value| value.is_nan()) {
            return Err(PredictError::NotFinite {
                id: example.id.clone(),
            });
        }
        if column < size {
            let weighted = weighted_differences(found, &row, column);
            pass(column);
            weighted.backward();
        }
    }
    Ok(row)
}

/// d weighted by a column of R, from log-probabilities `[1, C]` and their values.
fn weighted_differences(found: Tensor<2>, row: &[f64], column: usize) -> Tensor<1> {
    let size = row.len() - 1;
    let root = cholesky(&curvature(row), size);
    let weights: Vec<f32> = (0..size).map(|k| root[k * size + column] as f32).collect();
    let differences = found.clone().narrow(1, 1, size) - found.narrow(1, 0, 1);
    let weights = Tensor::<2>::from_data(
        TensorData::new(weights, [1, size]),
        &differences.device().without_autodiff(),
    );
    (differences * weights).sum()
}

fn numbers(tensor: Tensor<2>) -> Result<Vec<f32>, PredictError> {
    tensor
        .into_data()
        .try_to_vec::<f32>()
        .map_err(|error| PredictError::Device {
            reason: error.to_string(),
        })
}

/// A set in the linearised model: for each example its log-probabilities at the mean and the
/// covariance of its logits.
pub(super) struct LinearSet {
    rows: LogProbabilities,
    covariances: Vec<Vec<f64>>,
    keys: Vec<u64>,
    form: LinearisedForm,
}

impl LinearSet {
    /// The set under each of several distributions with the same mean, for which each example is
    /// differentiated once. `progress` advances by each example.
    pub(super) fn of_each(
        network: &Network,
        mean: &Adapter,
        distributions: &[&dyn Linearised],
        examples: &[Encoded],
        progress: &mut Progress<'_>,
    ) -> Result<Vec<Self>, PredictError> {
        let empty = |linearised: &&dyn Linearised| Self {
            rows: Vec::with_capacity(examples.len()),
            covariances: Vec::with_capacity(examples.len()),
            keys: examples.iter().map(|example| example.key).collect(),
            form: linearised.form(),
        };
        let mut sets: Vec<Self> = distributions.iter().map(empty).collect();
        let first = distributions
            .iter()
            .map(|linearised| linearised.first_layer())
            .min()
            .unwrap_or(0);
        for example in examples {
            let found = Linearisation::of(network, mean, first, example)?;
            for (set, linearised) in sets.iter_mut().zip(distributions) {
                set.covariances
                    .push(linearised.covariance(&found.jacobian)?);
                set.rows.push(found.log_probabilities.clone());
            }
            progress.advance(1)?;
        }
        Ok(sets)
    }

    /// The set under the linearised model of a posterior.
    pub(super) fn of(
        network: &Network,
        posterior: &dyn Posterior,
        linearised: &dyn Linearised,
        examples: &[Encoded],
        progress: &mut Progress<'_>,
    ) -> Result<Self, PredictError> {
        let mut sets = Self::of_each(network, posterior.mean(), &[linearised], examples, progress)?;
        // One distribution, one set.
        Ok(sets.swap_remove(0))
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

    fn set(row: &[f64], covariance: &[f64], form: LinearisedForm) -> LinearSet {
        LinearSet {
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

    #[test]
    fn the_curvature_is_the_covariance_of_the_label() {
        let p = [0.2f64, 0.3, 0.5];
        let found = Linearisation {
            log_probabilities: p.map(f64::ln).to_vec(),
            jacobian: vec![],
        }
        .curvature();
        let expected = [0.21, -0.15, -0.15, 0.25];
        assert!(
            found
                .iter()
                .zip(expected)
                .all(|(a, b)| (a - b).abs() < 1e-12),
            "{found:?}"
        );
    }
}

//! The linearised model: choice logits as a linear function of the weights around the mean, so that
//! a normal distribution over weights becomes one over logits.
//!
//! Logits are relative to the first choice: d_c = z_c − z_0 for c = 1 … C−1, which is all that a
//! softmax depends on. With the Jacobian J = ∂d/∂θ at the mean, d ~ N(d(mean), τ J Σ Jᵀ).

use std::sync::Arc;

use burn::optim::GradientsParams;
use burn::tensor::{Tensor, TensorData};

use super::choice::{Questions, choice_log_probabilities, log_probabilities_at};
use super::error::PredictError;
use super::normal_logits::NormalLogits;
use crate::data::Encoded;
use crate::forward::{Network, Observer};
use crate::kernel::cholesky;
use crate::lora::{Adapter, Draw};
use crate::metrics::log_softmax;
use crate::posterior::Linearised;
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
        let questions = Questions::pack(&[example])?;
        let not_finite = || PredictError::NotFinite {
            id: example.id.clone(),
        };
        let choices = questions.choices(0);
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
    if first >= adapter.layers() {
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
    let questions = Questions::pack(&[example])?;
    let size = questions.choices(0).saturating_sub(1);
    let mut row = Vec::new();
    for column in 0..size.max(1) {
        let hidden = network.hidden_watched(&questions.batch, &draw, observer);
        let hidden = hidden.ok_or_else(|| PredictError::OnlyCpu {
            device: "another device".into(),
        })?;
        let found = log_probabilities_at(network, &hidden, &questions);
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

/// The logits of a set under each of several distributions with the same mean, for which each example
/// is differentiated once. `progress` advances by each example.
pub(super) fn linearised_logits(
    network: &Network,
    mean: &Adapter,
    distributions: &[&dyn Linearised],
    examples: &[Encoded],
    progress: &mut Progress<'_>,
) -> Result<Vec<NormalLogits>, PredictError> {
    let forms = distributions.iter().map(|linearised| linearised.form());
    let mut sets: Vec<NormalLogits> = forms
        .map(|form| NormalLogits::new(form, examples.len()))
        .collect();
    let first = distributions
        .iter()
        .map(|linearised| linearised.first_layer())
        .min()
        .unwrap_or(0);
    for example in examples {
        let found = Linearisation::of(network, mean, first, example)?;
        for (set, linearised) in sets.iter_mut().zip(distributions) {
            let covariance = linearised.covariance(&found.jacobian)?;
            set.push(example.key, found.log_probabilities.clone(), covariance);
        }
        progress.advance(1)?;
    }
    Ok(sets)
}

#[cfg(test)]
mod tests {
    use super::*;

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

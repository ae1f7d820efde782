//! The exact diagonal of the generalised Gauss–Newton matrix, Σ over the training examples of w Jᵀ Λ J.

use burn::tensor::{Tensor, TensorData};

use super::{Approximation, Curvature, CurvaturePoint, random_weights};
use crate::lora::Adapter;
use crate::posterior::{Gaussian, Laplace, LaplacePrediction};
use crate::predict::{Linearisation, PredictError};
use crate::train::TrainError;
use crate::watch::Progress;

/// The diagonal curvature at an adapter.
pub struct Diagonal {
    /// The diagonal of Σ w Jᵀ Λ J, `[P]`.
    values: Vec<f64>,
    /// Whether each weight is random, `[P]`.
    random: Vec<bool>,
    /// Σ w ln p(label), nats.
    log_likelihood: f64,
}

impl Diagonal {
    /// By C − 1 backward passes an example, down to the lowest decoder layer with random weights.
    pub fn of(at: &CurvaturePoint<'_>, progress: &mut Progress<'_>) -> Result<Self, TrainError> {
        let (adapter, first) = (at.adapter, at.first);
        let random = random_weights(adapter, first);
        let mut found = Self {
            values: vec![0.0; adapter.parameter_count()],
            random,
            log_likelihood: 0.0,
        };
        for example in at.examples {
            if let Some(label) = example.label() {
                let linearisation = Linearisation::of(at.network, adapter, first, example)?;
                found.add(&linearisation, label, at.weights.of(label));
            }
            progress.advance(1).map_err(PredictError::from)?;
        }
        Ok(found)
    }

    /// Adds an example that counts by `weight`.
    fn add(&mut self, example: &Linearisation, label: usize, weight: f64) {
        let log_probability = example.log_probabilities.get(label).copied();
        self.log_likelihood += weight * log_probability.unwrap_or(0.0);
        let (curvature, size) = (example.curvature(), example.jacobian.len());
        for (a, row) in example.jacobian.iter().enumerate() {
            for (b, column) in example.jacobian.iter().enumerate() {
                let entry = weight * curvature[a * size + b];
                for ((h, &row), &column) in self.values.iter_mut().zip(row).zip(column) {
                    *h += entry * f64::from(row) * f64::from(column);
                }
            }
        }
        // Sums of squares, below 0 only by rounding.
        self.values.iter_mut().for_each(|h| *h = h.max(0.0));
    }
}

impl Curvature for Diagonal {
    fn log_likelihood(&self) -> f64 {
        self.log_likelihood
    }

    fn eigenvalues(&self) -> Vec<f64> {
        self.values
            .iter()
            .zip(&self.random)
            .filter(|(_, random)| **random)
            .map(|(h, _)| *h)
            .collect()
    }

    fn posterior(
        &self,
        adapter: &Adapter,
        precision: f64,
        prediction: LaplacePrediction,
        facts: &[(&str, String)],
    ) -> Result<Box<dyn Approximation>, TrainError> {
        let mut variances = self
            .values
            .iter()
            .zip(&self.random)
            .map(|(h, &random)| if random { 1.0 / (h + precision) } else { 0.0 });
        let variance = adapter.clone_with(|_, tensor| {
            let count = tensor.dims().iter().product();
            let values: Vec<f32> = variances
                .by_ref()
                .take(count)
                .map(|variance| variance as f32)
                .collect();
            Tensor::from_data(TensorData::new(values, tensor.dims()), &tensor.device())
        });
        let gaussian =
            Gaussian::new(adapter.clone(), variance)?.with_fact("prior_precision", precision);
        let gaussian = facts.iter().fold(gaussian, |gaussian, (key, value)| {
            gaussian.with_fact(key, value)
        });
        Ok(Box::new(Laplace::new(gaussian, prediction)?))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{examples, network, tiny};
    use super::*;
    use crate::data::Encoded;
    use crate::forward::Network;
    use crate::lora::{Draw, TargetModules};
    use crate::predict::log_probabilities;
    use crate::train::LossWeights;
    use crate::watch::{Event, Stage};

    /// Log-probabilities with weight `place` moved by `by`.
    fn moved(
        network: &Network,
        adapter: &Adapter,
        examples: &[Encoded],
        place: usize,
        by: f32,
    ) -> Vec<Vec<f64>> {
        let mut seen = 0;
        let adapter = adapter.clone_with(|_, tensor| {
            let dims = tensor.dims();
            let mut values: Vec<f32> = tensor.clone().into_data().try_to_vec().unwrap();
            if let Some(value) = place
                .checked_sub(seen)
                .and_then(|place| values.get_mut(place))
            {
                *value += by;
            }
            seen += values.len();
            Tensor::from_data(TensorData::new(values, dims), &tensor.device())
        });
        log_probabilities(
            network,
            &Draw::of(adapter.clone()),
            examples,
            64,
            &mut Progress::silent(),
        )
        .unwrap()
    }

    #[test]
    fn the_diagonal_is_that_of_a_hessian_by_finite_differences() {
        // With the model's p as the label's distribution, the expected Hessian of the loss is the
        // Gauss–Newton matrix: Σ over labels y of p(y) (∂ ln p(y)/∂θ)².
        let (network, examples) = (network(), examples());
        let adapter = tiny(
            &network,
            1,
            TargetModules::List(vec!["q_proj".into()]),
            None,
        );
        let mut watched = 0;
        let mut watch = |event: Event<'_>| {
            if let Event::Progress { done, .. } = event {
                watched = done;
            }
            true
        };
        let point = CurvaturePoint {
            network: &network,
            adapter: &adapter,
            first: 0,
            examples: &examples,
            weights: &LossWeights::default(),
        };
        let mut progress = Progress::new(Stage::Fitting, 3, &mut watch);
        let found = Diagonal::of(&point, &mut progress).unwrap();
        let at = moved(&network, &adapter, &examples, 0, 0.0);
        let log_likelihood: f64 = at
            .iter()
            .zip(&examples)
            .map(|(row, example)| row[example.label().unwrap()])
            .sum();
        assert!((found.log_likelihood - log_likelihood).abs() < 1e-4 && watched == 3);
        let largest = found.values.iter().copied().fold(0.0, f64::max);
        let step = 0.02;
        for place in (0..found.values.len()).step_by(13) {
            let [above, below] =
                [step, -step].map(|by| moved(&network, &adapter, &examples, place, by));
            let mut expected = 0.0;
            for example in 0..examples.len() {
                for (choice, log) in at[example].iter().enumerate() {
                    let slope =
                        (above[example][choice] - below[example][choice]) / (2.0 * f64::from(step));
                    expected += log.exp() * slope * slope;
                }
            }
            assert!(
                (found.values[place] - expected).abs() < 0.02 * expected + 1e-4 * largest,
                "{place}: {} {expected}",
                found.values[place]
            );
        }
    }
}

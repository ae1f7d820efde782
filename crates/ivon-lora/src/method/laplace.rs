//! Laplace-LoRA (Yang et al., arXiv 2308.13111): after AdamW, a normal distribution from the curvature at the weights.
//!
//! H = Σ over the training examples of Jᵀ Λ J, the generalised Gauss–Newton matrix of the *summed* loss over the choices' logits (its
//! diagonal), P = H + λ. The prior precision λ maximises the evidence
//!
//! ```text
//! log-likelihood − ½ (log det P − log det λI + λ ‖θ‖²)
//! ```
//!
//! (the published `bayesian_lora` has a wrong sign there, the norm unsquared and no ½). Prediction is linearised.

use serde::{Deserialize, Serialize};

use super::adamw::AdamwConfig;
use super::{Fit, Settings, Setup};
use crate::lora::Adapter;
use crate::posterior::{Gaussian, Laplace, LaplacePrediction, Posterior};
use crate::predict::{Linearisation, PredictError};
use crate::train::{Optimizer, TrainError};

/// The range in which the prior precision is looked for.
const PRECISIONS: [f64; 2] = [1e-6, 1e8];
/// Halvings of the range: its logarithm, 32, comes down to 3e-8.
const HALVINGS: usize = 30;

/// AdamW's settings and those of the approximation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LaplaceConfig {
    /// Those of the training.
    #[serde(flatten)]
    pub adamw: AdamwConfig,
    /// Which weights are random; the others stay at what was trained.
    pub laplace_layers: LaplaceLayers,
    /// How it predicts.
    pub laplace_prediction: LaplacePrediction,
    /// λ; where absent, the one with the highest evidence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prior_precision: Option<f64>,
}

/// Which weights are random.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LaplaceLayers {
    /// Those of all adapted layers.
    #[default]
    All,
    /// Those of the last decoder layer that is adapted.
    Last,
}

impl Settings for LaplaceConfig {
    fn name(&self) -> &'static str {
        "laplace"
    }

    fn learning_rate(&self) -> f64 {
        self.adamw.learning_rate
    }

    fn set_learning_rate(&mut self, learning_rate: f64) {
        self.adamw.learning_rate = learning_rate;
    }

    fn validate(&self) -> Result<(), TrainError> {
        if let Some(found) = self.prior_precision.filter(|found| !(found.is_finite() && *found > 0.0)) {
            return Err(TrainError::Setting { name: "prior_precision", found: found.to_string(), expected: "a finite number above 0" });
        }
        self.adamw.validate()
    }

    fn start(&self, adapter: Adapter, _: &Setup) -> Result<Box<dyn Optimizer>, TrainError> {
        self.validate()?;
        Ok(Box::new(self.adamw.optimizer(adapter)?))
    }

    fn finish(&self, trained: Vec<Box<dyn Posterior>>, fit: &mut Fit<'_>) -> Result<Box<dyn Posterior>, TrainError> {
        let point = trained.first().ok_or_else(|| TrainError::Optimizer { reason: "nothing was trained".into() })?;
        let adapter = point.mean();
        let random = random_weights(adapter, self.laplace_layers);
        let Curvature { diagonal, log_likelihood } = Curvature::of(adapter, fit)?;
        let weights = adapter.flatten()?;
        let (mut h, mut squares) = (Vec::new(), 0.0);
        for ((&h_i, &weight), _) in diagonal.iter().zip(&weights).zip(&random).filter(|(_, random)| **random) {
            h.push(h_i);
            squares += f64::from(weight).powi(2);
        }
        let precision = self.prior_precision.unwrap_or_else(|| best_precision(&h, squares));
        let mut variances = diagonal.iter().zip(&random).map(|(h, &random)| if random { 1.0 / (h + precision) } else { 0.0 });
        let variance = adapter.clone_with(|_, tensor| {
            let count = tensor.dims().iter().product();
            let values: Vec<f32> = variances.by_ref().take(count).map(|variance| variance as f32).collect();
            burn::tensor::Tensor::from_data(burn::tensor::TensorData::new(values, tensor.dims()), &tensor.device())
        });
        let gaussian = Gaussian::new(adapter.clone(), variance)?
            .with_fact("prior_precision", precision)
            .with_fact("log_evidence", log_evidence(log_likelihood, &h, squares, precision));
        Ok(Box::new(Laplace::new(gaussian, self.laplace_prediction)?))
    }
}

/// For each weight whether it is random, `[P]`.
fn random_weights(adapter: &Adapter, layers: LaplaceLayers) -> Vec<bool> {
    let last = adapter.pairs().map(|(layer, _, _)| layer).max();
    let of = |(layer, pair): (usize, &crate::lora::LoraPair)| {
        let count = pair.lora_A.lazy_shape().num_elements() + pair.lora_B.lazy_shape().num_elements();
        vec![layers == LaplaceLayers::All || Some(layer) == last; count]
    };
    adapter.pairs().map(|(layer, _, pair)| (layer, pair)).flat_map(of).collect()
}

/// What the training examples say at an adapter.
struct Curvature {
    /// The diagonal of Σ Jᵀ Λ J, `[P]`.
    diagonal: Vec<f64>,
    /// Σ ln p(label), nats.
    log_likelihood: f64,
}

impl Curvature {
    fn of(adapter: &Adapter, fit: &mut Fit<'_>) -> Result<Self, TrainError> {
        let mut found = Self { diagonal: vec![0.0; adapter.parameter_count()], log_likelihood: 0.0 };
        let total = fit.train.len();
        for (done, example) in fit.train.iter().enumerate() {
            let Some(label) = example.label else { continue };
            found.add(&Linearisation::of(fit.network, adapter, fit.scaling, example)?, label);
            if !(fit.watch)(done + 1, total) {
                return Err(PredictError::Stopped { done: done + 1, total }.into());
            }
        }
        Ok(found)
    }

    fn add(&mut self, example: &Linearisation, label: usize) {
        self.log_likelihood += example.log_probabilities.get(label).copied().unwrap_or(0.0);
        let (curvature, size) = (example.curvature(), example.jacobian.len());
        for (a, row) in example.jacobian.iter().enumerate() {
            for (b, column) in example.jacobian.iter().enumerate() {
                let weight = curvature[a * size + b];
                for ((h, &row), &column) in self.diagonal.iter_mut().zip(row).zip(column) {
                    *h += weight * f64::from(row) * f64::from(column);
                }
            }
        }
        // A diagonal of squares: below 0 only by rounding.
        self.diagonal.iter_mut().for_each(|h| *h = h.max(0.0));
    }
}

/// The logarithm of the evidence at λ, nats, up to a constant that no λ changes. `squares` is ‖θ‖².
fn log_evidence(log_likelihood: f64, h: &[f64], squares: f64, precision: f64) -> f64 {
    log_likelihood - 0.5 * (h.iter().map(|h| (h / precision).ln_1p()).sum::<f64>() + precision * squares)
}

/// The λ in [`PRECISIONS`] with the highest evidence: where its slope in ln λ, ½ (Σ h/(h+λ) − λ‖θ‖²), which falls throughout, is 0.
fn best_precision(h: &[f64], squares: f64) -> f64 {
    let slope = |precision: f64| h.iter().map(|h| h / (h + precision)).sum::<f64>() - precision * squares;
    let [mut low, mut high] = PRECISIONS.map(f64::ln);
    for _ in 0..HALVINGS {
        let middle = 0.5 * (low + high);
        if slope(middle.exp()) > 0.0 { low = middle } else { high = middle }
    }
    (0.5 * (low + high)).exp()
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor, TensorData};

    use super::*;
    use crate::data::{Choices, Encoded};
    use crate::forward::{LowRank, Network};
    use crate::lora::{LoraConfig, TargetModules};
    use crate::model::{BasePrecision, Checkpoint, Decoder};
    use crate::predict::log_probabilities;
    use crate::testing::{golden, golden_normals};

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
        // One weight, y = θ + noise of variance 1, observed n times at the mean m; prior N(0, 1/λ): ln p(y) in closed form.
        let (y, precision) = ([0.3f64, 1.1, 0.7], 0.6);
        let n = y.len() as f64;
        let map = y.iter().sum::<f64>() / (n + precision);
        let log_likelihood: f64 = y.iter().map(|y| -0.5 * (y - map).powi(2) - 0.5 * (2.0 * std::f64::consts::PI).ln()).sum();
        // y ~ N(0, I + 11ᵀ/λ): its determinant is 1 + n/λ, its inverse I − 11ᵀ/(λ + n).
        let (sum, squares): (f64, f64) = (y.iter().sum(), y.iter().map(|y| y * y).sum());
        let exact = -0.5 * (n * (2.0 * std::f64::consts::PI).ln() + (1.0 + n / precision).ln() + squares - sum * sum / (precision + n));
        assert!((log_evidence(log_likelihood, &[n], map * map, precision) - exact).abs() < 1e-12);
    }

    fn network() -> Network {
        let checkpoint = Checkpoint::open(golden().join("tiny/llama").to_str().unwrap()).unwrap();
        Network::new(Decoder::load(&checkpoint, BasePrecision::F32).unwrap(), &Device::flex(), false)
    }

    /// Rank 1 on one projection of every layer, with numbers away from zero.
    fn tiny(network: &Network) -> Adapter {
        let targets = TargetModules::List(vec!["q_proj".into()]);
        let config = LoraConfig { rank: 1, target_modules: targets, ..LoraConfig::default() };
        let adapter = Adapter::new(&config, network.config(), 2, &Device::flex()).unwrap();
        let mut seed = 0;
        adapter.clone_with(|_, tensor| {
            seed += 1;
            let values: Vec<f32> = golden_normals(seed, tensor.dims().iter().product()).iter().map(|x| 0.3 * *x as f32).collect();
            Tensor::from_data(TensorData::new(values, tensor.dims()), &tensor.device())
        })
    }

    fn examples() -> Vec<Encoded> {
        let example = |key: u32, count: usize| Encoded {
            id: key.to_string(),
            key: u64::from(key),
            tokens: vec![5, 6 + key, 7, 30 - key],
            choices: Choices::Tokens((40..40 + count as u32).collect()),
            label: Some(key as usize % 2),
        };
        vec![example(1, 2), example(2, 3), example(3, 4)]
    }

    /// Log-probabilities with weight `place` moved by `by`.
    fn moved(network: &Network, adapter: &Adapter, examples: &[Encoded], place: usize, by: f32) -> Vec<Vec<f64>> {
        let mut seen = 0;
        let adapter = adapter.clone_with(|_, tensor| {
            let dims = tensor.dims();
            let mut values: Vec<f32> = tensor.clone().into_data().try_to_vec().unwrap();
            if let Some(value) = place.checked_sub(seen).and_then(|place| values.get_mut(place)) {
                *value += by;
            }
            seen += values.len();
            Tensor::from_data(TensorData::new(values, dims), &tensor.device())
        });
        log_probabilities(network, LowRank { adapter: &adapter, scaling: 4.0, dropout: None }, examples, 64, &mut |_| true).unwrap()
    }

    #[test]
    fn the_diagonal_is_that_of_a_hessian_by_finite_differences() {
        // With the model's p as the label's distribution, the expected Hessian of the loss is the Gauss–Newton matrix:
        // Σ over labels y of p(y) (∂ ln p(y)/∂θ)².
        let (network, examples) = (network(), examples());
        let adapter = tiny(&network);
        let mut watched = 0;
        let mut fit = Fit {
            network: &network,
            scaling: 4.0,
            dropout: 0.1,
            seed: 0,
            batch_tokens: 64,
            train: &examples,
            watch: &mut |done, _| {
                watched = done;
                true
            },
        };
        let found = Curvature::of(&adapter, &mut fit).unwrap();
        let at = moved(&network, &adapter, &examples, 0, 0.0);
        let log_likelihood: f64 = at.iter().zip(&examples).map(|(row, example)| row[example.label.unwrap()]).sum();
        assert!((found.log_likelihood - log_likelihood).abs() < 1e-4 && watched == 3);
        let largest = found.diagonal.iter().copied().fold(0.0, f64::max);
        let step = 0.02;
        for place in (0..found.diagonal.len()).step_by(13) {
            let [above, below] = [step, -step].map(|by| moved(&network, &adapter, &examples, place, by));
            let mut expected = 0.0;
            for example in 0..examples.len() {
                for (choice, log) in at[example].iter().enumerate() {
                    let slope = (above[example][choice] - below[example][choice]) / (2.0 * f64::from(step));
                    expected += log.exp() * slope * slope;
                }
            }
            assert!(
                (found.diagonal[place] - expected).abs() < 0.02 * expected + 1e-4 * largest,
                "{place}: {} {expected}",
                found.diagonal[place]
            );
        }
    }

    #[test]
    fn the_last_layer_alone_is_random_where_asked_for() {
        let network = network();
        let adapter = tiny(&network);
        let all = random_weights(&adapter, LaplaceLayers::All);
        let last = random_weights(&adapter, LaplaceLayers::Last);
        assert_eq!(all, vec![true; adapter.parameter_count()]);
        let layer = adapter.parameter_count() / network.config().num_hidden_layers;
        assert!(last.iter().rev().take(layer).all(|random| *random) && last.iter().rev().skip(layer).all(|random| !random));
        let message = LaplaceConfig { prior_precision: Some(0.0), ..LaplaceConfig::default() }.validate().unwrap_err().to_string();
        assert_eq!(message, "`prior_precision` is `0`, expected a finite number above 0");
    }
}

//! TFB, training-free Bayesianization (Shi et al., arXiv 2412.05723): after AdamW, noise on A that
//! is isotropic in the space of B.
//!
//! With the singular value decomposition B = U D Vᵀ the adapter equals B′ = U D, A′ = Vᵀ A. Row i of
//! A′ has noise of standard deviation σ_q/(D_i + 1e-6), so that U D ε is σ_q times a standard normal
//! in each direction of U. A bisection finds the largest σ_q at which the NLL of labelled training
//! examples, weighted as in training, rises by no more than a tolerance under the same standard normals
//! for every σ_q.

use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::adamw::AdamwConfig;
use super::{Fit, Members, Passes, Settings, Setup};
use crate::data::Encoded;
use crate::kernel::eigenvectors;
use crate::lora::{Adapter, HostMatrix, LoraError};
use crate::posterior::{Gaussian, Posterior};
use crate::predict::{EvaluationOptions, Predictor, ScaleTrial};
use crate::settings::{Key, Kind, SettingError};
use crate::train::{Optimizer, TrainError};
use crate::watch::{Progress, Stage};

/// Added to a singular value before dividing by it.
const EPSILON: f64 = 1e-6;
/// The range of σ_q.
const RANGE: [f64; 2] = [0.001, 0.2];

/// AdamW's settings and those of the search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TfbConfig {
    /// Those of the training.
    #[serde(flatten)]
    pub adamw: AdamwConfig,
    /// How much the NLL may rise, as a share of the NLL without noise.
    pub tfb_tolerance: f64,
    /// Draws of each trial.
    pub tfb_samples: usize,
    /// Training examples of each trial, at most: the first ones.
    pub tfb_examples: usize,
    /// Halvings of the range, after its two ends.
    pub tfb_halvings: usize,
}

impl TfbConfig {
    /// A row for each key besides AdamW's.
    pub const KEYS: [Key; 4] = [
        Key::new(
            "tfb_tolerance",
            Kind::Number,
            "How much the NLL of training examples may rise by the noise, as a share of what it is.",
        ),
        Key::new(
            "tfb_samples",
            Kind::Whole,
            "Draws of each trial of the search.",
        ),
        Key::new(
            "tfb_examples",
            Kind::Whole,
            "The most training examples of each trial.",
        ),
        Key::new(
            "tfb_halvings",
            Kind::Whole,
            "Halvings of the range of the noise, after its two ends.",
        ),
    ];
}

impl Default for TfbConfig {
    fn default() -> Self {
        Self {
            adamw: AdamwConfig::default(),
            tfb_tolerance: 0.003,
            tfb_samples: 10,
            tfb_examples: 500,
            tfb_halvings: 6,
        }
    }
}

impl Settings for TfbConfig {
    fn name(&self) -> &'static str {
        "tfb"
    }

    fn keys(&self) -> Vec<Key> {
        [AdamwConfig::KEYS.as_slice(), Self::KEYS.as_slice()].concat()
    }

    fn learning_rate(&self) -> f64 {
        self.adamw.learning_rate
    }

    fn validate(&self) -> Result<(), TrainError> {
        if !(self.tfb_tolerance.is_finite() && self.tfb_tolerance >= 0.0) {
            return Err(SettingError::value(
                "tfb_tolerance",
                self.tfb_tolerance,
                "a finite number, at least 0",
            )
            .into());
        }
        for (name, value) in [
            ("tfb_samples", self.tfb_samples),
            ("tfb_examples", self.tfb_examples),
        ] {
            if !(1..=100_000).contains(&value) {
                return Err(SettingError::value(name, value, "from 1 to 100,000").into());
            }
        }
        if self.tfb_halvings > 30 {
            return Err(
                SettingError::value("tfb_halvings", self.tfb_halvings, "at most 30").into(),
            );
        }
        self.adamw.validate()
    }

    fn learns_texts(&self) -> bool {
        false
    }

    fn fits_afterwards(&self) -> bool {
        true
    }

    fn start(&self, adapter: Adapter, _: &Setup) -> Result<Box<dyn Optimizer>, TrainError> {
        self.validate()?;
        Ok(Box::new(self.adamw.optimizer(adapter)?))
    }

    fn fitting_passes(&self, examples: usize) -> Passes {
        // The mean, both ends of the range, and each halving; fewer where an end decides.
        let share = self.tfb_examples.min(examples) as f64 / examples.max(1) as f64;
        Passes {
            together: share * (1 + (2 + self.tfb_halvings) * self.tfb_samples) as f64,
            alone: 0.0,
        }
    }

    fn finish(
        &self,
        trained: Members,
        fit: &mut Fit<'_>,
    ) -> Result<Box<dyn Posterior>, TrainError> {
        let (mean, variance) = rotated(trained.first().mean())?;
        let sd = self.largest_sd(&Gaussian::new(mean.clone(), variance.clone())?, fit)?;
        let variance = variance.clone_with(|_, tensor| tensor * (sd * sd));
        let gaussian = Gaussian::new(mean, variance)?;
        Ok(Box::new(gaussian.with_fact("sigma_q", sd)))
    }
}

impl TfbConfig {
    /// The largest σ_q that the training examples tolerate; `unit` is the posterior at σ_q = 1.
    fn largest_sd(&self, unit: &Gaussian, fit: &mut Fit<'_>) -> Result<f64, TrainError> {
        let examples = &fit.train[..fit.train.len().min(self.tfb_examples)];
        let options = EvaluationOptions {
            samples: self.tfb_samples,
            scale: 1.0,
            seed: fit.seed,
            batch_tokens: fit.batch_tokens,
        };
        let passes = 1 + (2 + self.tfb_halvings) * options.samples;
        let total = passes * examples.len();
        let mut progress = Progress::new(Stage::Fitting, total, &mut *fit.watch);
        let predictor = Predictor::new(fit.network, unit, &options);
        let labels = || examples.iter().filter_map(Encoded::label);
        // σ_q² multiplies the variance at σ_q = 1, as τ does.
        let mut nll = |sd: f64| -> Result<f64, TrainError> {
            let trials = predictor.scale_trials(examples, &[sd * sd], &mut progress)?;
            let nll = |trial: &ScaleTrial| match fit.weights.is_plain() {
                true => trial.nll,
                false => fit.weights.mean(&trial.losses, labels()),
            };
            Ok(trials.first().map_or(f64::NAN, nll))
        };
        let limit = nll(0.0)? * (1.0 + self.tfb_tolerance);
        largest_accepted(self.tfb_halvings, |sd| Ok(nll(sd)? <= limit))
    }
}

/// The largest accepted σ_q in [`RANGE`], by bisection; 0 if not even the lower end is accepted.
fn largest_accepted(
    halvings: usize,
    mut accepts: impl FnMut(f64) -> Result<bool, TrainError>,
) -> Result<f64, TrainError> {
    let [mut accepted, mut refused] = RANGE;
    if accepts(refused)? {
        return Ok(refused);
    }
    if !accepts(accepted)? {
        return Ok(0.0);
    }
    for _ in 0..halvings {
        let middle = 0.5 * (accepted + refused);
        *(if accepts(middle)? {
            &mut accepted
        } else {
            &mut refused
        }) = middle;
    }
    Ok(accepted)
}

/// The same adapter as B′ = U D and A′ = Vᵀ A, and the variances of its weights at σ_q = 1.
fn rotated(adapter: &Adapter) -> Result<(Adapter, Adapter), LoraError> {
    let matrices = adapter.to_matrices()?;
    let mut means = Vec::with_capacity(matrices.len());
    let mut variances = Vec::with_capacity(matrices.len());
    // A before B of every layer, see `Adapter::parameters`.
    for pair in matrices.chunks_exact(2) {
        let (mean, variance) = rotated_pair(&pair[0].1, &pair[1].1);
        means.extend(mean);
        variances.extend(variance);
    }
    Ok((
        with_matrices(adapter, means),
        with_matrices(adapter, variances),
    ))
}

fn with_matrices(adapter: &Adapter, matrices: Vec<HostMatrix>) -> Adapter {
    let mut matrices = matrices.into_iter();
    adapter.clone_with(|_, tensor| match matrices.next() {
        Some(matrix) => Tensor::from_data(
            TensorData::new(matrix.values, matrix.shape),
            &tensor.device(),
        ),
        None => tensor,
    })
}

/// (A′, B′) and their variances, from A `[r, in]` and B `[out, r]`.
fn rotated_pair(a: &HostMatrix, b: &HostMatrix) -> ([HostMatrix; 2], [HostMatrix; 2]) {
    let ([rank, inputs], [out, _]) = (a.shape, b.shape);
    let gram = |place: usize| {
        let rows = b.values.chunks_exact(rank);
        let entries = rows.map(|row| f64::from(row[place / rank]) * f64::from(row[place % rank]));
        entries.sum()
    };
    let (_, v) = eigenvectors((0..rank * rank).map(gram).collect(), rank);
    // Column i of V is v[k * rank + i]; U D = B V needs no division.
    let rotated_a = |place: usize| {
        let column = a.values.iter().skip(place % inputs).step_by(inputs);
        let terms = column.enumerate();
        terms
            .map(|(k, a)| v[k * rank + place / inputs] * f64::from(*a))
            .sum::<f64>()
    };
    let rotated_b = |place: usize| {
        let row = b.values[place / rank * rank..][..rank].iter().enumerate();
        row.map(|(k, b)| f64::from(*b) * v[k * rank + place % rank])
            .sum()
    };
    let rotated_b: Vec<f64> = (0..out * rank).map(rotated_b).collect();
    let variance = |i: usize| {
        let squares = rotated_b.iter().skip(i).step_by(rank).map(|x| x.powi(2));
        (squares.sum::<f64>().sqrt() + EPSILON).powi(-2) as f32
    };
    let matrix = |shape, values| HostMatrix { shape, values };
    let rotated_a = (0..rank * inputs).map(|place| rotated_a(place) as f32);
    let mean = [
        matrix([rank, inputs], rotated_a.collect()),
        matrix([out, rank], rotated_b.iter().map(|&x| x as f32).collect()),
    ];
    let variances = (0..rank).flat_map(|i| vec![variance(i); inputs]);
    let variances = [
        matrix([rank, inputs], variances.collect()),
        matrix([out, rank], vec![0.0; out * rank]),
    ];
    (mean, variances)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::data::{Choices, Target};
    use crate::forward::Network;
    use crate::lora::LoraConfig;
    use crate::metrics::{Predictions, mean_of_draws};
    use crate::model::{BasePrecision, Checkpoint, Decoder};
    use crate::posterior::PointEstimate;
    use crate::predict::PredictError;
    use crate::testing::golden;
    use crate::testing::golden_normals;
    use crate::train::{ClassWeights, LossWeights};

    fn matrix(seed: u64, shape: [usize; 2]) -> HostMatrix {
        HostMatrix {
            shape,
            values: golden_normals(seed, shape[0] * shape[1])
                .iter()
                .map(|x| *x as f32)
                .collect(),
        }
    }

    /// B A, `[out][in]`.
    fn product(a: &HostMatrix, b: &HostMatrix) -> Vec<f64> {
        let [rank, inputs] = a.shape;
        (0..b.shape[0] * inputs)
            .map(|place| {
                (0..rank)
                    .map(|k| {
                        f64::from(b.values[place / inputs * rank + k])
                            * f64::from(a.values[k * inputs + place % inputs])
                    })
                    .sum()
            })
            .collect()
    }

    #[test]
    fn the_turned_factors_have_the_same_product_and_b_has_orthogonal_columns() {
        let (a, b) = (matrix(1, [4, 7]), matrix(2, [9, 4]));
        let ([turned_a, turned_b], [variance, none]) = rotated_pair(&a, &b);
        for (found, expected) in product(&turned_a, &turned_b).iter().zip(product(&a, &b)) {
            assert!((found - expected).abs() < 1e-5, "{found} {expected}");
        }
        let values = &turned_b.values;
        let column = |i: usize| {
            (0..9)
                .map(|row| f64::from(values[row * 4 + i]))
                .collect::<Vec<f64>>()
        };
        for i in 0..4 {
            for j in 0..4 {
                let inner: f64 = column(i).iter().zip(column(j)).map(|(x, y)| x * y).sum();
                // Noise of row i times column i of B′ has the standard deviation 1.
                let expected = if i == j {
                    1.0 / f64::from(variance.values[i * 7])
                } else {
                    0.0
                };
                assert!(
                    (inner - expected).abs() < 1e-4 * (1.0 + expected),
                    "{i} {j}: {inner} {expected}"
                );
            }
        }
        assert!(none.values.iter().all(|&variance| variance == 0.0));
    }

    #[test]
    fn a_b_of_lower_rank_or_of_zeros_gives_finite_variances() {
        let a = matrix(1, [2, 3]);
        for values in [vec![0.0; 10], [1.0, 1.0].repeat(5)] {
            let ([_, _], [variance, _]) = rotated_pair(
                &a,
                &HostMatrix {
                    shape: [5, 2],
                    values,
                },
            );
            assert!(variance.values.iter().all(|variance| variance.is_finite()));
            assert!(variance.values.iter().any(|&variance| variance > 1e10));
        }
    }

    #[test]
    fn the_largest_accepted_sigma_is_found() {
        // NLL 1 + σ² may rise by 0.003: σ ≤ 0.0548; six halvings leave 0.199/64 = 0.0031.
        let found = largest_accepted(6, |sd| Ok(sd * sd <= 0.003)).unwrap();
        assert!(
            found <= 0.003f64.sqrt() && found > 0.003f64.sqrt() - 0.0032,
            "{found}"
        );
        assert_eq!(largest_accepted(6, |_| Ok(true)).unwrap(), 0.2);
        assert_eq!(largest_accepted(6, |_| Ok(false)).unwrap(), 0.0);
        assert_eq!(largest_accepted(20, |sd| Ok(sd <= 0.001)).unwrap(), 0.001);
        assert!(
            largest_accepted(6, |_| Err(
                PredictError::Stopped { done: 0, total: 1 }.into()
            ))
            .is_err()
        );
    }

    fn network() -> Network {
        let checkpoint = Checkpoint::open(golden().join("tiny/llama").to_str().unwrap()).unwrap();
        let decoder = Decoder::load(&checkpoint, BasePrecision::F32).unwrap();
        Network::new(decoder, &Device::flex(), false)
    }

    fn adapter(network: &Network) -> Adapter {
        let lora = LoraConfig {
            rank: 2,
            ..LoraConfig::default()
        };
        let mut seed = 10;
        let adapter = Adapter::new(&lora, network.config(), 1, &Device::flex()).unwrap();
        adapter.with_scaling(2.0).clone_with(|_, tensor| {
            seed += 1;
            let [rows, columns] = tensor.dims();
            let values = TensorData::new(matrix(seed, [rows, columns]).values, [rows, columns]);
            Tensor::from_data(values, &tensor.device()) * 0.2
        })
    }

    /// Six examples with the labels 0 and 1 in turn.
    fn examples() -> Vec<Encoded> {
        let example = |key: u32| Encoded {
            id: key.to_string(),
            key: u64::from(key),
            tokens: vec![5, 6 + key, 7, 30 - key],
            target: Target::Choice {
                choices: Choices::Tokens(vec![10, 20]),
                label: Some(key as usize % 2),
            },
        };
        (0..6).map(example).collect()
    }

    fn fitted(
        network: &Network,
        train: &[Encoded],
        weights: &LossWeights,
        tfb_tolerance: f64,
    ) -> Box<dyn Posterior> {
        let config = TfbConfig {
            tfb_tolerance,
            tfb_samples: 3,
            ..TfbConfig::default()
        };
        let mut fit = Fit {
            network,
            dropout: 0.0,
            seed: 4,
            batch_tokens: 64,
            train,
            weights,
            calibrate: &[],
            watch: &mut |_| true,
        };
        let point = PointEstimate {
            adapter: adapter(network),
        };
        let found = config.finish(Members::new(Box::new(point)), &mut fit);
        found.unwrap()
    }

    #[test]
    fn the_noise_that_is_found_is_as_much_as_the_examples_bear() {
        let (network, examples) = (network(), examples());
        let found = fitted(&network, &examples, &LossWeights::default(), 0.003);
        let sd: f64 = found
            .stored()
            .unwrap()
            .unwrap()
            .number("sigma_q", "a number")
            .unwrap();
        let options = EvaluationOptions {
            samples: 3,
            seed: 4,
            ..EvaluationOptions::default()
        };
        let nll = |scale: f64| {
            let options = EvaluationOptions { scale, ..options };
            let evaluated = Predictor::new(&network, found.as_ref(), &options)
                .evaluate(&examples, &mut Progress::silent())
                .unwrap();
            Predictions::new(
                mean_of_draws(&evaluated.draws).unwrap(),
                vec![0, 1, 0, 1, 0, 1],
            )
            .unwrap()
            .nll()
        };
        let limit = nll(0.0) * 1.003;
        assert!(
            sd > 0.0 && nll(1.0) <= limit + 1e-6,
            "{sd}: {} {limit}",
            nll(1.0)
        );
        let next = sd + 0.199 / 64.0;
        assert!(
            sd == 0.2 || nll((next / sd).powi(2)) > limit - 1e-6,
            "{sd}: {} {limit}",
            nll((next / sd).powi(2))
        );
    }

    #[test]
    fn a_row_of_weight_two_is_a_row_that_is_there_twice() {
        let network = network();
        let weights = ClassWeights::ByAnswer(vec![1.0, 2.0]).of(&[3, 3]).unwrap();
        let sigma = |examples: &[Encoded], weights: &LossWeights| {
            let found = fitted(&network, examples, weights, 0.1);
            found
                .stored()
                .unwrap()
                .unwrap()
                .number::<f64>("sigma_q", "")
                .unwrap()
        };
        let plain = LossWeights::default();
        let twice = |example: Encoded| vec![example.clone(); 1 + example.label().unwrap()];
        let doubled: Vec<Encoded> = examples().into_iter().flat_map(twice).collect();
        assert_eq!(sigma(&examples(), &weights), sigma(&doubled, &plain));
        assert_ne!(sigma(&examples(), &weights), sigma(&examples(), &plain));
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let message = |config: TfbConfig| config.validate().unwrap_err().to_string();
        let default = TfbConfig::default;
        assert_eq!(
            message(TfbConfig {
                tfb_tolerance: -1.0,
                ..default()
            }),
            "`tfb_tolerance` is `-1`, expected a finite number, at least 0"
        );
        assert_eq!(
            message(TfbConfig {
                tfb_samples: 0,
                ..default()
            }),
            "`tfb_samples` is `0`, expected from 1 to 100,000"
        );
        assert_eq!(
            message(TfbConfig {
                tfb_halvings: 31,
                ..default()
            }),
            "`tfb_halvings` is `31`, expected at most 30"
        );
    }
}

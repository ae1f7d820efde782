//! DALorRA (Zhang et al., arXiv 2607.02182): variational inference over Bernoulli masks on the rank
//! dimensions; A and B are points.
//!
//! ```text
//! ΔW = s · B diag(z) A,   q(z_j) = Bern(σ(φ_j)),   p(z_j) = Bern(p₀)
//! loss = mean of −ln p(label) + w/N · KL(q‖p),     N training examples
//! KL(q‖p) = Σ σ(φ)(φ − φ₀) − ln(1 + e^φ) + ln(1 + e^φ₀),   φ₀ = ln p₀ − ln(1 − p₀)
//! ```
//!
//! φ starts at φ₀. A forward pass uses the relaxed mask z = σ((φ + ε)/τ) with logistic noise ε =
//! ln u − ln(1 − u), or (`hard_masks`) the exact draw, 1 where φ + ε > 0, with the relaxed mask's
//! derivative (straight-through). AdamW trains A and B, and φ at a learning rate of its own.
//!
//! A mask scales a row of A, so that a draw is an ordinary adapter: if G is the gradient with respect
//! to diag(z) A, that of A is diag(z) G and that of z_j is Σ_k G_jk A_jk.

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::adamw::{Adamw, AdamwConfig};
use super::adamw_vector::AdamwVector;
use super::bytes::{Reader, Writer};
use super::{Settings, Setup, flat};
use crate::lora::Adapter;
use crate::posterior::{Dalorra, LARGEST_LOGIT, MaskAddress, Posterior, logistic, scale_rows};
use crate::settings::{Key, Kind, SettingError};
use crate::train::{Evidence, Objective, Optimizer, Through, TrainError, Update};

/// AdamW's settings and those of the masks. The paper states neither p₀ nor τ, and adds the KL to the
/// mean loss without a weight (w = N). The defaults are a prior without preference, the evidence
/// lower bound, and masks that are 0 or 1 in training as they are in prediction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DalorraConfig {
    /// Those of A and B.
    #[serde(flatten)]
    pub adamw: AdamwConfig,
    /// p₀, the prior probability that a rank dimension is kept; the masks start there.
    pub mask_prior: f64,
    /// τ of the relaxed masks.
    pub mask_temperature: f64,
    /// The learning rate of φ before the schedule; 0 keeps the prior.
    pub mask_learning_rate: f64,
    /// w: 1 is the evidence lower bound, N the paper's loss.
    pub mask_kl_weight: f64,
    /// Whether the masks of training are 0 or 1.
    pub hard_masks: bool,
}

impl DalorraConfig {
    /// A row for each key that it has beside AdamW's.
    pub const KEYS: [Key; 5] = [
        Key::new(
            "mask_prior",
            Kind::Number,
            "Prior probability that a rank dimension is kept; the masks start there.",
        ),
        Key::new(
            "mask_temperature",
            Kind::Number,
            "Temperature of the relaxed masks, whose gradient trains the probabilities.",
        ),
        Key::new(
            "mask_learning_rate",
            Kind::Number,
            "Learning rate of the masks' logits before the schedule; 0 keeps the prior.",
        ),
        Key::new(
            "mask_kl_weight",
            Kind::Number,
            "Weight of the KL divided by the number of training examples; 1 is the evidence lower bound.",
        ),
        Key::new(
            "hard_masks",
            Kind::Switch,
            "Train with masks of 0 and 1 and straight-through gradients instead of relaxed masks.",
        ),
    ];

    /// φ₀.
    fn prior_logit(&self) -> f64 {
        self.mask_prior.ln() - (1.0 - self.mask_prior).ln()
    }

    /// The mask at φ + ε.
    fn mask(&self, noisy_logit: f64) -> Mask {
        let relaxed = logistic(noisy_logit / self.mask_temperature);
        let value = match self.hard_masks {
            true => f64::from(u8::from(noisy_logit > 0.0)),
            false => relaxed,
        };
        Mask {
            value,
            slope: relaxed * (1.0 - relaxed) / self.mask_temperature,
        }
    }
}

impl Default for DalorraConfig {
    fn default() -> Self {
        Self {
            adamw: AdamwConfig::default(),
            mask_prior: 0.5,
            mask_temperature: 0.5,
            mask_learning_rate: 0.01,
            mask_kl_weight: 1.0,
            hard_masks: true,
        }
    }
}

impl Settings for DalorraConfig {
    fn name(&self) -> &'static str {
        "dalorra"
    }

    fn keys(&self) -> Vec<Key> {
        [AdamwConfig::KEYS.as_slice(), Self::KEYS.as_slice()].concat()
    }

    fn learning_rate(&self) -> f64 {
        self.adamw.learning_rate
    }

    fn validate(&self) -> Result<(), TrainError> {
        if !(1e-6..=0.999999).contains(&self.mask_prior) {
            return Err(SettingError::value(
                "mask_prior",
                self.mask_prior,
                "from 0.000001 to 0.999999",
            )
            .into());
        }
        if !(0.01..=100.0).contains(&self.mask_temperature) {
            return Err(SettingError::value(
                "mask_temperature",
                self.mask_temperature,
                "from 0.01 to 100",
            )
            .into());
        }
        for (name, value) in [
            ("mask_learning_rate", self.mask_learning_rate),
            ("mask_kl_weight", self.mask_kl_weight),
        ] {
            if !(value.is_finite() && value >= 0.0) {
                return Err(SettingError::value(name, value, "a finite number, at least 0").into());
            }
        }
        self.adamw.validate()
    }

    fn start(&self, adapter: Adapter, setup: &Setup) -> Result<Box<dyn Optimizer>, TrainError> {
        self.validate()?;
        let rows = adapter.pairs().map(|(_, pair)| pair.rank()).sum();
        Ok(Box::new(DalorraOptimizer {
            adamw: self.adamw.optimizer(adapter)?,
            logits: AdamwVector::new(vec![self.prior_logit() as f32; rows]),
            kl_weight: self.mask_kl_weight / setup.examples.max(1) as f64,
            seed: setup.seed,
            config: self.clone(),
        }))
    }
}

/// A mask of training.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Mask {
    /// z.
    value: f64,
    /// ∂z/∂φ.
    slope: f64,
}

/// ln(1 + e^x).
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// KL(Bern(σ(φ)) ‖ Bern(σ(φ₀))) in nats.
fn divergence(logit: f64, prior: f64) -> f64 {
    logistic(logit) * (logit - prior) - softplus(logit) + softplus(prior)
}

/// Its derivative by φ: σ(φ)(1 − σ(φ))(φ − φ₀).
fn divergence_slope(logit: f64, prior: f64) -> f64 {
    logistic(logit) * logistic(-logit) * (logit - prior)
}

/// The logits φ after a step, within the range of masks that can still differ.
fn bounded(mut logits: AdamwVector, step: u64) -> Result<AdamwVector, TrainError> {
    if logits.values.iter().any(|value| !value.is_finite()) {
        return Err(TrainError::Step {
            step,
            reason: "a logit of the masks is not finite".into(),
            good: None,
        });
    }
    for value in &mut logits.values {
        *value = value.clamp(-LARGEST_LOGIT, LARGEST_LOGIT);
    }
    Ok(logits)
}

/// An objective at draws of the masks, which accumulates the gradient of φ.
struct AtMasks<'a> {
    config: &'a DalorraConfig,
    logits: &'a [f32],
    /// The address of the next draw.
    address: MaskAddress,
    /// Σ share · ∂loss/∂φ of each row of every A.
    slopes: Vec<f64>,
}

impl AtMasks<'_> {
    fn evaluate(
        &mut self,
        inner: &mut dyn Objective,
        adapter: &Adapter,
        micro_batch: usize,
        draw: u64,
    ) -> Result<Evidence, TrainError> {
        let weights = adapter.valid();
        let noise = self.address.noise(&weights);
        self.address.draw += 1;
        let noisy = self.logits.iter().zip(noise);
        let masks: Vec<Mask> = noisy
            .map(|(&logit, noise)| self.config.mask(f64::from(logit) + noise))
            .collect();
        let values: Vec<f64> = masks.iter().map(|mask| mask.value).collect();
        let masked = scale_rows(&weights, &values)?.train();
        let share = inner.share(micro_batch);
        let mut evidence = inner.evaluate(&masked, micro_batch, draw)?;
        let by_mask = through_masks(&mut evidence.gradients, &weights, &values)?;
        for ((sum, by_mask), mask) in self.slopes.iter_mut().zip(by_mask).zip(masks) {
            *sum += share * by_mask * mask.slope;
        }
        Ok(evidence)
    }
}

/// Turns the gradients G with respect to diag(z) A into those of A, and returns those of z: Σ_k G_jk
/// A_jk for each row of every A, in the adapter's order.
fn through_masks(
    gradients: &mut GradientsParams,
    weights: &Adapter,
    masks: &[f64],
) -> Result<Vec<f64>, TrainError> {
    let mut by_mask = Vec::with_capacity(masks.len());
    let matrices = weights.to_matrices()?;
    let with_ids = weights.parameters().zip(matrices);
    for ((path, parameter), (_, matrix)) in with_ids {
        if !path.ends_with("lora_A") {
            continue;
        }
        let start = by_mask.len();
        let Some(mut gradient) = flat::gradient(gradients, parameter.id)? else {
            by_mask.resize(start + matrix.shape[0], 0.0);
            continue;
        };
        let columns = matrix.shape[1].max(1);
        let rows = gradient
            .chunks_mut(columns)
            .zip(matrix.values.chunks(columns));
        for ((row, weights), mask) in rows.zip(&masks[start..]) {
            let products = row.iter().zip(weights);
            by_mask.push(products.map(|(g, a)| f64::from(*g) * f64::from(*a)).sum());
            row.iter_mut()
                .for_each(|g| *g = (f64::from(*g) * mask) as f32);
        }
        let data = TensorData::new(gradient, matrix.shape);
        let device = parameter.val().device();
        gradients.register(parameter.id, Tensor::<2>::from_data(data, &device));
    }
    Ok(by_mask)
}

/// DALorRA under the training contract: AdamW at draws of the masks.
#[derive(Debug)]
struct DalorraOptimizer {
    adamw: Adamw,
    config: DalorraConfig,
    /// φ of each row of every A, in the adapter's order.
    logits: AdamwVector,
    /// w/N.
    kl_weight: f64,
    seed: u64,
}

impl DalorraOptimizer {
    /// The step of φ that follows AdamW's on A and B, along the `slopes` of the loss and those of the
    /// KL. Returns w/N · KL(q‖p) before the step.
    fn descend(&mut self, learning_rate: f64, mut slopes: Vec<f64>) -> Result<f64, TrainError> {
        let (config, prior) = (&self.config, self.config.prior_logit());
        let mut sum = 0.0;
        for (slope, &logit) in slopes.iter_mut().zip(&self.logits.values) {
            sum += divergence(f64::from(logit), prior);
            *slope += self.kl_weight * divergence_slope(f64::from(logit), prior);
        }
        let rate = config.mask_learning_rate * learning_rate / config.adamw.learning_rate;
        let slopes = slopes.into_iter().map(|slope| slope as f32).collect();
        let logits = self.logits.after_step(&config.adamw, slopes, rate)?;
        self.logits = bounded(logits, self.adamw.steps())?;
        Ok(self.kl_weight * sum)
    }
}

impl Optimizer for DalorraOptimizer {
    /// The loss of the update includes the KL.
    fn step(
        &mut self,
        learning_rate: f64,
        objective: &mut dyn Objective,
    ) -> Result<Update, TrainError> {
        let before = self.adamw.clone();
        let mut at_masks = AtMasks {
            config: &self.config,
            logits: &self.logits.values,
            address: MaskAddress {
                seed: self.seed,
                step: before.steps() + 1,
                draw: 0,
            },
            slopes: vec![0.0; self.logits.values.len()],
        };
        let mut through = Through::new(objective, |inner, adapter, micro_batch, draw| {
            at_masks.evaluate(inner, adapter, micro_batch, draw)
        });
        let update = self.adamw.step(learning_rate, &mut through)?;
        let slopes = at_masks.slopes;
        match self.descend(learning_rate, slopes) {
            Ok(divergence) => Ok(Update {
                loss: update.loss + divergence,
                ..update
            }),
            Err(error) => {
                self.adamw = before;
                Err(error)
            }
        }
    }

    /// A and B without masks; in the posterior's mean the rows of A are scaled by σ(φ).
    fn adapter(&self) -> &Adapter {
        self.adamw.adapter()
    }

    fn posterior(&self) -> Box<dyn Posterior> {
        let weights = self.adamw.adapter().valid();
        match Dalorra::of_weights(&weights, self.logits.values.clone()) {
            Ok(masks) => Box::new(masks.with_fact("mask_prior", self.config.mask_prior)),
            // φ is in range after every step, and a device that returns no data has failed the step.
            Err(_) => self.adamw.posterior(),
        }
    }

    fn state(&self) -> Result<Vec<u8>, TrainError> {
        let writer = Writer::default().bytes(&self.adamw.state()?);
        Ok(self.logits.write(writer).finish())
    }

    fn restore(&mut self, adapter: Adapter, state: &[u8]) -> Result<(), TrainError> {
        let mut reader = Reader::new(state);
        let adamw = reader.bytes()?;
        let logits = AdamwVector::read(&mut reader, self.logits.values.len())?;
        reader.finish()?;
        self.adamw.restore(adapter, adamw)?;
        self.logits = logits;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::data::{Choices, Encoded, Target};
    use crate::forward::Network;
    use crate::method::testing::{Bowl, OneBatch};
    use crate::model::{BasePrecision, Checkpoint, Decoder};
    use crate::testing::tiny::adapter;
    use crate::testing::{golden, golden_normals};
    use crate::train::BatchObjective;

    const SETUP: Setup = Setup {
        seed: 3,
        steps: 4,
        steps_per_epoch: 1,
        batch_size: 4,
        accumulation: 1,
        examples: 5,
        dropout: 0.0,
        weight_of_squares: 1.0,
    };

    fn config(learning_rate: f64) -> DalorraConfig {
        DalorraConfig {
            adamw: AdamwConfig {
                learning_rate,
                ..AdamwConfig::default()
            },
            ..DalorraConfig::default()
        }
    }

    #[test]
    fn the_kl_is_the_sum_over_both_values_of_a_mask_and_its_slope_that_by_finite_differences() {
        for (logit, prior) in [(0.3, -1.0), (-4.0, 2.0), (17.0, 0.0), (0.5, 0.5)] {
            let (q, p) = (logistic(logit), logistic(prior));
            let sum = q * (q / p).ln() + (1.0 - q) * ((1.0 - q) / (1.0 - p)).ln();
            assert!((divergence(logit, prior) - sum).abs() < 1e-9, "{logit}");
            let step = 1e-5;
            let [above, below] = [step, -step].map(|by| divergence(logit + by, prior));
            let slope = (above - below) / (2.0 * step);
            assert!(
                (divergence_slope(logit, prior) - slope).abs() < 1e-8,
                "{logit}"
            );
        }
        assert!(divergence(LARGEST_LOGIT.into(), -14.0).is_finite());
        let config = DalorraConfig {
            mask_prior: 0.2,
            ..config(1.0)
        };
        assert!((logistic(config.prior_logit()) - 0.2).abs() < 1e-15);
    }

    #[test]
    fn a_hard_mask_is_the_rounded_relaxed_one_with_its_slope() {
        let relaxed = DalorraConfig {
            hard_masks: false,
            mask_temperature: 0.4,
            ..config(1.0)
        };
        let hard = DalorraConfig {
            hard_masks: true,
            ..relaxed.clone()
        };
        for logit in [-3.0, -0.2, 0.1, 2.5] {
            let (soft, mask) = (relaxed.mask(logit), hard.mask(logit));
            assert_eq!(mask.value, soft.value.round());
            assert_eq!(mask.slope, soft.slope);
            let step = 1e-6;
            let [above, below] = [step, -step].map(|by| relaxed.mask(logit + by).value);
            assert!((soft.slope - (above - below) / (2.0 * step)).abs() < 1e-8);
        }
    }

    fn network() -> Network {
        let checkpoint = Checkpoint::open(golden().join("tiny/llama").to_str().unwrap()).unwrap();
        let decoder = Decoder::load(&checkpoint, BasePrecision::F32).unwrap();
        Network::new(decoder, &Device::flex(), false)
    }

    fn examples() -> Vec<Encoded> {
        let example = |key: u32| Encoded {
            id: key.to_string(),
            key: u64::from(key),
            tokens: vec![5, 6, 7, 8, 9 + key, 7, 30 - key],
            target: Target::Choice {
                choices: Choices::Tokens(vec![40, 41, 42]),
                label: Some(key as usize % 2),
            },
        };
        (0..3).map(example).collect()
    }

    /// Loss, gradients of A and B, and those of φ, of two micro-batches under the noise of step 3.
    fn evidence(network: &Network, adapter: &Adapter, logits: &[f32]) -> (f64, Vec<f32>, Vec<f64>) {
        let examples = examples();
        let batches = [examples[..2].iter().collect(), vec![&examples[2]]];
        let config = DalorraConfig {
            hard_masks: false,
            ..config(1.0)
        };
        let inner = &mut BatchObjective::new(network, 0.0, 1, 4, &batches);
        let mut at_masks = AtMasks {
            config: &config,
            logits,
            address: MaskAddress {
                seed: 9,
                step: 3,
                draw: 0,
            },
            slopes: vec![0.0; logits.len()],
        };
        let adapter = adapter.clone().train();
        let (mut loss, mut sum) = (0.0, Vec::new());
        for micro_batch in 0..2 {
            let share = inner.share(micro_batch);
            let mut evidence = at_masks.evaluate(inner, &adapter, micro_batch, 0).unwrap();
            loss += share * evidence.loss;
            let part = flat::gradients(&adapter, &mut evidence.gradients) * share;
            let part = part.into_data().try_to_vec::<f32>().unwrap();
            sum.resize(part.len(), 0.0);
            sum.iter_mut()
                .zip(part)
                .for_each(|(sum, g): (&mut f32, _)| *sum += g);
        }
        (loss, sum, at_masks.slopes)
    }

    #[test]
    fn the_gradients_of_logits_and_weights_are_those_of_the_loss_by_finite_differences() {
        let network = network();
        let weights = adapter(network.config().num_hidden_layers, "q_proj,v_proj")
            .clone_with(|_, tensor| tensor * 3.0);
        let rows: usize = weights.pairs().map(|(_, pair)| pair.rank()).sum();
        let normals = |seed, count: usize| -> Vec<f32> {
            let numbers = golden_normals(seed, count);
            numbers.iter().map(|x| *x as f32).collect()
        };
        let logits = normals(5, rows);
        let (_, gradients, slopes) = evidence(&network, &weights, &logits);
        let check = |name: &str, expected: f64, moved: &dyn Fn(f32) -> f64, step: f32| {
            let slope = (moved(step) - moved(-step)) / f64::from(2.0 * step);
            let is_close = (slope - expected).abs() < 0.02 * expected.abs() + 1e-5;
            assert!(
                is_close && expected.abs() > 1e-3,
                "{name}: {slope} {expected}"
            );
        };
        let by_logits = normals(6, rows);
        let inner = |(g, x): (f64, &f32)| g * f64::from(*x);
        let expected = slopes.into_iter().zip(&by_logits).map(inner).sum();
        let moved = |by: f32| {
            let moved = logits
                .iter()
                .zip(&by_logits)
                .map(|(logit, x)| logit + by * x);
            evidence(&network, &weights, &moved.collect::<Vec<_>>()).0
        };
        check("logits", expected, &moved, 0.02);
        let by_weights = normals(7, gradients.len());
        let gradients = gradients.into_iter().map(f64::from);
        let expected = gradients.zip(&by_weights).map(inner).sum();
        let moved = |by: f32| {
            let mut places = by_weights.iter();
            let weights = weights.clone_with(|_, tensor| {
                let (dims, device) = (tensor.dims(), tensor.device());
                let step = places.by_ref().take(dims.iter().product()).map(|x| by * x);
                tensor + Tensor::from_data(TensorData::new(step.collect(), dims), &device)
            });
            evidence(&network, &weights, &logits).0
        };
        check("weights", expected, &moved, 1e-3);
    }

    fn matrices(adapter: &Adapter) -> Vec<Vec<f32>> {
        let matrices = adapter.to_matrices().unwrap().into_iter();
        matrices.map(|(_, matrix)| matrix.values).collect()
    }

    /// σ(φ) of each row: the posterior's mean over the weights.
    fn probabilities(optimizer: &dyn Optimizer) -> Vec<f64> {
        let mean = matrices(optimizer.posterior().mean());
        let whole = matrices(optimizer.adapter());
        let rows = mean[0].chunks(32).zip(whole[0].chunks(32));
        rows.map(|(mean, whole)| f64::from(mean[0]) / f64::from(whole[0]))
            .collect()
    }

    #[test]
    fn a_step_is_the_one_worked_out_by_hand() {
        let mut optimizer = config(0.01).start(adapter(1, "q_proj"), &SETUP).unwrap();
        let before = matrices(optimizer.adapter());
        let mut bowl = Bowl::default();
        // Half the learning rate is half of the schedule, for φ as well.
        let first = optimizer.step(0.005, &mut bowl).unwrap();
        let (drawn, after) = (&bowl.seen[0], matrices(optimizer.adapter()));
        let found = probabilities(optimizer.as_ref());
        let mut kept = 0;
        for row in 0..4 {
            let place = row * 32..(row + 1) * 32;
            let (drawn, whole) = (&drawn[place.clone()], &before[0][place.clone()]);
            let is_kept = drawn.iter().any(|value| *value != 0.0);
            // The bowl's gradient is the weight itself: a row that is dropped stays, and so does its
            // φ, since at the prior nothing pulls. AdamW's first step is the sign of a gradient.
            let (by, logit) = if is_kept { (0.005, -0.005) } else { (0.0, 0.0) };
            for ((drawn, whole), after) in drawn.iter().zip(whole).zip(&after[0][place]) {
                assert_eq!(*drawn, if is_kept { *whole } else { 0.0 });
                assert!((after - (whole - by * whole.signum())).abs() < 1e-6);
            }
            assert!(
                (found[row] - logistic(logit)).abs() < 1e-6,
                "{row}: {found:?}"
            );
            kept += u32::from(is_kept);
        }
        assert!((1..4).contains(&kept));
        let squares: f64 = drawn.iter().map(|x| f64::from(*x).powi(2)).sum();
        assert!((first.loss - 0.5 * squares).abs() < 1e-4);
        // The loss of the next step has the KL of what this one has done.
        let second = optimizer.step(0.005, &mut bowl).unwrap();
        let squares: f64 = bowl.seen[1].iter().map(|x| f64::from(*x).powi(2)).sum();
        let kl = f64::from(kept) * divergence(-0.005, 0.0) / 5.0;
        assert!(kl > 1e-7 && (second.loss - 0.5 * squares - kl).abs() < 1e-4);
    }

    /// B A of the only pair.
    fn product(adapter: &Adapter) -> Tensor<2> {
        let pair = adapter.pairs().next().unwrap().1;
        pair.lora_B.val().matmul(pair.lora_A.val())
    }

    #[test]
    fn what_the_data_want_is_kept_what_harms_is_dropped_and_what_is_useless_goes_to_the_prior() {
        // Of four dimensions the data want the first and the last; the third has no column of B.
        let weights = adapter(1, "q_proj").clone_with(|path, tensor| {
            if path.ends_with("lora_A") {
                return tensor;
            }
            let columns = [1.0f32, 1.0, 0.0, 1.0];
            tensor.clone() * Tensor::<1>::from_data(columns, &tensor.device()).unsqueeze()
        });
        let target = product(&scale_rows(&weights, &[1.0, 0.0, 0.0, 1.0]).unwrap());
        let mut data = OneBatch(|adapter: &Adapter| {
            let target = Tensor::from_inner(target.clone());
            let loss = (product(adapter) - target).square().sum() * 5e3;
            Evidence {
                loss: f64::from(loss.clone().into_scalar::<f32>()),
                gradients: GradientsParams::from_grads(loss.backward(), adapter),
            }
        });
        let config = DalorraConfig {
            mask_prior: 0.2,
            mask_learning_rate: 0.05,
            // A and B stay.
            ..config(1e-12)
        };
        let mut optimizer = config.start(weights.clone(), &SETUP).unwrap();
        // All start at a probability of 0.88.
        let adamw = config.adamw.optimizer(weights.clone()).unwrap();
        let writer = Writer::default().bytes(&adamw.state().unwrap());
        let state = AdamwVector::new(vec![2.0; 4]).write(writer).finish();
        optimizer.restore(weights, &state).unwrap();
        for _ in 0..400 {
            optimizer.step(1e-12, &mut data).unwrap();
        }
        let found = probabilities(optimizer.as_ref());
        assert!(found[0] > 0.9 && found[3] > 0.9, "{found:?}");
        assert!(found[1] < 0.1, "{found:?}");
        assert!((found[2] - 0.2).abs() < 0.01, "{found:?}");
    }

    #[test]
    fn logits_that_overflow_are_an_error_that_changes_nothing() {
        let ones = adapter(1, "q_proj").clone_with(|_, tensor| tensor.zeros_like() + 1.0);
        let config = DalorraConfig {
            // So that the relaxed masks are not all near 0 or 1, where the slopes vanish.
            mask_temperature: 1.0,
            ..config(0.01)
        };
        let mut optimizer = config.start(ones, &SETUP).unwrap();
        let before = (optimizer.state().unwrap(), matrices(optimizer.adapter()));
        let mut steep = OneBatch(|adapter: &Adapter| {
            let mut gradients = GradientsParams::new();
            for (_, parameter) in adapter.parameters() {
                let gradient = parameter.val().inner().zeros_like() + 3e38;
                gradients.register(parameter.id, gradient);
            }
            let loss = 0.0;
            Evidence { loss, gradients }
        });
        let error = optimizer.step(0.01, &mut steep).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("a logit of the masks is not finite"),
            "{error}"
        );
        assert_eq!(
            before,
            (optimizer.state().unwrap(), matrices(optimizer.adapter()))
        );
    }

    #[test]
    fn the_logits_stay_where_masks_can_still_differ() {
        let logits = |values| bounded(AdamwVector::new(values), 1);
        let values = logits(vec![18.5, -3.0, -40.0]).unwrap().values;
        assert_eq!(values, [LARGEST_LOGIT, -3.0, -LARGEST_LOGIT]);
        assert!(logits(vec![f32::NAN]).is_err());
    }

    #[test]
    fn a_state_of_another_adapter_is_refused() {
        let start = |targets| config(0.01).start(adapter(1, targets), &SETUP).unwrap();
        let state = start("q_proj").state().unwrap();
        let mut two = start("q_proj,v_proj");
        let error = two
            .restore(adapter(1, "q_proj,v_proj"), &state)
            .unwrap_err();
        assert!(
            error
                .to_string()
                .contains("a list of 4 numbers, expected 8"),
            "{error}"
        );
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let message = |config: DalorraConfig| config.validate().unwrap_err().to_string();
        let default = DalorraConfig::default;
        assert_eq!(
            message(DalorraConfig {
                mask_prior: 1.0,
                ..default()
            }),
            "`mask_prior` is `1`, expected from 0.000001 to 0.999999"
        );
        assert_eq!(
            message(DalorraConfig {
                mask_temperature: 0.0,
                ..default()
            }),
            "`mask_temperature` is `0`, expected from 0.01 to 100"
        );
        assert_eq!(
            message(DalorraConfig {
                mask_learning_rate: -1.0,
                ..default()
            }),
            "`mask_learning_rate` is `-1`, expected a finite number, at least 0"
        );
        assert_eq!(
            message(DalorraConfig {
                mask_kl_weight: f64::INFINITY,
                ..default()
            }),
            "`mask_kl_weight` is `inf`, expected a finite number, at least 0"
        );
    }
}

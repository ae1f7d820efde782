//! AdamW (Loshchilov and Hutter, arXiv 1711.05101), the paper's baseline, as PyTorch implements it.
//!
//! ```text
//! θ ← θ − lr δ θ        m ← β₁ m + (1−β₁) g        v ← β₂ v + (1−β₂) g²
//! θ ← θ − lr · m/(1−β₁ᵗ) / (√(v/(1−β₂ᵗ)) + ε)
//! ```

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::{Settings, Setup, flat};
use crate::lora::Adapter;
use crate::posterior::{PointEstimate, Posterior};
use crate::settings::{Key, Kind, SettingError};
use crate::train::{Objective, Optimizer, TrainError, Update};

/// AdamW's settings. The default learning rate and the weight decay of 0 are the paper's, the rest is
/// PyTorch's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdamwConfig {
    /// The learning rate before the schedule.
    pub learning_rate: f64,
    /// β₁, decay of the first moment.
    pub beta1: f64,
    /// β₂, decay of the second moment.
    pub beta2: f64,
    /// ε, added to the square root of the second moment.
    pub epsilon: f64,
    /// δ, decoupled weight decay.
    pub weight_decay: f64,
    /// The largest norm of the gradient; 0 for no limit.
    pub max_grad_norm: f64,
}

impl AdamwConfig {
    pub(super) const LEARNING_RATE: Key = Key::new(
        "learning_rate",
        Kind::Number,
        "The learning rate before the schedule.",
    )
    .with_flag("learning-rate", "X");
    pub(super) const BETA1: Key =
        Key::new("beta1", Kind::Number, "Decay of the momentum.").with_flag("beta1", "X");
    pub(super) const BETA2: Key = Key::new(
        "beta2",
        Kind::Number,
        "Decay of the Hessian (adamw: of the second moment).",
    )
    .with_flag("beta2", "X");
    pub(super) const WEIGHT_DECAY: Key = Key::new(
        "weight_decay",
        Kind::Number,
        "Pulls weights to 0; with ivon it is the prior's precision per effective example.",
    )
    .with_flag("weight-decay", "X");
    pub(super) const MAX_GRAD_NORM: Key = Key::new(
        "max_grad_norm",
        Kind::Number,
        "The largest norm of the gradient; 0 for no limit.",
    )
    .with_flag("max-grad-norm", "X");

    /// A row for each key.
    pub const KEYS: [Key; 6] = [
        Self::LEARNING_RATE,
        Self::BETA1,
        Self::BETA2,
        Key::new(
            "epsilon",
            Kind::Number,
            "Added to the root of the second moment.",
        ),
        Self::WEIGHT_DECAY,
        Self::MAX_GRAD_NORM,
    ];
}

impl Default for AdamwConfig {
    fn default() -> Self {
        Self {
            learning_rate: 5e-5,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.0,
            max_grad_norm: 0.0,
        }
    }
}

impl AdamwConfig {
    /// The optimizer at its start.
    ///
    /// # Errors
    /// If a setting is out of range.
    pub fn optimizer(&self, adapter: Adapter) -> Result<Adamw, TrainError> {
        self.validate()?;
        let adapter = adapter.train();
        let zeros = flat::values(&adapter).zeros_like();
        Ok(Adamw {
            config: self.clone(),
            adapter,
            moments: [zeros.clone(), zeros],
            step: 0,
        })
    }

    /// One step on flat tensors `[P]`: weights and moments, before → after. `step` counts from 1.
    pub(super) fn update(
        &self,
        weights: Tensor<1>,
        [first, second]: [Tensor<1>; 2],
        gradient: Tensor<1>,
        learning_rate: f64,
        step: u64,
    ) -> (Tensor<1>, [Tensor<1>; 2]) {
        let exponent = step.min(i32::MAX as u64) as i32;
        let first = first * self.beta1 + gradient.clone() * (1.0 - self.beta1);
        let second = second * self.beta2 + gradient.square() * (1.0 - self.beta2);
        let denominator =
            (second.clone() / (1.0 - self.beta2.powi(exponent))).sqrt() + self.epsilon;
        let direction = first.clone() / (1.0 - self.beta1.powi(exponent)) / denominator;
        (
            weights * (1.0 - learning_rate * self.weight_decay) - direction * learning_rate,
            [first, second],
        )
    }
}

impl Settings for AdamwConfig {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn keys(&self) -> Vec<Key> {
        Self::KEYS.to_vec()
    }

    fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    fn validate(&self) -> Result<(), TrainError> {
        if !(self.learning_rate.is_finite() && self.learning_rate > 0.0) {
            return Err(SettingError::value(
                "learning_rate",
                self.learning_rate,
                "a finite number above 0",
            )
            .into());
        }
        for (name, value) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            if !(0.0..1.0).contains(&value) {
                return Err(SettingError::value(name, value, "a number from 0 to below 1").into());
            }
        }
        for (name, value) in [
            ("epsilon", self.epsilon),
            ("weight_decay", self.weight_decay),
            ("max_grad_norm", self.max_grad_norm),
        ] {
            if !(value.is_finite() && value >= 0.0) {
                return Err(SettingError::value(name, value, "a finite number, at least 0").into());
            }
        }
        Ok(())
    }

    fn fits_afterwards(&self) -> bool {
        true
    }

    fn trains_magnitudes(&self) -> bool {
        true
    }

    fn draws(&self) -> bool {
        false
    }

    fn start(&self, adapter: Adapter, _: &Setup) -> Result<Box<dyn Optimizer>, TrainError> {
        Ok(Box::new(self.optimizer(adapter)?))
    }
}

/// AdamW under the training contract.
#[derive(Clone, Debug)]
pub struct Adamw {
    config: AdamwConfig,
    adapter: Adapter,
    /// m and v, `[P]`.
    moments: [Tensor<1>; 2],
    step: u64,
}

impl Adamw {
    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// Replaces the weights; moments and steps stay.
    pub(super) fn set_adapter(&mut self, adapter: Adapter) {
        self.adapter = adapter;
    }

    /// Loss and gradient `[P]` of a step's micro-batches.
    fn gradient(&self, objective: &mut dyn Objective) -> Result<(f64, Tensor<1>), TrainError> {
        let mut loss = 0.0;
        let mut gradient: Option<Tensor<1>> = None;
        for micro_batch in 0..objective.micro_batches() {
            let share = objective.share(micro_batch);
            let mut evidence = objective.evaluate(&self.adapter, micro_batch, 0)?;
            loss += share * evidence.loss;
            let part = flat::gradients(&self.adapter, &mut evidence.gradients) * share;
            gradient = Some(match gradient {
                None => part,
                Some(sum) => sum + part,
            });
        }
        match gradient {
            Some(gradient) => Ok((loss, gradient)),
            None => Err(self.failed("the step has no examples")),
        }
    }

    /// The error of the step that is being taken.
    fn failed(&self, reason: &str) -> TrainError {
        TrainError::Step {
            step: self.step + 1,
            reason: reason.into(),
            good: None,
        }
    }
}

/// √Σ x² in f64, summed in order.
fn norm(values: &[f32]) -> f64 {
    let squares = values.iter().map(|value| f64::from(*value).powi(2));
    squares.sum::<f64>().sqrt()
}

/// A moment from its little-endian numbers.
fn moment(bytes: &[u8], device: &Device) -> Tensor<1> {
    let numbers = bytes.as_chunks::<4>().0.iter();
    let values: Vec<f32> = numbers.map(|four| f32::from_le_bytes(*four)).collect();
    let len = values.len();
    Tensor::from_data(TensorData::new(values, [len]), device)
}

impl Optimizer for Adamw {
    fn step(
        &mut self,
        learning_rate: f64,
        objective: &mut dyn Objective,
    ) -> Result<Update, TrainError> {
        let (loss, mut gradient) = self.gradient(objective)?;
        let gradient_norm = norm(&flat::to_host(gradient.clone())?);
        if !gradient_norm.is_finite() {
            return Err(self.failed("a gradient is not finite"));
        }
        if self.config.max_grad_norm > 0.0 && gradient_norm > self.config.max_grad_norm {
            gradient = gradient * (self.config.max_grad_norm / gradient_norm);
        }
        let before = flat::values(&self.adapter);
        let (after, moments) = self.config.update(
            before.clone(),
            self.moments.clone(),
            gradient,
            learning_rate,
            self.step + 1,
        );
        let moved = flat::to_host(after.clone() - before)?;
        if moved.iter().any(|value| !value.is_finite()) {
            return Err(self.failed("an updated weight is not finite"));
        }
        self.adapter = flat::with_values(&self.adapter, &after);
        self.moments = moments;
        self.step += 1;
        Ok(Update {
            loss,
            gradient_norm,
            update_rms: norm(&moved) / (moved.len().max(1) as f64).sqrt(),
            clipped_share: None,
        })
    }

    fn adapter(&self) -> &Adapter {
        &self.adapter
    }

    fn posterior(&self) -> Box<dyn Posterior> {
        Box::new(PointEstimate {
            adapter: self.adapter.valid(),
        })
    }

    /// Step, number of weights P, m, v; numbers are little-endian, m and v in f32.
    fn state(&self) -> Result<Vec<u8>, TrainError> {
        let [first, second] = self.moments.clone().map(flat::to_host);
        let (first, second) = (first?, second?);
        let mut bytes = self.step.to_le_bytes().to_vec();
        bytes.extend((first.len() as u64).to_le_bytes());
        bytes.extend(
            first
                .iter()
                .chain(&second)
                .flat_map(|value| value.to_le_bytes()),
        );
        Ok(bytes)
    }

    fn restore(&mut self, adapter: Adapter, state: &[u8]) -> Result<(), TrainError> {
        let adapter = adapter.train();
        let weights = flat::values(&adapter);
        let len = weights.dims()[0];
        let whole = |at: usize| {
            let bytes = state.get(at..at + 8)?.try_into().ok()?;
            Some(u64::from_le_bytes(bytes))
        };
        let (Some(step), Some(saved)) = (whole(0), whole(8)) else {
            return Err(TrainError::Optimizer {
                reason: format!("the state has {} bytes, expected at least 16", state.len()),
            });
        };
        if saved != len as u64 || state.len() != 16 + 8 * len {
            return Err(TrainError::Optimizer {
                reason: format!("the state is for {saved} weights, the adapter has {len}"),
            });
        }
        let (first, second) = state[16..].split_at(4 * len);
        self.moments = [first, second].map(|bytes| moment(bytes, &weights.device()));
        (self.adapter, self.step) = (adapter, step);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::DType;

    use super::*;
    use crate::testing::golden_normals;

    #[test]
    fn trajectories_agree_with_pytorch_in_f64() {
        let golden = crate::testing::golden_json("adamw.json");
        let device = Device::flex();
        let tensor = |values: Vec<f64>| {
            let len = values.len();
            Tensor::<1>::from_data(TensorData::new(values, [len]), (&device, DType::F64))
        };
        for case in golden["cases"].as_array().unwrap() {
            let given = &case["hyperparameters"];
            let number = |key: &str, default: f64| given[key].as_f64().unwrap_or(default);
            let config = AdamwConfig {
                learning_rate: number("lr", 0.0),
                beta1: given["betas"][0].as_f64().unwrap_or(0.9),
                beta2: given["betas"][1].as_f64().unwrap_or(0.999),
                epsilon: number("eps", 1e-8),
                weight_decay: number("weight_decay", 0.0),
                max_grad_norm: 0.0,
            };
            let mut weights = tensor(
                case["init"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|x| x.as_f64().unwrap())
                    .collect(),
            );
            let mut moments = [weights.zeros_like(), weights.zeros_like()];
            for (step, expected) in case["params"].as_array().unwrap().iter().enumerate() {
                let gradient = tensor(golden_normals(
                    case["seed"].as_u64().unwrap() * 1000 + step as u64,
                    6,
                ));
                (weights, moments) = config.update(
                    weights,
                    moments,
                    gradient,
                    config.learning_rate,
                    step as u64 + 1,
                );
                let found = weights.clone().into_data().try_to_vec::<f64>().unwrap();
                for (found, expected) in found.iter().zip(expected.as_array().unwrap()) {
                    assert!(
                        (found - expected.as_f64().unwrap()).abs() < 1e-10,
                        "{} at {step}",
                        case["name"]
                    );
                }
            }
        }
    }
}

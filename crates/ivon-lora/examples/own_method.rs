//! A complete method outside of the library: plain SGD, and draws whose noise is proportional to
//! each weight.
//!
//! `docs/adding-a-method.md` walks through it. `cargo run -p ivon-lora --example own_method` checks
//! its promises on the toy.

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use ivon::noise::{Address, Purpose};
use ivon_lora::forward::Network;
use ivon_lora::lora::{Adapter, Draw};
use ivon_lora::method::{Settings, Setup, conformance};
use ivon_lora::model::{BasePrecision, Checkpoint, Decoder, DecoderConfig};
use ivon_lora::posterior::{Posterior, PosteriorError, Spread, Stored};
use ivon_lora::settings::SettingError;
use ivon_lora::train::{Objective, Optimizer, TrainError, Update};
use ivon_lora_toy as toy;

/// θ ← θ − lr · g; a draw is θ (1 + √τ · spread · z).
#[derive(Clone, Debug)]
pub struct Proportional {
    /// Before the schedule.
    pub learning_rate: f64,
    /// The standard deviation of a weight of 1.
    pub spread: f64,
}

impl Settings for Proportional {
    fn name(&self) -> &'static str {
        "proportional"
    }
    fn learning_rate(&self) -> f64 {
        self.learning_rate
    }
    fn validate(&self) -> Result<(), TrainError> {
        if (0.0..1e9).contains(&self.spread) {
            Ok(())
        } else {
            Err(SettingError::value("spread", self.spread, "from 0 to below 1e9").into())
        }
    }
    fn start(&self, adapter: Adapter, _: &Setup) -> Result<Box<dyn Optimizer>, TrainError> {
        Ok(Box::new(Sgd {
            adapter: adapter.train(),
            spread: self.spread,
        }))
    }
    fn restore(
        &self,
        stored: &Stored,
        mean: Adapter,
        _: &DecoderConfig,
        _: &Device,
    ) -> Result<Box<dyn Posterior>, PosteriorError> {
        Ok(Box::new(Noisy {
            mean,
            spread: stored.number("spread", "a number")?,
        }))
    }
}

struct Sgd {
    adapter: Adapter,
    spread: f64,
}

impl Optimizer for Sgd {
    fn step(
        &mut self,
        learning_rate: f64,
        objective: &mut dyn Objective,
    ) -> Result<Update, TrainError> {
        let mut loss = 0.0;
        let mut gradients: Vec<Tensor<2>> = self
            .adapter
            .parameters()
            .map(|(_, weights)| weights.val().inner().zeros_like())
            .collect();
        for micro_batch in 0..objective.micro_batches() {
            let share = objective.share(micro_batch);
            let mut evidence = objective.evaluate(&self.adapter, micro_batch, 0)?;
            loss += share * evidence.loss;
            for (sum, (_, weights)) in gradients.iter_mut().zip(self.adapter.parameters()) {
                if let Some(part) = evidence.gradients.remove::<2>(weights.id) {
                    *sum = sum.clone() + part * share;
                }
            }
        }
        let squares: f64 = gradients
            .iter()
            .map(|gradient| f64::from(gradient.clone().square().sum().into_scalar::<f32>()))
            .sum();
        if !squares.is_finite() {
            return Err(TrainError::NonFiniteLoss {
                step: 0,
                loss,
                good: None,
            });
        }
        let mut steps = gradients
            .into_iter()
            .map(|gradient| gradient * learning_rate);
        let moved = self
            .adapter
            .valid()
            .clone_with(|_, weights| steps.next().map_or(weights.clone(), |step| weights - step));
        self.adapter = moved.train();
        let update_rms = learning_rate * (squares / self.adapter.parameter_count() as f64).sqrt();
        Ok(Update {
            loss,
            gradient_norm: squares.sqrt(),
            update_rms,
            clipped_share: None,
        })
    }
    fn adapter(&self) -> &Adapter {
        &self.adapter
    }
    fn posterior(&self) -> Box<dyn Posterior> {
        Box::new(Noisy {
            mean: self.adapter.valid(),
            spread: self.spread,
        })
    }
    fn state(&self) -> Result<Vec<u8>, TrainError> {
        Ok(Vec::new())
    }
    fn restore(&mut self, adapter: Adapter, _: &[u8]) -> Result<(), TrainError> {
        self.adapter = adapter.train();
        Ok(())
    }
}

struct Noisy {
    mean: Adapter,
    spread: f64,
}

impl Posterior for Noisy {
    fn draw(&self, sample: u64, seed: u64, scale: f64) -> Result<Draw, PosteriorError> {
        if !(scale.is_finite() && scale >= 0.0) {
            return Err(PosteriorError::Setting {
                setting: "scale",
                expected: "finite and at least 0",
                found: scale,
            });
        }
        let address = Address {
            seed,
            purpose: Purpose::Posterior,
            step: 0,
            draw: sample,
        };
        let adapter = self.mean.clone_with(|path, weights| {
            let mut normals = vec![0.0f32; weights.dims().iter().product()];
            address.fill(path, &mut normals);
            let noise =
                Tensor::<2>::from_data(TensorData::new(normals, weights.dims()), &weights.device());
            weights.clone() + weights * noise * (scale.sqrt() * self.spread)
        });
        Ok(Draw {
            adapter,
            dropout: None,
        })
    }
    fn mean(&self) -> &Adapter {
        &self.mean
    }
    fn variance(&self) -> Option<&Adapter> {
        None
    }
    fn spread(&self) -> Spread {
        Spread::Scaled
    }
    fn stored(&self) -> Result<Option<Stored>, PosteriorError> {
        Ok(Some(
            Stored::new("proportional").with("spread", self.spread),
        ))
    }
}

fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let folder = std::env::temp_dir().join(format!("own-method-{}", std::process::id()));
    toy::write_model(&folder)?;
    let decoder = Decoder::load(
        &Checkpoint::open(&folder.display().to_string())?,
        BasePrecision::F32,
    )?;
    conformance::check(
        &Proportional {
            learning_rate: 0.1,
            spread: 0.2,
        },
        &Network::new(decoder, &Device::flex(), false),
        &folder.join("runs"),
    )?;
    println!("it keeps its promises");
    Ok(std::fs::remove_dir_all(&folder)?)
}

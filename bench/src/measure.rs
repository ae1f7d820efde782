//! One training step, timed and counted, and memory stage by stage; shared by `ours` and `scaling`.

use std::time::Instant;

use burn::tensor::Device;
use ivon_lora::data::Encoded;
use ivon_lora::forward::Network;
use ivon_lora::lora::{Adapter, LoraConfig};
use ivon_lora::method::{Method, Setup};
use ivon_lora::model::{BasePrecision, Checkpoint, Decoder};
use ivon_lora::predict::{EvaluationOptions, Predictor, Questions};
use ivon_lora::train::{BatchObjective, Optimizer, Through};
use ivon_lora::watch::Progress;
use serde_json::{Value, json};

use crate::Failure;
use crate::flops::Pass;
use crate::machine::{peak_bytes, resident_bytes};

/// The cost of one step.
#[derive(Clone, Copy, Debug, Default)]
pub struct Step {
    /// Wall time, including packing.
    pub seconds: f64,
    /// Tokens computed: those of the packed batch, for each evaluation of the objective.
    pub tokens: usize,
    /// Operations of products with frozen weights, see [`crate::flops`].
    pub operations: f64,
}

/// A frozen decoder with an adapter in training.
pub struct Trainer {
    network: Network,
    lora: LoraConfig,
    optimizer: Box<dyn Optimizer>,
    /// The step size, held constant.
    learning_rate: f64,
    /// Whether the network recomputes activations; used only for counting.
    recompute: bool,
}

impl Trainer {
    /// A new adapter on the CPU, to be trained with a method.
    ///
    /// # Errors
    /// If the adapter does not fit the decoder, or the method's settings are out of range.
    pub fn new(
        decoder: Decoder,
        lora: LoraConfig,
        method: &Method,
        setup: &Setup,
        recompute: bool,
    ) -> Result<Self, Failure> {
        let device = Device::flex();
        let network = Network::new(decoder, &device, recompute);
        let adapter = Adapter::new(&lora, network.config(), 21, &device.autodiff())?;
        Ok(Self {
            network,
            lora,
            optimizer: method.settings().start(adapter, setup)?,
            learning_rate: method.learning_rate(),
            recompute,
        })
    }

    /// Takes step `index` on these examples.
    ///
    /// # Errors
    /// The optimizer's errors.
    pub fn step(&mut self, index: u64, examples: &[&Encoded]) -> Result<Step, Failure> {
        let batch = Questions::pack(examples)?.batch;
        let first = first_adapted_layer(self.optimizer.adapter());
        let started = Instant::now();
        let mut inner = BatchObjective::new(
            &self.network,
            self.lora.dropout,
            21,
            index,
            &[examples.to_vec()],
        );
        let mut evaluations = 0;
        let mut counted = Through::new(&mut inner, |inner, adapter, micro_batch, draw| {
            evaluations += 1;
            inner.evaluate(adapter, micro_batch, draw)
        });
        self.optimizer.step(self.learning_rate, &mut counted)?;
        let seconds = started.elapsed().as_secs_f64();
        let pass = Pass {
            tokens: batch.len(),
            asked: batch.asked.len(),
        };
        let operations =
            evaluations as f64 * pass.training(self.network.config(), first, self.recompute);
        Ok(Step {
            seconds,
            tokens: evaluations * batch.len(),
            operations,
        })
    }

    /// How long it takes to predict these examples at the mean and with `samples` draws, seconds.
    ///
    /// # Errors
    /// If a prediction fails.
    pub fn prediction_seconds(&self, examples: &[Encoded], samples: usize) -> Result<f64, Failure> {
        let posterior = self.optimizer.posterior();
        let started = Instant::now();
        let options = EvaluationOptions {
            samples,
            ..EvaluationOptions::default()
        };
        Predictor::new(&self.network, posterior.as_ref(), &options)
            .evaluate(examples, &mut Progress::silent())?;
        Ok(started.elapsed().as_secs_f64())
    }
}

/// The frozen decoder of a checkpoint, in f32 or in the checkpoint's own encoding, for products in
/// `f32` or `int8`.
///
/// # Errors
/// If a tensor cannot be read.
pub fn load_decoder(
    checkpoint: &Checkpoint,
    as_is: bool,
    compute: &str,
) -> Result<Decoder, Failure> {
    let precision = if as_is {
        BasePrecision::AsIs
    } else {
        BasePrecision::F32
    };
    let compute = serde_json::from_value(compute.into())?;
    Ok(Decoder::load_for(checkpoint, precision, compute)?)
}

/// The first layer that carries an adapter.
fn first_adapted_layer(adapter: &Adapter) -> usize {
    let layers = adapter.pairs().map(|(path, _)| path.first_layer());
    layers.min().unwrap_or_else(|| adapter.layers())
}

/// The setup passed to a method for a measurement: so many steps over so many examples.
pub fn setup(steps: usize, examples: usize, dropout: f64) -> Setup {
    Setup {
        seed: 21,
        steps: steps as u64,
        steps_per_epoch: steps as u64,
        batch_size: 4,
        accumulation: 1,
        examples,
        dropout,
        weight_of_squares: 1.0,
    }
}

/// Time and memory at the end of each stage of a program.
#[derive(Debug)]
pub struct Stages {
    started: Instant,
    rows: Vec<Value>,
}

impl Stages {
    /// Starts with the memory of the program before it has done anything.
    pub fn begin(started: Instant) -> Self {
        let mut stages = Self {
            started,
            rows: Vec::new(),
        };
        stages.end("start");
        stages
    }

    /// Records the end of a stage: seconds since the start, resident bytes, peak bytes so far.
    pub fn end(&mut self, stage: &str) {
        let (seconds, resident, peak) = (
            self.started.elapsed().as_secs_f64(),
            resident_bytes(),
            peak_bytes(),
        );
        self.rows.push(json!({"stage": stage, "seconds": seconds, "resident_bytes": resident, "peak_bytes": peak}));
    }

    /// Seconds from the start to the end of a stage, if it was recorded.
    pub fn seconds_at(&self, stage: &str) -> Option<Value> {
        let mut rows = self.rows.iter();
        Some(rows.find(|row| row["stage"] == stage)?["seconds"].clone())
    }

    /// The stages in order.
    pub fn rows(&self) -> &[Value] {
        &self.rows
    }
}

/// The median; for an even count, the upper of the two middle values; for an empty list, 0.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// Operations per second over several steps: total operations over total time.
pub fn rate(steps: &[Step]) -> f64 {
    steps.iter().map(|step| step.operations).sum::<f64>()
        / steps.iter().map(|step| step.seconds).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shapes;
    use crate::write_model::{bytes_as_tokens, write};

    #[test]
    fn a_step_is_counted_as_its_packed_tokens_and_their_weights() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tiny.gguf");
        let config = shapes::named("tiny").unwrap();
        write(
            &path,
            &config,
            ivon_lora::model::Encoding::Q8_0,
            bytes_as_tokens(),
            1,
        )
        .unwrap();
        let checkpoint = Checkpoint::open(&path.display().to_string()).unwrap();
        let lora = LoraConfig {
            layers_to_transform: Some(vec![1]),
            ..LoraConfig::default()
        };
        let mut trainer = Trainer::new(
            load_decoder(&checkpoint, true, "f32").unwrap(),
            lora,
            &Method::named("adamw").unwrap(),
            &setup(1, 2, 0.0),
            false,
        )
        .unwrap();
        assert_eq!(first_adapted_layer(trainer.optimizer.adapter()), 1);
        let examples = crate::scaling::point::examples(2, 5, &config, 0);
        let step = trainer
            .step(0, &examples.iter().collect::<Vec<_>>())
            .unwrap();
        assert_eq!(
            (step.tokens, step.operations),
            (
                10,
                Pass {
                    tokens: 10,
                    asked: 2
                }
                .training(&config, 1, false)
            )
        );
        assert!(step.seconds > 0.0);
    }

    #[test]
    fn a_median_is_the_middle_value() {
        assert_eq!(
            (median([3.0, 1.0, 2.0]), median([4.0, 1.0]), median([])),
            (2.0, 4.0, 0.0)
        );
    }
}

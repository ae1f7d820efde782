//! An estimate of the memory and time that a run will take on this machine.

use std::fmt;
use std::sync::OnceLock;
use std::time::Instant;

use super::{ModelConfig, RunConfig};
use crate::data::{Encoded, TextTarget};
use crate::kernel::{self, Output};
use crate::method::Passes;
use crate::model::{BasePrecision, Checkpoint, Compute, DecoderConfig, LayerKind, Mixer};
use crate::predict::common_prefix;
use crate::train::Length;

/// What a run is expected to need; bytes and seconds are right to within about a third.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Estimate {
    /// Bytes of the frozen base.
    pub base_bytes: f64,
    /// Bytes that a training step adds.
    pub step_bytes: f64,
    /// Bytes of a device other than the CPU: there the linear layers are f32 whatever the precision
    /// of the base, and every operation keeps its own numbers for the backward pass. Not measured.
    pub device_bytes: f64,
    /// Seconds of all training steps.
    pub training_seconds: f64,
    /// Seconds of what the method computes after training.
    pub fitting_seconds: f64,
    /// Seconds of the evaluations during and after training.
    pub evaluation_seconds: f64,
    /// Seconds of evaluating the untuned base.
    pub base_seconds: f64,
    /// Floating-point operations per second of a large matrix product on this machine.
    pub rate: f64,
}

/// How many times the numbers of the CPU's own operation plain Burn operations keep.
const PLAIN_OPERATIONS: f64 = 3.0;

/// What the program takes in addition: code, tokenizer, data, allocator.
const PROGRAM_BYTES: f64 = 60e6;

impl Estimate {
    /// The estimate for these settings and examples: those of train, and of tune, calibrate and test.
    pub fn of(
        config: &RunConfig,
        checkpoint: &Checkpoint,
        length: Length,
        train: &[Encoded],
        evaluated: [&[Encoded]; 3],
    ) -> Self {
        let work = Work {
            config,
            length,
            flops_per_token: 2.0 * linear_weights(checkpoint.config()),
            flops_per_prediction: 2.0 * output_weights(checkpoint.config()),
        };
        let settings = config.optimizer.settings();
        let fitting = settings.fitting_passes(train.len());
        let rate = measured_rate();
        Self {
            base_bytes: base_bytes(&config.model, checkpoint),
            step_bytes: step_bytes(config, checkpoint.config(), train),
            device_bytes: device_bytes(config, checkpoint.config(), train),
            training_seconds: work.training(train) / rate,
            fitting_seconds: work.passes(fitting, train) / rate,
            evaluation_seconds: work.evaluations(evaluated) / rate,
            base_seconds: work.pass(evaluated[2]) / rate,
            rate,
        }
    }

    /// Bytes in all.
    pub fn bytes(&self) -> f64 {
        self.base_bytes + self.step_bytes + PROGRAM_BYTES
    }
}

impl fmt::Display for Estimate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "about {:.2} GB of memory ({:.2} base, {:.2} per step), {} of training and {} of evaluation at {:.0} GFLOP/s",
            self.bytes() / 1e9,
            self.base_bytes / 1e9,
            self.step_bytes / 1e9,
            duration(self.training_seconds + self.fitting_seconds),
            duration(self.evaluation_seconds + self.base_seconds),
            self.rate / 1e9
        )
    }
}

/// Floating-point operations of the parts of a run.
struct Work<'a> {
    config: &'a RunConfig,
    length: Length,
    flops_per_token: f64,
    /// Of a token of a text that is predicted over the whole vocabulary; a choice costs nothing
    /// beside.
    flops_per_prediction: f64,
}

impl Work<'_> {
    fn members(&self) -> f64 {
        self.config.optimizer.settings().members() as f64
    }

    /// All training steps.
    fn training(&self, examples: &[Encoded]) -> f64 {
        let steps = self.length.steps as f64 * self.config.train.accumulation as f64;
        let tokens = packed_tokens(examples, self.config.train.batch_size);
        let backward = if self.config.model.recompute {
            3.0
        } else {
            2.0
        };
        let step = tokens * self.flops_per_token * backward;
        // The normaliser's gradient comes with it, in two products.
        let predictions = self.config.train.batch_size as f64 * mean_predictions(examples);
        self.members() * steps * (step + predictions * self.flops_per_prediction * 2.0)
    }

    /// A pass over a set, in large batches.
    fn pass(&self, examples: &[Encoded]) -> f64 {
        let batch = self.config.evaluation.batch_tokens as f64 / mean_length(examples).max(1.0);
        let batch = (batch as usize).clamp(1, examples.len().max(1));
        let tokens = packed_tokens(examples, batch);
        let predictions = examples.len() as f64 * mean_predictions(examples);
        tokens * examples.len() as f64 / batch as f64 * self.flops_per_token
            + predictions * self.flops_per_prediction
    }

    fn passes(&self, passes: Passes, examples: &[Encoded]) -> f64 {
        let alone = examples.len() as f64 * mean_length(examples) * self.flops_per_token;
        passes.together * self.pass(examples) + passes.alone * alone
    }

    /// The evaluations on tune during training, and those on calibrate and test after it.
    fn evaluations(&self, [tune, calibrate, test]: [&[Encoded]; 3]) -> f64 {
        let settings = self.config.optimizer.settings();
        let passes = settings.prediction_passes(self.config.evaluation.samples);
        let predicted = [calibrate, test].map(|examples| self.passes(passes, examples));
        let evaluations = self.length.steps.div_ceil(self.length.eval_interval) as f64;
        let draws = 1.0 + self.config.train.eval_samples as f64;
        self.pass(tune) * evaluations * self.members() * draws + predicted.iter().sum::<f64>()
    }
}

/// Bytes that a training step or an evaluation adds to the base.
fn step_bytes(config: &RunConfig, decoder: &DecoderConfig, train: &[Encoded]) -> f64 {
    let tokens = step_tokens(config, train);
    let evaluation = evaluation_bytes(decoder, config.evaluation.batch_tokens as f64);
    activations(decoder, tokens, config.model.recompute).max(evaluation)
}

/// Tokens of a batch half-way between one of average prompts and one of the longest.
fn step_tokens(config: &RunConfig, train: &[Encoded]) -> f64 {
    let lengths = train.iter().map(|example| example.tokens.len());
    let longest = lengths.max().unwrap_or(0) as f64;
    config.train.batch_size as f64 * 0.5 * (mean_length(train) + longest)
}

/// Bytes of a device other than the CPU.
fn device_bytes(config: &RunConfig, decoder: &DecoderConfig, train: &[Encoded]) -> f64 {
    let activations = activations(decoder, step_tokens(config, train), false);
    4.0 * linear_weights(decoder) + PLAIN_OPERATIONS * activations
}

/// The mean number of tokens of a prompt.
fn mean_length(examples: &[Encoded]) -> f64 {
    examples
        .iter()
        .map(|example| example.tokens.len())
        .sum::<usize>() as f64
        / examples.len().max(1) as f64
}

/// The mean number of predicted tokens of a text; 0 for questions.
fn mean_predictions(examples: &[Encoded]) -> f64 {
    let texts = examples.iter().filter_map(Encoded::text);
    texts.map(TextTarget::trained).sum::<usize>() as f64 / examples.len().max(1) as f64
}

/// Tokens of a batch of this many average prompts, where a common beginning counts once; those of
/// texts have none.
fn packed_tokens(examples: &[Encoded], batch: usize) -> f64 {
    let are_texts = examples.iter().any(|example| example.text().is_some());
    let prefix = if batch > 1 && !are_texts {
        common_prefix(&examples.iter().collect::<Vec<_>>()) as f64
    } else {
        0.0
    };
    prefix + batch as f64 * (mean_length(examples) - prefix)
}

/// `42 s`, `12 min`, `3.5 h`.
pub fn duration(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 90.0 => format!("{seconds:.0} s"),
        seconds if seconds < 5400.0 => format!("{:.0} min", seconds / 60.0),
        seconds => format!("{:.1} h", seconds / 3600.0),
    }
}

/// Weights of the output layer.
fn output_weights(decoder: &DecoderConfig) -> f64 {
    decoder.vocab_size as f64 * decoder.hidden_size as f64
}

/// Weights of all linear layers of the decoder.
fn linear_weights(decoder: &DecoderConfig) -> f64 {
    let linears = decoder.linears().into_iter();
    let sizes = linears.map(|(_, linear)| linear.shape.iter().product::<usize>());
    sizes.sum::<usize>() as f64
}

fn base_bytes(model: &ModelConfig, checkpoint: &Checkpoint) -> f64 {
    let decoder = checkpoint.config();
    let stored = |name: &str| {
        checkpoint
            .tensor(name)
            .map_or(0, |tensor| tensor.bytes.len()) as f64
    };
    // Of the tables only the rows that are looked up come into memory.
    match model.base_precision {
        BasePrecision::F32 | BasePrecision::Bf16 if model.compute == Compute::Int8 => {
            34.0 / 32.0 * linear_weights(decoder)
        }
        BasePrecision::F32 => 4.0 * linear_weights(decoder),
        BasePrecision::Bf16 => 2.0 * linear_weights(decoder),
        BasePrecision::Q8_0 => 34.0 / 32.0 * linear_weights(decoder),
        BasePrecision::AsIs => {
            let linears = decoder.linears().into_iter();
            linears
                .map(|(path, _)| stored(&path.tensor("weight")))
                .sum()
        }
    }
}

/// Numbers per token that a layer keeps for its backward pass, on average.
fn kept_per_token(decoder: &DecoderConfig) -> f64 {
    let hidden = decoder.hidden_size;
    let of_layer = |layer: &LayerKind| {
        let mixer = match &layer.mixer {
            Mixer::Attention(attention) => 2 * attention.query_width() + 2 * attention.key_width(),
            Mixer::DeltaNet(net) => net.qkv_width() + 2 * net.value_width(),
            Mixer::ShortConvolution(_) => 4 * hidden,
        };
        2 * hidden + mixer + 2 * layer.mlp.intermediate_size
    };
    let sum: usize = decoder.layers.iter().map(of_layer).sum();
    sum as f64 / decoder.layers.len().max(1) as f64
}

/// Bytes of the activations of a training step.
fn activations(decoder: &DecoderConfig, tokens: f64, recompute: bool) -> f64 {
    let layers = decoder.num_hidden_layers as f64;
    let kept = kept_per_token(decoder);
    let per_token = if recompute {
        layers * decoder.hidden_size as f64 + kept
    } else {
        layers * kept
    };
    4.0 * tokens * (per_token + 2.0 * kept)
}

/// Bytes of the activations of an evaluation.
fn evaluation_bytes(decoder: &DecoderConfig, tokens: f64) -> f64 {
    4.0 * tokens * 2.0 * kept_per_token(decoder)
}

/// The rate of a large f32 product on all threads, measured once in a few tenths of a second.
fn measured_rate() -> f64 {
    static RATE: OnceLock<f64> = OnceLock::new();
    *RATE.get_or_init(measure_rate)
}

fn measure_rate() -> f64 {
    let (m, k, n) = (512, 1024, 1024);
    let left = vec![1.0f32; m * k];
    let weight = crate::model::FrozenMatrix::new(n, k, vec![1.0f32; n * k]);
    let mut out = vec![0.0f32; m * n];
    let mut best = f64::INFINITY;
    for _ in 0..4 {
        let started = Instant::now();
        kernel::apply(
            &left,
            vec![Output {
                matrix: &weight,
                y: &mut out,
                onto: None,
            }],
        );
        best = best.min(started.elapsed().as_secs_f64());
    }
    // The shapes of a decoder reach about two thirds of this rate.
    2.0 * (m * k * n) as f64 / best * 0.66
}

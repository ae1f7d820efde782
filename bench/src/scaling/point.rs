//! One point of the scaling run, in a process of its own: training steps on sequences of one
//! length, then evaluations.

use std::time::Instant;

use ivon_lora::data::{Choices, Encoded, Target};
use ivon_lora::lora::{LoraConfig, TargetModules};
use ivon_lora::method::Method;
use ivon_lora::model::{Checkpoint, DecoderConfig};
use ivon_lora::random::{Purpose, below, stream};
use serde_json::{Value, json};

use crate::Failure;
use crate::machine::{peak_bytes, product_rate, resident_bytes, start_threads};
use crate::measure::{Stages, Step, Trainer, load_decoder, median, rate, setup};

/// What to measure at a point.
#[derive(clap::Args, Clone)]
pub struct Options {
    /// A folder or a GGUF file.
    #[arg(long)]
    pub model: String,
    /// Sequences per batch.
    #[arg(long, default_value_t = 4)]
    pub batch: usize,
    /// Tokens per sequence.
    #[arg(long, default_value_t = 64)]
    pub length: usize,
    /// Training steps, after two warm-up steps.
    #[arg(long, default_value_t = 6)]
    pub steps: usize,
    /// Record resident memory every so many steps; 0 for never.
    #[arg(long, default_value_t = 0)]
    pub watch_every: usize,
    /// Evaluate a batch with each of these numbers of draws.
    #[arg(long, value_delimiter = ',')]
    pub samples: Vec<usize>,
    #[command(flatten)]
    pub base: BaseOptions,
}

/// How the base model is stored and run, the same for all points.
#[derive(clap::Args, Clone, Debug)]
pub struct BaseOptions {
    /// CPU threads.
    #[arg(long, default_value_t = 2)]
    pub threads: usize,
    /// Keep the base model in the file's encoding.
    #[arg(long)]
    pub as_is: bool,
    /// Keep only each layer's input for the backward pass.
    #[arg(long)]
    pub recompute: bool,
}

impl BaseOptions {
    /// These settings as command-line flags.
    pub fn flags(&self) -> Vec<String> {
        let mut flags = vec!["--threads".to_string(), self.threads.to_string()];
        flags.extend(self.as_is.then(|| "--as-is".into()));
        flags.extend(self.recompute.then(|| "--recompute".into()));
        flags
    }
}

const WARM_UP: usize = 2;

/// `batch` sequences of `length` random tokens with four choices; `index` distinguishes batches.
pub fn examples(batch: usize, length: usize, config: &DecoderConfig, index: u64) -> Vec<Encoded> {
    (0..batch as u64)
        .map(|member| {
            let mut random = stream(1, Purpose::Generation, index, member, "scaling");
            let mut token = || below(&mut random, config.vocab_size as u64) as u32;
            example((index, member), (0..length).map(|_| token()).collect())
        })
        .collect()
}

fn example((index, member): (u64, u64), tokens: Vec<u32>) -> Encoded {
    Encoded {
        id: format!("{index}.{member}"),
        key: index << 16 | member,
        tokens,
        target: Target::Choice {
            choices: Choices::Tokens(vec![0, 1, 2, 3]),
            label: Some(member as usize % 4),
        },
    }
}

/// Measures, and prints JSON on one line.
pub fn run(options: &Options) -> Result<(), Failure> {
    start_threads(options.base.threads)?;
    println!("{}", measure(options)?);
    Ok(())
}

fn measure(options: &Options) -> Result<Value, Failure> {
    let mut stages = Stages::begin(Instant::now());
    let checkpoint = Checkpoint::open(&options.model)?;
    let mut trainer = trainer(options, &checkpoint)?;
    stages.end("decoder");
    let training = Training::run(options, &mut trainer, checkpoint.config())?;
    stages.end("training");
    let training_peak = peak_bytes();
    let last = u64::from(u32::MAX);
    let held_out = examples(options.batch, options.length, checkpoint.config(), last);
    let mut evaluations = Vec::new();
    for &samples in &options.samples {
        evaluations.push(json!([
            samples,
            trainer.prediction_seconds(&held_out, samples)?
        ]));
    }
    let peak = peak_bytes();
    let product_rate = product_rate(6);
    let steps = &training.steps;
    let seconds = median(steps.iter().map(|step| step.seconds));
    let tokens = median(steps.iter().map(|step| step.tokens as f64));
    Ok(json!({
        "batch": options.batch,
        "length": options.length,
        "parameters": checkpoint.parameters(),
        "median_step_seconds": seconds,
        "seconds_per_token": seconds / tokens,
        "operations_per_second": rate(steps),
        "product_operations_per_second": product_rate,
        "share_of_product_rate": rate(steps) / product_rate,
        "training_peak_bytes": training_peak,
        "peak_rss_bytes": peak,
        "resident_bytes_after_steps": training.resident,
        "evaluation_seconds_by_samples": evaluations,
        "stages": stages.rows(),
    }))
}

fn trainer(options: &Options, checkpoint: &Checkpoint) -> Result<Trainer, Failure> {
    let lora = LoraConfig {
        target_modules: targets(checkpoint.config()),
        ..LoraConfig::default()
    };
    let steps = WARM_UP + options.steps;
    let setup = setup(steps, options.batch * options.steps, lora.dropout);
    let decoder = load_decoder(checkpoint, options.base.as_is, "f32")?;
    let recompute = options.base.recompute;
    Trainer::new(decoder, lora, &Method::default(), &setup, recompute)
}

/// The default targets, or the layer that stands for them where they are fused.
fn targets(decoder: &DecoderConfig) -> TargetModules {
    let fused = decoder.model_type == "phi3";
    match fused {
        true => TargetModules::List(vec!["qkv_proj".into()]),
        false => LoraConfig::default().target_modules,
    }
}

/// The steps after the warm-up, and pairs of a step's number and the bytes resident after it.
struct Training {
    steps: Vec<Step>,
    resident: Vec<Value>,
}

impl Training {
    fn run(
        options: &Options,
        trainer: &mut Trainer,
        config: &DecoderConfig,
    ) -> Result<Self, Failure> {
        let mut steps: Vec<Step> = Vec::new();
        let mut resident = Vec::new();
        for index in 0..WARM_UP + options.steps {
            let batch = examples(options.batch, options.length, config, index as u64);
            steps.push(trainer.step(index as u64, &batch.iter().collect::<Vec<_>>())?);
            if options.watch_every > 0 && (index + 1) % options.watch_every == 0 {
                resident.push(json!([index + 1, resident_bytes()]));
            }
        }
        Ok(Self {
            steps: steps.split_off(WARM_UP),
            resident,
        })
    }
}

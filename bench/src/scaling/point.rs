//! One point of the scaling run, in a process of its own: training steps on sequences of one
//! length, then evaluations.

use std::time::Instant;

use burn::tensor::Device;
use ivon_lora::data::{Choices, Encoded, Target};
use ivon_lora::forward::Network;
use ivon_lora::lora::{Adapter, LoraConfig};
use ivon_lora::method::Method;
use ivon_lora::model::{BasePrecision, Checkpoint, Decoder, DecoderConfig};
use ivon_lora::predict::{EvaluationOptions, Predictor};
use ivon_lora::random::{Purpose, below, stream};
use ivon_lora::watch::Progress;
use serde_json::{Value, json};

use crate::Failure;
use crate::machine::{peak_bytes, product_rate, resident_bytes};
use crate::measure::{Stages, Step, Trainer, median, rate, setup};

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
    pub how: How,
}

/// How the base model is stored and run, the same for all points.
#[derive(clap::Args, Clone, Debug)]
pub struct How {
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

impl How {
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
    let one = |member: usize| {
        let mut random = stream(1, Purpose::Generation, index, member as u64, "scaling");
        let mut token = || below(&mut random, config.vocab_size as u64) as u32;
        let tokens = (0..length).map(|_| token()).collect();
        Encoded {
            id: format!("{index}.{member}"),
            key: index << 16 | member as u64,
            tokens,
            target: Target::Choice {
                choices: Choices::Tokens(vec![0, 1, 2, 3]),
                label: Some(member % 4),
            },
        }
    };
    (0..batch).map(one).collect()
}

/// Measures, and prints JSON on one line.
pub fn run(options: &Options) -> Result<(), Failure> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(options.how.threads)
        .build_global()?;
    println!("{}", measure(options)?);
    Ok(())
}

fn measure(options: &Options) -> Result<Value, Failure> {
    let mut stages = Stages::begin(Instant::now());
    let checkpoint = Checkpoint::open(&options.model)?;
    let precision = if options.how.as_is {
        BasePrecision::AsIs
    } else {
        BasePrecision::F32
    };
    let device = Device::flex();
    let network = Network::new(
        Decoder::load(&checkpoint, precision)?,
        &device,
        options.how.recompute,
    );
    stages.end("decoder");
    let lora = LoraConfig::default();
    let method = Method::default();
    let adapter = Adapter::new(&lora, network.config(), 21, &device.clone().autodiff())?;
    let mut optimizer = method.settings().start(
        adapter,
        &setup(
            WARM_UP + options.steps,
            options.batch * options.steps,
            lora.dropout,
        ),
    )?;
    let trainer = Trainer {
        network: &network,
        lora: &lora,
        learning_rate: method.learning_rate(),
        recompute: options.how.recompute,
    };
    let mut steps: Vec<Step> = Vec::new();
    let mut resident = Vec::new();
    for index in 0..WARM_UP + options.steps {
        let batch = examples(
            options.batch,
            options.length,
            network.config(),
            index as u64,
        );
        steps.push(trainer.step(
            optimizer.as_mut(),
            index as u64,
            &batch.iter().collect::<Vec<_>>(),
        )?);
        if options.watch_every > 0 && (index + 1) % options.watch_every == 0 {
            resident.push(json!([index + 1, resident_bytes()]));
        }
    }
    let steps = steps.split_off(WARM_UP);
    stages.end("training");
    let training_peak = peak_bytes();
    let held = examples(
        options.batch,
        options.length,
        network.config(),
        u64::from(u32::MAX),
    );
    let posterior = optimizer.posterior();
    let mut evaluations = Vec::new();
    for &samples in &options.samples {
        let wanted = EvaluationOptions {
            samples,
            ..EvaluationOptions::default()
        };
        let started = Instant::now();
        Predictor::new(&network, posterior.as_ref(), &wanted)
            .evaluate(&held, &mut Progress::silent())?;
        evaluations.push(json!([samples, started.elapsed().as_secs_f64()]));
    }
    let peak = peak_bytes();
    let product_rate = product_rate(6);
    let seconds = median(steps.iter().map(|step| step.seconds));
    let tokens = median(steps.iter().map(|step| step.tokens as f64));
    Ok(json!({
        "batch": options.batch,
        "length": options.length,
        "parameters": checkpoint.parameters(),
        "median_step_seconds": seconds,
        "seconds_per_token": seconds / tokens,
        "operations_per_second": rate(&steps),
        "product_operations_per_second": product_rate,
        "share_of_product_rate": rate(&steps) / product_rate,
        "training_peak_bytes": training_peak,
        "peak_rss_bytes": peak,
        "resident_bytes_after_steps": resident,
        "evaluation_seconds_by_samples": evaluations,
        "stages": stages.rows(),
    }))
}

//! One measurement of our side: training steps on the first questions, then an evaluation at the
//! mean and with samples.

use std::path::PathBuf;
use std::time::Instant;

use burn::tensor::Device;
use ivon_lora::data::{self, DataConfig, Encoded, Task};
use ivon_lora::forward::Network;
use ivon_lora::lora::{Adapter, LoraConfig};
use ivon_lora::method::Method;
use ivon_lora::model::{BasePrecision, Checkpoint, Decoder};
use ivon_lora::predict::{EvaluationOptions, Predictor};
use ivon_lora::watch::Progress;
use serde_json::json;

use crate::machine::{self, peak_bytes};
use crate::measure::{Stages, Step, Trainer, median, rate, setup};
use crate::{Failure, report};

/// What is measured.
#[derive(clap::Args, Clone)]
#[group(id = "measured")]
pub struct Options {
    /// The model: a folder or a GGUF file.
    #[arg(long, default_value = "models/smollm2-135m-instruct")]
    pub model: String,
    /// A folder with train.jsonl and validation.jsonl.
    #[arg(long, default_value = "../shared/data/arc_easy")]
    pub data: PathBuf,
    /// `ivon` or `adamw`.
    #[arg(long, default_value = "ivon")]
    pub optimizer: String,
    /// Number of questions in a training pass, 4 per step, after two warm-up steps.
    #[arg(long, default_value_t = 48)]
    pub questions: usize,
    /// Number of questions in the evaluation; 0 for none.
    #[arg(long, default_value_t = 40)]
    pub eval_limit: usize,
    /// Number of draws in the evaluation (IVON).
    #[arg(long, default_value_t = 10)]
    pub samples: usize,
    /// CPU threads.
    #[arg(long, default_value_t = 2)]
    pub threads: usize,
    /// Keep the base model in the checkpoint's encoding.
    #[arg(long)]
    pub as_is: bool,
    /// Keep only each layer's input for the backward pass.
    #[arg(long)]
    pub recompute: bool,
}

/// Our side alone, and where to write the report.
#[derive(clap::Args)]
pub struct OursOptions {
    #[command(flatten)]
    options: Options,
    /// Where to write the report as JSON, with machine, versions and command.
    #[arg(long)]
    out: Option<PathBuf>,
}

const BATCH: usize = 4;
/// Warm-up steps, which are not timed.
const WARM_UP: usize = 2;
/// Repetitions of the large product: about half a second.
const PRODUCTS: usize = 6;

/// Measures, and prints one JSON object with the keys of the reference's report, on one line.
pub fn run(options: &OursOptions) -> Result<(), Failure> {
    let found = measure(&options.options)?;
    println!("{found}");
    report::write(options.out.as_deref(), &found)
}

fn measure(options: &Options) -> Result<serde_json::Value, Failure> {
    let mut stages = Stages::begin(Instant::now());
    rayon::ThreadPoolBuilder::new()
        .num_threads(options.threads)
        .build_global()?;
    let name = options
        .data
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let task = Task::named(name)?;
    let checkpoint = Checkpoint::open(&options.model)?;
    let tokenizer = checkpoint.tokenizer()?;
    stages.end("tokenizer");
    let encode = |file: &str, limit: usize| -> Result<Vec<Encoded>, Failure> {
        let mut examples = data::load_file(&options.data.join(file), &task)?.examples;
        examples.truncate(limit);
        Ok(data::encode_all(
            &examples,
            &tokenizer,
            DataConfig::default().encode_options(&task),
        )?
        .examples)
    };
    let (train, held) = (
        encode("train.jsonl", options.questions)?,
        encode("validation.jsonl", options.eval_limit)?,
    );
    drop(tokenizer);
    stages.end("data");
    let precision = if options.as_is {
        BasePrecision::AsIs
    } else {
        BasePrecision::F32
    };
    let decoder = Decoder::load(&checkpoint, precision)?;
    stages.end("decoder");
    let device = Device::flex();
    let network = Network::new(decoder, &device, options.recompute);
    let lora = LoraConfig::default();
    let method = Method::named(&options.optimizer).ok_or("the optimizer is `ivon` or `adamw`")?;
    let adapter = Adapter::new(&lora, network.config(), 21, &device.clone().autodiff())?;
    let mut optimizer = method.settings().start(
        adapter,
        &setup(
            WARM_UP + train.len().div_ceil(BATCH),
            train.len(),
            lora.dropout,
        ),
    )?;
    stages.end("network and optimizer");
    let trainer = Trainer {
        network: &network,
        lora: &lora,
        learning_rate: method.learning_rate(),
        recompute: options.recompute,
    };
    let mut steps: Vec<Step> = Vec::new();
    for (index, batch) in train
        .chunks(BATCH)
        .cycle()
        .take(WARM_UP)
        .chain(train.chunks(BATCH))
        .enumerate()
    {
        steps.push(trainer.step(
            optimizer.as_mut(),
            index as u64,
            &batch.iter().collect::<Vec<_>>(),
        )?);
        if index == 0 {
            stages.end("first step");
        }
    }
    let steps = steps.split_off(WARM_UP.min(steps.len()));
    stages.end("training");
    let training_peak = peak_bytes();
    let posterior = optimizer.posterior();
    let timed = |samples: usize| -> Result<f64, Failure> {
        let before = Instant::now();
        let wanted = EvaluationOptions {
            samples,
            ..EvaluationOptions::default()
        };
        Predictor::new(&network, posterior.as_ref(), &wanted)
            .evaluate(&held, &mut Progress::silent())?;
        Ok(before.elapsed().as_secs_f64())
    };
    let mean_seconds = timed(0)?;
    // The reference times its samples without the pass at the mean.
    let samples_seconds = if options.optimizer == "ivon" {
        Some(timed(options.samples)? - mean_seconds)
    } else {
        None
    };
    stages.end("evaluation");
    let peak = peak_bytes();
    // Last, so that its operands are not part of the peak memory.
    let product_rate = machine::product_rate(PRODUCTS);
    Ok(json!({
        "sum_step_seconds": steps.iter().map(|step| step.seconds).sum::<f64>(),
        "median_step_seconds": median(steps.iter().map(|step| step.seconds)),
        "first_step_after_seconds": stages.rows().iter().find(|row| row["stage"] == "first step").map(|row| row["seconds"].clone()),
        "tokens_per_step": steps.iter().map(|step| step.tokens).sum::<usize>() as f64 / steps.len() as f64,
        "operations_per_step": steps.iter().map(|step| step.operations).sum::<f64>() / steps.len() as f64,
        "operations_per_second": rate(&steps),
        "product_operations_per_second": product_rate,
        "share_of_product_rate": rate(&steps) / product_rate,
        "training_peak_bytes": training_peak,
        "peak_rss_bytes": peak,
        "stages": stages.rows(),
        "history": [{"mean_seconds": mean_seconds, "samples_seconds": samples_seconds}],
    }))
}

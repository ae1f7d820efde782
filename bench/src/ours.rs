//! One measurement of our side: steps over the first questions, then an evaluation at the mean and with samples.

use std::path::PathBuf;
use std::time::Instant;

use burn::tensor::Device;
use ivon_lora::data::{self, DataConfig, Encoded, Task};
use ivon_lora::forward::Network;
use ivon_lora::lora::{Adapter, LoraConfig};
use ivon_lora::method::Method;
use ivon_lora::model::{BasePrecision, Checkpoint, Decoder};
use ivon_lora::predict::{EvaluationOptions, evaluate};
use ivon_lora::train::BatchObjective;

use crate::Failure;

/// What is measured.
#[derive(clap::Args, Clone)]
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
    /// Questions of a training pass, 4 a step; two steps of warm-up come before.
    #[arg(long, default_value_t = 48)]
    pub questions: usize,
    /// Questions of the evaluation.
    #[arg(long, default_value_t = 40)]
    pub eval_limit: usize,
    /// Draws of the evaluation (IVON).
    #[arg(long, default_value_t = 10)]
    pub samples: usize,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    pub threads: usize,
    /// Keep the base in the checkpoint's encoding.
    #[arg(long)]
    pub as_is: bool,
    /// Keep only each layer's input for the backward pass.
    #[arg(long)]
    pub recompute: bool,
}

const BATCH: usize = 4;

/// Measures and prints one JSON object with the keys of the reference's report.
pub fn run(options: &Options) -> Result<(), Failure> {
    let started = Instant::now();
    rayon::ThreadPoolBuilder::new().num_threads(options.threads).build_global()?;
    let name = options.data.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let task = Task::named(name)?;
    let checkpoint = Checkpoint::open(&options.model)?;
    let tokenizer = checkpoint.tokenizer()?;
    let encode = |file: &str, limit: usize| -> Result<Vec<Encoded>, Failure> {
        let mut examples = data::load_file(&options.data.join(file), &task)?.examples;
        examples.truncate(limit);
        Ok(data::encode_all(&examples, &tokenizer, DataConfig::default().encode_options(&task))?.examples)
    };
    let (train, held) = (encode("train.jsonl", options.questions)?, encode("validation.jsonl", options.eval_limit)?);
    let precision = if options.as_is { BasePrecision::AsIs } else { BasePrecision::F32 };
    let device = Device::flex();
    let network = Network::new(Decoder::load(&checkpoint, precision)?, &device, options.recompute);
    let lora = LoraConfig::default();
    let method = Method::named(&options.optimizer).ok_or("the optimizer is `ivon` or `adamw`")?;
    let adapter = Adapter::new(&lora, network.config(), 21, &device.clone().autodiff())?;
    let mut optimizer = method.start(adapter, 21)?;
    let mut seconds = Vec::new();
    let mut first_step = None;
    let mut tokens = 0;
    for (step, batch) in train.chunks(BATCH).take(2).chain(train.chunks(BATCH)).enumerate() {
        let before = Instant::now();
        let batch: Vec<&Encoded> = batch.iter().collect();
        let mut objective = BatchObjective::new(&network, lora.scaling(), lora.dropout, 21, step as u64, &[batch]);
        optimizer.step(method.learning_rate(), &mut objective)?;
        first_step.get_or_insert(started.elapsed().as_secs_f64());
        if step >= 2 {
            seconds.push(before.elapsed().as_secs_f64());
            tokens += objective.tokens();
        }
    }
    let training_peak = peak_bytes();
    let posterior = optimizer.posterior();
    let timed = |samples: usize| -> Result<f64, Failure> {
        let before = Instant::now();
        let wanted = EvaluationOptions { samples, ..EvaluationOptions::default() };
        evaluate(&network, posterior.as_ref(), lora.scaling(), &held, &wanted, &mut |_, _| true)?;
        Ok(before.elapsed().as_secs_f64())
    };
    let mean_seconds = timed(0)?;
    // The reference times its samples without the mean.
    let samples_seconds = if options.optimizer == "ivon" { Some(timed(options.samples)? - mean_seconds) } else { None };
    let sum: f64 = seconds.iter().sum();
    seconds.sort_by(f64::total_cmp);
    let report = serde_json::json!({
        "sum_step_seconds": sum,
        "median_step_seconds": seconds[seconds.len() / 2],
        "first_step_after_seconds": first_step,
        "tokens_per_step": tokens as f64 / seconds.len() as f64,
        "training_peak_bytes": training_peak,
        "peak_rss_bytes": peak_bytes(),
        "history": [{"mean_seconds": mean_seconds, "samples_seconds": samples_seconds}],
    });
    println!("{report}");
    Ok(())
}

/// The process's peak of resident memory, from /proc; 0 where there is none.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

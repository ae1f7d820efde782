//! Decoding, step by step: tokens per second of one sequence, what reading the weights alone would
//! take on the same threads, and the cost of a step under several draws of an adapter at once.

use std::hint::black_box;
use std::path::PathBuf;
use std::time::Instant;

use burn::tensor::Device;
use ivon_lora::forward::{Decoding, Network, Prompt, Sequence};
use ivon_lora::lora::{Adapter, Draw, LoraConfig};
use ivon_lora::model::{BasePrecision, Checkpoint, Decoder};
use rayon::prelude::*;
use serde_json::{Value, json};

use crate::measure::median;
use crate::{Failure, machine, report};

/// What is measured.
#[derive(clap::Args)]
pub struct Options {
    /// The model: a folder or a GGUF file.
    #[arg(long, default_value = "models/smollm2-135m-instruct")]
    model: String,
    /// How the base is kept: `as-is`, `f32`, `bf16` or `q8_0`.
    #[arg(long, default_value = "as-is")]
    precision: String,
    /// In which numbers products with the base are computed: `f32` or `int8`.
    #[arg(long, default_value = "f32")]
    compute: String,
    /// Tokens of the prompt.
    #[arg(long, default_value_t = 64)]
    prompt: usize,
    /// Steps of one measurement.
    #[arg(long, default_value_t = 32)]
    steps: usize,
    /// Measurements, of which the median counts.
    #[arg(long, default_value_t = 5)]
    passes: usize,
    /// The numbers of draws that are decoded together; 0: the base alone.
    #[arg(long, value_delimiter = ',', default_values_t = [0, 1, 10])]
    draws: Vec<usize>,
    /// The rank of the adapter on q and v.
    #[arg(long, default_value_t = 8)]
    rank: usize,
    /// CPU threads.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Where to write the report as JSON, with machine, versions and command.
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Measures, and prints one JSON object on one line.
pub fn run(options: &Options) -> Result<(), Failure> {
    machine::start_threads(options.threads)?;
    let checkpoint = Checkpoint::open(&options.model)?;
    let precision: BasePrecision = serde_json::from_value(options.precision.as_str().into())?;
    let compute = serde_json::from_value(options.compute.as_str().into())?;
    let decoder = Decoder::load_for(&checkpoint, precision, compute)?;
    let bytes = bytes_of_a_step(&decoder);
    let network = Network::new(decoder, &Device::flex(), false);
    let reading = reading_seconds(bytes, options.passes);
    let mut rows = Vec::new();
    for &draws in &options.draws {
        rows.push(measure(options, &network, draws, reading)?);
    }
    let found = json!({
        "model": checkpoint.display_name(),
        "precision": options.precision,
        "compute": options.compute,
        "bytes_of_a_step": bytes,
        "reading_seconds": reading,
        "reading_bytes_per_second": bytes as f64 / reading,
        "draws": rows,
    });
    println!("{found}");
    report::write(options.out.as_deref(), &found)
}

/// The bytes of the weights that a step reads: of the embeddings a row, unless they are the output
/// table too.
fn bytes_of_a_step(decoder: &Decoder) -> usize {
    let table = match decoder.lm_head {
        Some(_) => decoder.embed_tokens.bytes(),
        None => 0,
    };
    decoder.bytes() - table
}

/// The time to read so many bytes from memory on all threads, seconds: the best of several.
fn reading_seconds(bytes: usize, passes: usize) -> f64 {
    let values: Vec<u64> = (0..bytes as u64 / 8).collect();
    let mut best = f64::INFINITY;
    for _ in 0..passes.max(1) {
        let started = Instant::now();
        let chunks = values.par_chunks(1 << 16);
        let sum = chunks.map(|chunk| chunk.iter().fold(0u64, |sum, x| sum.wrapping_add(*x)));
        black_box(sum.reduce(|| 0, u64::wrapping_add));
        best = best.min(started.elapsed().as_secs_f64());
    }
    best
}

/// A sequence under each of so many draws, step by step.
fn measure(
    options: &Options,
    network: &Network,
    count: usize,
    reading: f64,
) -> Result<Value, Failure> {
    let config = LoraConfig {
        rank: options.rank,
        ..LoraConfig::default()
    };
    let draw = |seed: usize| -> Result<Draw, Failure> {
        let (decoder, device) = (network.config(), network.device());
        Ok(Draw::of(Adapter::new(
            &config,
            decoder,
            seed as u64,
            device,
        )?))
    };
    let draws = match count {
        0 => vec![Draw::base()],
        count => (0..count).map(draw).collect::<Result<_, _>>()?,
    };
    let decoding = Decoding::new(network.clone(), draws);
    let vocabulary = network.config().vocab_size as u32;
    let tokens: Vec<u32> = (0..options.prompt.max(1) as u32)
        .map(|i| i % vocabulary)
        .collect();
    let prompts = (0..decoding.draws()).map(|draw| Prompt {
        draw,
        tokens: &tokens,
    });
    let prompts: Vec<Prompt<'_>> = prompts.collect();
    let (mut steps, mut readings) = (Vec::new(), Vec::new());
    for _ in 0..options.passes.max(1) {
        let started = Instant::now();
        let (mut sequences, _) = decoding.read(&prompts);
        readings.push(started.elapsed().as_secs_f64());
        let started = Instant::now();
        for step in 0..options.steps as u32 {
            let token = [step % vocabulary];
            let additions = sequences.iter_mut().map(|one| (one, token.as_slice()));
            black_box(decoding.extend(additions.collect::<Vec<(&mut Sequence, &[u32])>>()));
        }
        steps.push(started.elapsed().as_secs_f64() / options.steps.max(1) as f64);
    }
    let step = median(steps);
    Ok(json!({
        "draws": count,
        "prompt_seconds": median(readings),
        "step_seconds": step,
        "tokens_per_second": decoding.draws() as f64 / step,
        "share_of_reading": reading / step,
    }))
}

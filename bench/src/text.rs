//! A training step on text: its time and memory by the number of predicted tokens, and the time of
//! the cross-entropy beside that of the bare products with the output matrix.

use std::time::Instant;

use burn::tensor::{Device, Tensor, TensorData};
use ivon_lora::data::{Encoded, Target, TextTarget};
use ivon_lora::forward::{Hidden, Network};
use ivon_lora::kernel::{Factor, Target as Place, Threads, View, product};
use ivon_lora::lora::{Adapter, LoraConfig};
use ivon_lora::method::Method;
use ivon_lora::model::{Checkpoint, Decoder};
use ivon_lora::random::{Purpose, below, stream};
use ivon_lora::train::TextObjective;
use serde_json::json;

use crate::Failure;
use crate::machine::{peak_bytes, start_threads};
use crate::measure::{load_decoder, median, setup};

/// What to measure.
#[derive(clap::Args, Clone)]
pub struct Options {
    /// A folder or a GGUF file.
    #[arg(long)]
    pub model: String,
    /// Tokens of the text.
    #[arg(long, default_value_t = 2049)]
    pub tokens: usize,
    /// How many of them are predicted: the last ones.
    #[arg(long, default_value_t = 2048)]
    pub predicted: usize,
    /// Steps, after one to warm up; and repetitions of the cross-entropy.
    #[arg(long, default_value_t = 5)]
    pub steps: usize,
    /// CPU threads.
    #[arg(long, default_value_t = 2)]
    pub threads: usize,
}

/// Measures, and prints JSON on one line.
pub fn run(options: &Options) -> Result<(), Failure> {
    start_threads(options.threads)?;
    let checkpoint = Checkpoint::open(&options.model)?;
    let seconds = step_seconds(options, load_decoder(&checkpoint, false, "f32")?)?;
    let peak = peak_bytes();
    let [cross_entropy, products] = output_layer(options, load_decoder(&checkpoint, false, "f32")?);
    let found = json!({
        "tokens": options.tokens,
        "predicted": options.predicted,
        "vocabulary": checkpoint.config().vocab_size,
        "hidden_size": checkpoint.config().hidden_size,
        "median_step_seconds": seconds,
        "peak_bytes": peak,
        "cross_entropy_seconds": cross_entropy,
        "bare_products_seconds": products,
        "cross_entropy_over_products": cross_entropy / products,
    });
    println!("{found}");
    Ok(())
}

/// The median time of a training step (IVON) on one text of random tokens.
fn step_seconds(options: &Options, decoder: Decoder) -> Result<f64, Failure> {
    let device = Device::flex();
    let network = Network::new(decoder, &device, false);
    let lora = LoraConfig::default();
    let adapter = Adapter::new(&lora, network.config(), 21, &device.autodiff())?;
    let method = Method::default();
    let setup = setup(options.steps + 1, 1, lora.dropout);
    let mut optimizer = method.settings().start(adapter, &setup)?;
    let example = example(options, network.config().vocab_size);
    let mut seconds = Vec::new();
    for step in 0..=options.steps as u64 {
        let started = Instant::now();
        let mut objective = TextObjective::new(&network, lora.dropout, 21, step, &[vec![&example]]);
        optimizer.step(method.learning_rate(), &mut objective)?;
        seconds.push(started.elapsed().as_secs_f64());
    }
    Ok(median(seconds.into_iter().skip(1)))
}

/// Random tokens, of which the last ones are predicted.
fn example(options: &Options, vocabulary: usize) -> Encoded {
    let mut random = stream(1, Purpose::Generation, 0, 0, "text");
    let mut token = || below(&mut random, vocabulary as u64) as u32;
    let first = options.tokens.saturating_sub(options.predicted).max(1);
    let weight = |index: usize| if index >= first { 1.0 } else { 0.0 };
    Encoded {
        id: "text".into(),
        key: 1,
        tokens: (0..options.tokens).map(|_| token()).collect(),
        target: Target::Text(TextTarget {
            weights: (0..options.tokens).map(weight).collect(),
            bytes: options.predicted,
            document: 1,
        }),
    }
}

/// The median times of the normaliser with its gradient, and of the two products with the output
/// matrix that it cannot do without (the gemm crate, all logits in memory), in turn.
fn output_layer(options: &Options, decoder: Decoder) -> [f64; 2] {
    let (n, vocabulary) = (options.predicted, decoder.config.vocab_size);
    let width = decoder.config.hidden_size;
    let hidden: Vec<f32> = (0..n * width)
        .map(|i| ((i * 7919 % 101) as f32 - 50.0) / 50.0)
        .collect();
    let all: Vec<u32> = (0..vocabulary as u32).collect();
    let table = decoder.output().gather(&all);
    let network = Network::new(decoder, &Device::flex(), false);
    let mut logits = vec![0.0; n * vocabulary];
    let mut gradient = vec![0.0; n * width];
    let (mut fused, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..=options.steps {
        let states = TensorData::new(hidden.clone(), [n, width]);
        let states = Tensor::<2>::from_data(states, &Device::flex().autodiff()).require_grad();
        let started = Instant::now();
        let states = Hidden {
            states,
            output: None,
            penalty: None,
        };
        let loss = network.log_normaliser(&states).sum();
        let _ = loss.backward();
        fused.push(started.elapsed().as_secs_f64());
        let started = Instant::now();
        let (h, w) = (
            View::new(&hidden, n, width),
            View::new(&table, vocabulary, width),
        );
        let place = Place::over(&mut logits, vocabulary);
        product(
            place,
            1.0,
            Factor::Plain(h),
            Factor::Transposed(w),
            Threads::All,
        );
        let (z, place) = (
            View::new(&logits, n, vocabulary),
            Place::over(&mut gradient, width),
        );
        product(place, 1.0, Factor::Plain(z), Factor::Plain(w), Threads::All);
        bare.push(started.elapsed().as_secs_f64());
    }
    [fused, bare].map(|seconds| median(seconds.into_iter().skip(1)))
}

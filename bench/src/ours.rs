//! One measurement of our side: training steps on the first questions, then an evaluation at the
//! mean and with samples.

use std::path::PathBuf;
use std::time::Instant;

use ivon_lora::data::{self, DataConfig, Encoded, Task};
use ivon_lora::lora::LoraConfig;
use ivon_lora::method::Method;
use ivon_lora::model::{Checkpoint, Decoder};
use serde_json::{Value, json};

use crate::machine::{self, peak_bytes};
use crate::measure::{Stages, Step, Trainer, load_decoder, median, rate, setup};
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
    /// In which numbers products with the base are computed: `f32` or `int8`.
    #[arg(long, default_value = "f32")]
    pub compute: String,
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

fn measure(options: &Options) -> Result<Value, Failure> {
    let mut stages = Stages::begin(Instant::now());
    machine::start_threads(options.threads)?;
    let checkpoint = Checkpoint::open(&options.model)?;
    let questions = QuestionSets::read(options, &checkpoint, &mut stages)?;
    let decoder = load_decoder(&checkpoint, options.as_is, &options.compute)?;
    stages.end("decoder");
    let mut trainer = trainer(options, decoder, questions.train.len())?;
    stages.end("network and optimizer");
    let steps = timed_steps(&mut trainer, &questions.train, &mut stages)?;
    stages.end("training");
    let training_peak = peak_bytes();
    let mean_seconds = trainer.prediction_seconds(&questions.held_out, 0)?;
    // The reference times its samples without the pass at the mean.
    let samples_seconds = if options.optimizer == "ivon" {
        Some(trainer.prediction_seconds(&questions.held_out, options.samples)? - mean_seconds)
    } else {
        None
    };
    stages.end("evaluation");
    let peak = peak_bytes();
    // Last, so that its operands are not part of the peak memory.
    let product_rate = machine::product_rate(PRODUCTS);
    let of_all = |value: fn(&Step) -> f64| steps.iter().map(value).sum::<f64>();
    Ok(json!({
        "sum_step_seconds": of_all(|step| step.seconds),
        "median_step_seconds": median(steps.iter().map(|step| step.seconds)),
        "first_step_after_seconds": stages.seconds_at("first step"),
        "tokens_per_step": of_all(|step| step.tokens as f64) / steps.len() as f64,
        "operations_per_step": of_all(|step| step.operations) / steps.len() as f64,
        "operations_per_second": rate(&steps),
        "product_operations_per_second": product_rate,
        "share_of_product_rate": rate(&steps) / product_rate,
        "training_peak_bytes": training_peak,
        "peak_rss_bytes": peak,
        "stages": stages.rows(),
        "history": [{"mean_seconds": mean_seconds, "samples_seconds": samples_seconds}],
    }))
}

/// The questions to train on and those to evaluate on.
struct QuestionSets {
    train: Vec<Encoded>,
    held_out: Vec<Encoded>,
}

impl QuestionSets {
    fn read(
        options: &Options,
        checkpoint: &Checkpoint,
        stages: &mut Stages,
    ) -> Result<Self, Failure> {
        let name = options.data.file_name().and_then(|name| name.to_str());
        let task = Task::named(name.unwrap_or_default())?;
        let tokenizer = checkpoint.tokenizer()?;
        stages.end("tokenizer");
        let encode_options = DataConfig::default().encode_options(&task);
        let encode = |file: &str, limit: usize| -> Result<Vec<Encoded>, Failure> {
            let mut examples = data::load_file(&options.data.join(file), &task)?.examples;
            examples.truncate(limit);
            Ok(data::encode_all(&examples, &tokenizer, encode_options)?.examples)
        };
        let sets = Self {
            train: encode("train.jsonl", options.questions)?,
            held_out: encode("validation.jsonl", options.eval_limit)?,
        };
        drop(tokenizer);
        stages.end("data");
        Ok(sets)
    }
}

fn trainer(options: &Options, decoder: Decoder, questions: usize) -> Result<Trainer, Failure> {
    let method = Method::named(&options.optimizer).ok_or("the optimizer is `ivon` or `adamw`")?;
    let lora = LoraConfig::default();
    let steps = WARM_UP + questions.div_ceil(BATCH);
    let setup = setup(steps, questions, lora.dropout);
    Trainer::new(decoder, lora, &method, &setup, options.recompute)
}

/// Trains once over all questions, after the warm-up steps; gives the steps after those.
fn timed_steps(
    trainer: &mut Trainer,
    questions: &[Encoded],
    stages: &mut Stages,
) -> Result<Vec<Step>, Failure> {
    let warm_up = questions.chunks(BATCH).cycle().take(WARM_UP);
    let mut steps: Vec<Step> = Vec::new();
    for (index, batch) in warm_up.chain(questions.chunks(BATCH)).enumerate() {
        let batch: Vec<&Encoded> = batch.iter().collect();
        steps.push(trainer.step(index as u64, &batch)?);
        if index == 0 {
            stages.end("first step");
        }
    }
    Ok(steps.split_off(WARM_UP.min(steps.len())))
}

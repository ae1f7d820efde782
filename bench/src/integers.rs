//! What 8-bit integers change: the logits and the gradients of a model whose products are computed
//! in them, against f32, at the same adapter.

use std::path::PathBuf;

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use ivon_lora::data::{self, DataConfig, Encoded, Task};
use ivon_lora::forward::Network;
use ivon_lora::lora::{Adapter, Draw, LoraConfig, read_peft};
use ivon_lora::model::{BasePrecision, Checkpoint, Compute, Decoder};
use ivon_lora::predict::Questions;
use ivon_lora::train::{BatchObjective, Objective};
use serde_json::{Value, json};

use crate::{Failure, machine, report};

/// What is compared.
#[derive(clap::Args)]
pub struct Options {
    /// The model: a folder or a GGUF file.
    #[arg(long, default_value = "models/smollm2-135m-instruct")]
    model: String,
    /// How the base is kept: `f32`, `bf16`, `q8_0` or `as-is`.
    #[arg(long, default_value = "f32")]
    precision: String,
    /// A PEFT folder; without one B is zero, and only its gradients are compared.
    #[arg(long)]
    adapter: Option<PathBuf>,
    /// A folder with train.jsonl, named as its task.
    #[arg(long, default_value = "../shared/data/arc_easy")]
    data: PathBuf,
    /// The number of questions, all in one batch.
    #[arg(long, default_value_t = 16)]
    questions: usize,
    /// CPU threads.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Where to write the report as JSON, with machine, versions and command.
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Compares, and prints one JSON object on one line.
pub fn run(options: &Options) -> Result<(), Failure> {
    machine::start_threads(options.threads)?;
    let checkpoint = Checkpoint::open(&options.model)?;
    let name = options.data.file_name().and_then(|name| name.to_str());
    let task = Task::named(name.unwrap_or_default())?;
    let mut examples = data::load_file(&options.data.join("train.jsonl"), &task)?.examples;
    examples.truncate(options.questions);
    let encode = DataConfig::default().encode_options(&task);
    let examples = data::encode_all(&examples, &checkpoint.tokenizer()?, encode)?.examples;
    let examples: Vec<&Encoded> = examples.iter().collect();
    let exact = Pass::new(options, &checkpoint, Compute::F32, &examples)?;
    let rounded = Pass::new(options, &checkpoint, Compute::Int8, &examples)?;
    let gradients = exact.gradients.iter().zip(&rounded.gradients);
    let gradients = gradients.map(|((path, exact), (_, rounded))| {
        let [cosine, ratio] = cosine_and_ratio(rounded, exact);
        json!({ "path": path, "cosine": cosine, "length_over_f32": ratio })
    });
    let found = json!({
        "model": checkpoint.display_name(),
        "precision": options.precision,
        "questions": examples.len(),
        "loss_f32": exact.loss,
        "loss_int8": rounded.loss,
        "logits_relative_error": relative_error(&rounded.logits, &exact.logits),
        "gradients": gradients.collect::<Vec<Value>>(),
    });
    println!("{found}");
    report::write(options.out.as_deref(), &found)
}

/// What a model computes for some questions.
struct Pass {
    /// Of all tokens of the vocabulary, where an answer is asked for.
    logits: Vec<f32>,
    /// nats.
    loss: f64,
    /// Those that are not zero, by the path of their parameter.
    gradients: Vec<(String, Vec<f32>)>,
}

impl Pass {
    fn new(
        options: &Options,
        checkpoint: &Checkpoint,
        compute: Compute,
        examples: &[&Encoded],
    ) -> Result<Self, Failure> {
        let precision: BasePrecision = serde_json::from_value(options.precision.as_str().into())?;
        let decoder = Decoder::load_for(checkpoint, precision, compute)?;
        let device = Device::flex();
        let network = Network::new(decoder, &device, false);
        let adapter = match &options.adapter {
            Some(folder) => read_peft(folder, network.config(), &device)?
                .adapter
                .train(),
            None => {
                let lora = LoraConfig::default();
                Adapter::new(&lora, network.config(), 21, &device.autodiff())?
            }
        };
        let batch = Questions::pack(examples)?.batch;
        let vocabulary: Vec<u32> = (0..network.config().vocab_size as u32).collect();
        let hidden = network.hidden(&batch, &Draw::of(adapter.clone()));
        let logits = numbers(network.logits_of(&hidden, &vocabulary))?;
        let mut objective = BatchObjective::new(&network, 0.0, 21, 0, &[examples.to_vec()]);
        let evidence = objective.evaluate(&adapter, 0, 0)?;
        Ok(Self {
            logits,
            loss: evidence.loss,
            gradients: by_path(evidence.gradients, &adapter)?,
        })
    }
}

fn by_path(
    mut gradients: GradientsParams,
    adapter: &Adapter,
) -> Result<Vec<(String, Vec<f32>)>, Failure> {
    let mut found = Vec::new();
    for (path, parameter) in adapter.parameters() {
        if let Some(gradient) = gradients.remove::<2>(parameter.id) {
            let gradient = numbers(gradient)?;
            if gradient.iter().any(|&x| x != 0.0) {
                found.push((path, gradient));
            }
        }
    }
    Ok(found)
}

fn numbers(tensor: Tensor<2>) -> Result<Vec<f32>, Failure> {
    let numbers = tensor.into_data().try_to_vec::<f32>();
    numbers.map_err(|error| format!("{error:?}").into())
}

/// |x − y| / |y|.
fn relative_error(x: &[f32], y: &[f32]) -> f64 {
    let difference: f64 = x.iter().zip(y).map(|(x, y)| f64::from(x - y).powi(2)).sum();
    (difference / dot(y, y)).sqrt()
}

/// x · y / (|x| |y|), and |x| / |y|.
fn cosine_and_ratio(x: &[f32], y: &[f32]) -> [f64; 2] {
    let lengths = [dot(x, x).sqrt(), dot(y, y).sqrt()];
    [
        dot(x, y) / (lengths[0] * lengths[1]),
        lengths[0] / lengths[1],
    ]
}

fn dot(x: &[f32], y: &[f32]) -> f64 {
    x.iter()
        .zip(y)
        .map(|(x, y)| f64::from(*x) * f64::from(*y))
        .sum()
}

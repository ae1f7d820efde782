//! Checks that a device computes what PyTorch computed: logits, loss and gradients of the golden
//! models, as the tests of `forward` do for the CPU.

use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use ivon_lora::answer::device_named;
use ivon_lora::data::Batch;
use ivon_lora::forward::Network;
use ivon_lora::lora::{Adapter, Draw, read_peft};
use ivon_lora::model::{BasePrecision, Checkpoint, Decoder};
use ivon_lora::testing::{golden, golden_json};
use serde_json::Value;

use crate::Failure;

/// Which device.
#[derive(clap::Args)]
pub struct Options {
    /// `cpu`, or a device whose feature the program was built with.
    #[arg(long, default_value = "cpu")]
    device: String,
    /// The largest difference that passes, relative to the largest number compared.
    #[arg(long, default_value_t = 1e-4)]
    tolerance: f32,
}

const FAMILIES: [&str; 5] = ["llama", "llama3-rope", "mistral", "qwen2", "qwen3"];
const PARTS: [&str; 4] = ["logits", "adapted", "loss", "gradients"];

/// Compares every family and prints the relative differences.
pub fn run(options: &Options) -> Result<(), Failure> {
    let device = device_named(&options.device)?;
    println!(
        "{:12} {}",
        options.device,
        PARTS.map(|part| format!("{part:>10}")).join(" ")
    );
    let mut worst = 0f32;
    for family in FAMILIES {
        let found = differences(family, &device)?;
        println!(
            "{family:12} {}",
            found
                .map(|difference| format!("{difference:10.1e}"))
                .join(" ")
        );
        worst = found.into_iter().fold(worst, larger);
    }
    if worst.is_nan() || worst > options.tolerance {
        return Err(format!(
            "the largest difference is {worst:.1e}, expected at most {:.1e}",
            options.tolerance
        )
        .into());
    }
    Ok(())
}

/// The largest relative difference of each of [`PARTS`].
fn differences(family: &str, device: &Device) -> Result<[f32; 4], Failure> {
    let folder = golden().join("tiny").join(family);
    let expected = golden_json(&format!("tiny/{family}/expected.json"));
    let checkpoint = Checkpoint::open(&folder.display().to_string())?;
    let network = Network::new(
        Decoder::load(&checkpoint, BasePrecision::F32)?,
        device,
        false,
    );
    let peft = read_peft(&folder.join("adapter"), network.config(), network.device())?;
    let batch = batch(&expected);
    let logits = |adapter: &Adapter| {
        let hidden = network.hidden(&batch, &Draw::of(adapter.clone()));
        read(network.logits_of(
            &hidden,
            &(0..network.config().vocab_size as u32).collect::<Vec<_>>(),
        ))
    };
    let base = difference(
        &logits(&Adapter::empty())?,
        &numbers(&expected["base_logits"]),
    );
    let adapted = difference(
        &logits(&peft.adapter)?,
        &numbers(&expected["adapted_logits"]),
    );
    let adapter = peft.adapter.train();
    let choices: Vec<u32> = numbers(&expected["choice_ids"])
        .iter()
        .map(|&id| id as u32)
        .collect();
    let hidden = network.hidden(&batch, &Draw::of(adapter.clone()));
    let loss = cross_entropy(
        network.logits_of(&hidden, &choices),
        &numbers(&expected["labels"]),
    );
    let loss_difference = difference(&read(loss.clone())?, &numbers(&expected["loss"]));
    let mut gradients = GradientsParams::from_grads(loss.backward(), &adapter);
    let mut worst = 0f32;
    for (path, parameter) in adapter.parameters() {
        let name = format!("base_model.model.model.{path}.default.weight");
        worst = larger(
            worst,
            difference(
                &read(gradient(&mut gradients, &path, parameter)?)?,
                &numbers(&expected["gradients"][&name]),
            ),
        );
    }
    Ok([base, adapted, loss_difference, worst])
}

fn gradient(
    gradients: &mut GradientsParams,
    path: &str,
    parameter: &Param<Tensor<2>>,
) -> Result<Tensor<2>, Failure> {
    gradients
        .remove::<2>(parameter.id)
        .ok_or_else(|| format!("`{path}` has no gradient").into())
}

/// Mean cross-entropy of `[S, C]`, nats.
fn cross_entropy(logits: Tensor<2>, labels: &[f32]) -> Tensor<1> {
    let labels: Vec<i64> = labels.iter().map(|&label| label as i64).collect();
    let device = logits.device().without_autodiff();
    let labels =
        Tensor::<2, Int>::from_data(TensorData::new(labels.clone(), [labels.len(), 1]), &device);
    log_softmax(logits, 1).gather(1, labels).mean().neg()
}

fn read<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, Failure> {
    tensor
        .into_data()
        .try_to_vec::<f32>()
        .map_err(|error| format!("{error:?}").into())
}

/// The numbers of a nested JSON array of any depth.
fn numbers(value: &Value) -> Vec<f32> {
    match value {
        Value::Array(items) => items.iter().flat_map(numbers).collect(),
        other => other
            .as_f64()
            .map(|number| number as f32)
            .into_iter()
            .collect(),
    }
}

fn batch(expected: &Value) -> Batch {
    let mut batch = Batch::default();
    for (key, sequence) in expected["sequences"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
    {
        let tokens: Vec<u32> = numbers(sequence)
            .iter()
            .map(|&token| token as u32)
            .collect();
        let segment = batch.push(&tokens, None, key as u64);
        batch.ask_last(segment);
    }
    batch
}

/// max |found − expected| / max |expected|; NaN if the lengths differ.
fn difference(found: &[f32], expected: &[f32]) -> f32 {
    if found.len() != expected.len() || expected.is_empty() {
        return f32::NAN;
    }
    let largest = expected
        .iter()
        .fold(0f32, |largest, x| largest.max(x.abs()));
    found
        .iter()
        .zip(expected)
        .map(|(a, b)| (a - b).abs())
        .fold(0f32, larger)
        / largest
}

/// The larger of the two; NaN is larger than any number (`f32::max` would ignore it).
fn larger(a: f32, b: f32) -> f32 {
    if a.is_nan() || a > b { a } else { b }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_agrees_and_an_impossible_tolerance_does_not() {
        let options = |tolerance| Options {
            device: "cpu".into(),
            tolerance,
        };
        run(&options(1e-4)).unwrap();
        let message = run(&options(0.0)).unwrap_err().to_string();
        assert!(
            message.starts_with("the largest difference is ")
                && message.ends_with("expected at most 0.0e0"),
            "{message}"
        );
    }

    #[test]
    fn what_is_no_number_or_missing_never_passes_for_equal() {
        assert!((difference(&[1.0, 2.5], &[1.0, 2.0]) - 0.25).abs() < 1e-6);
        assert!(
            difference(&[1.0], &[1.0, 2.0]).is_nan()
                && difference(&[f32::NAN, 2.0], &[1.0, 2.0]).is_nan()
        );
    }
}

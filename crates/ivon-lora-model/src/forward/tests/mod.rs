//! The forward pass in its three forms (the CPU operation, with its layers computed again in the
//! backward pass, and plain operations): against transformers and PEFT, and against each other.

mod batches;
mod forms;
mod golden;
mod text;
mod written;

use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use serde_json::Value;

use super::Network;
use crate::data::Batch;
use crate::lora::{Adapter, Draw, Dropout, LoraConfig, TargetModules, read_peft};
use crate::model::{BasePrecision, Checkpoint, Decoder};
use crate::testing;

fn decoder(family: &str) -> Decoder {
    let folder = testing::golden().join("tiny").join(family);
    let checkpoint = Checkpoint::open(folder.to_str().unwrap()).unwrap();
    Decoder::load(&checkpoint, BasePrecision::F32).unwrap()
}

fn networks(family: &str) -> [Network; 3] {
    networks_of(decoder(family))
}

fn networks_of(decoder: Decoder) -> [Network; 3] {
    let device = Device::flex();
    [
        Network::new(decoder.clone(), &device, false),
        Network::new(decoder.clone(), &device, true),
        Network::plain(decoder, &device),
    ]
}

/// The adapter in a family's golden folder.
fn adapter(family: &str, network: &Network) -> Adapter {
    let folder = testing::golden().join("tiny").join(family).join("adapter");
    let read = read_peft(&folder, network.config(), network.device());
    read.unwrap().adapter
}

/// A golden file of a family.
fn stated(family: &str, file: &str) -> Value {
    testing::golden_json(&format!("tiny/{family}/{file}.json"))
}

fn numbers(value: &Value) -> Vec<f32> {
    match value {
        Value::Array(items) => items.iter().flat_map(numbers).collect(),
        other => vec![other.as_f64().unwrap() as f32],
    }
}

/// The numbers of a list of tokens.
fn tokens(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

/// The sequences of a golden file, each with its last token asked for.
fn batch(expected: &Value) -> Batch {
    let mut batch = Batch::default();
    for (key, sequence) in expected["sequences"].as_array().unwrap().iter().enumerate() {
        let segment = batch.push(&tokens(sequence), None, key as u64);
        batch.ask_last(segment);
    }
    batch
}

/// |a − b| ≤ tolerance · max|expected|.
#[track_caller]
fn agree(found: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    let largest = expected
        .iter()
        .fold(0.0f32, |largest, x| largest.max(x.abs()));
    let worst = found
        .iter()
        .zip(expected)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max);
    assert!(
        found.len() == expected.len() && worst <= tolerance * largest,
        "{what}: off by {worst} of {largest}"
    );
}

fn vocabulary(network: &Network) -> Vec<u32> {
    (0..network.config().vocab_size as u32).collect()
}

fn logits(network: &Network, batch: &Batch, adapter: &Adapter) -> Vec<f32> {
    let hidden = network.hidden(batch, &Draw::of(adapter.clone()));
    network
        .logits_of(&hidden, &vocabulary(network))
        .into_data()
        .try_to_vec()
        .unwrap()
}

/// Mean cross-entropy over the choice logits of the golden file.
fn loss(
    network: &Network,
    batch: &Batch,
    adapter: &Adapter,
    dropout: Option<Dropout>,
    expected: &Value,
) -> Tensor<1> {
    let choices = tokens(&expected["choice_ids"]);
    let labels: Vec<i64> = numbers(&expected["labels"])
        .iter()
        .map(|&label| label as i64)
        .collect();
    let draw = Draw {
        adapter: adapter.clone(),
        dropout,
    };
    let logits = network.logits_of(&network.hidden(batch, &draw), &choices);
    let labels = Tensor::<2, Int>::from_data(
        TensorData::new(labels.clone(), [labels.len(), 1]),
        &logits.device(),
    );
    log_softmax(logits, 1).gather(1, labels).mean().neg()
}

fn gradients(adapter: &Adapter, loss: Tensor<1>) -> Vec<(String, Vec<f32>)> {
    let mut gradients = GradientsParams::from_grads(loss.backward(), adapter);
    let of = |(path, parameter): (String, &Param<Tensor<2>>)| {
        let gradient = gradients
            .remove::<2>(parameter.id)
            .unwrap_or_else(|| panic!("{path} has no gradient"));
        (path, gradient.into_data().try_to_vec().unwrap())
    };
    adapter.parameters().map(of).collect()
}

/// An adapter on every linear layer with nonzero B.
fn everywhere(network: &Network) -> Adapter {
    let config = LoraConfig {
        target_modules: TargetModules::Pattern("all-linear".into()),
        rank: 3,
        ..LoraConfig::default()
    };
    waves(&Adapter::new(&config, network.config(), 5, network.device()).unwrap())
}

/// The same adapter with other numbers, none of them 0.
fn waves(adapter: &Adapter) -> Adapter {
    adapter.clone_with(|path, tensor| {
        let [rows, columns] = tensor.dims();
        let count = rows * columns;
        let wave = (0..count)
            .map(|i| ((i as f32 + path.len() as f32) * 0.37).sin() * 0.1)
            .collect::<Vec<_>>();
        Tensor::from_data(TensorData::new(wave, [rows, columns]), &tensor.device())
    })
}

/// Panics unless the gradients of all A and B are those of a golden file.
#[track_caller]
fn gradients_agree(
    adapter: &Adapter,
    loss: Tensor<1>,
    expected: &Value,
    tolerance: f32,
    what: &str,
) {
    for (path, gradient) in gradients(adapter, loss) {
        let name = format!("base_model.model.model.{path}.default.weight");
        let stated = numbers(&expected["gradients"][&name]);
        agree(&gradient, &stated, tolerance, &format!("{what} {name}"));
    }
}

/// The numbers of a tensor.
fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().unwrap()
}

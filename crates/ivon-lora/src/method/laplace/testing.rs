//! A tiny network with adapters and examples, for the tests of this folder.

use burn::tensor::{Device, Tensor, TensorData};

use crate::data::{Choices, Encoded, Target};
use crate::forward::Network;
use crate::lora::{Adapter, LoraConfig, TargetModules};
use crate::model::{BasePrecision, Checkpoint, Decoder};
use crate::testing::{golden, golden_normals};

pub fn network() -> Network {
    networks().0
}

/// The CPU operation, and plain Burn operations.
pub fn networks() -> (Network, Network) {
    let checkpoint = Checkpoint::open(golden().join("tiny/llama").to_str().unwrap()).unwrap();
    let decoder = || Decoder::load(&checkpoint, BasePrecision::F32).unwrap();
    (
        Network::new(decoder(), &Device::flex(), false),
        Network::plain(decoder(), &Device::flex()),
    )
}

/// An adapter with numbers away from zero, on one layer or on all.
pub fn tiny(
    network: &Network,
    rank: usize,
    target_modules: TargetModules,
    layer: Option<usize>,
) -> Adapter {
    let config = LoraConfig {
        rank,
        target_modules,
        layers_to_transform: layer.map(|layer| vec![layer]),
        ..LoraConfig::default()
    };
    let adapter = Adapter::new(&config, network.config(), 2, &Device::flex())
        .unwrap()
        .with_scaling(4.0);
    let mut seed = 0;
    adapter.clone_with(|_, tensor| {
        seed += 1;
        let values: Vec<f32> = golden_normals(seed, tensor.dims().iter().product())
            .iter()
            .map(|x| 0.3 * *x as f32)
            .collect();
        Tensor::from_data(TensorData::new(values, tensor.dims()), &tensor.device())
    })
}

/// Three examples of four tokens with two, three and four choices.
pub fn examples() -> Vec<Encoded> {
    let example = |key: u32, count: usize| Encoded {
        id: key.to_string(),
        key: u64::from(key),
        tokens: vec![5, 6 + key, 7, 30 - key],
        target: Target::Choice {
            choices: Choices::Tokens((40..40 + count as u32).collect()),
            label: Some(key as usize % 2),
        },
    };
    vec![example(1, 2), example(2, 3), example(3, 4)]
}

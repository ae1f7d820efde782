//! Decoders, batches and numbers for the micro-benchmarks.

use burn::tensor::{Device, Tensor, TensorData};
use ivon_lora::data::{Batch, Choices, Encoded, Target};
use ivon_lora::forward::Network;
use ivon_lora::lora::{Adapter, LoraConfig};
use ivon_lora::model::{Decoder, DecoderConfig};

/// Number of tokens of each of the four questions.
pub const LENGTHS: [usize; 4] = [58, 61, 68, 78];

/// N, tokens of a batch.
pub fn tokens() -> usize {
    LENGTHS.iter().sum()
}

/// Numbers of both signs with a standard deviation of about `size`.
pub fn wave(count: usize, size: f32) -> Vec<f32> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..count).map(|_| size * 12f32.sqrt() * next()).collect()
}

/// `values` as a tensor `[rows, columns]` on the CPU.
pub fn tensor(values: Vec<f32>, rows: usize, columns: usize) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values, [rows, columns]), &Device::flex())
}

/// SmolLM2-135M's shape with fewer layers.
pub fn config(layers: usize) -> DecoderConfig {
    let whole = bench::shapes::named("smollm2-135m").expect("a known shape");
    DecoderConfig {
        num_hidden_layers: layers,
        layers: whole.layers[..layers].to_vec(),
        vocab_size: 1024,
        ..whole
    }
}

/// A decoder of random f32 weights.
pub fn decoder(config: &DecoderConfig) -> Decoder {
    let embedding = config.embedding();
    Decoder::from_values(config, |name, shape| match *shape {
        [rows, columns] if name == embedding => wave(rows * columns, 1.0),
        [rows, columns] => wave(rows * columns, 1.0 / (columns as f32).sqrt()),
        _ => vec![1.0; shape.iter().product()],
    })
}

/// The same decoder as the CPU operation, as the CPU operation with recomputation, and as plain
/// Burn operations.
pub fn networks(config: &DecoderConfig) -> [(&'static str, Network); 3] {
    let device = Device::flex();
    [
        ("host", Network::new(decoder(config), &device, false)),
        (
            "host, recomputing",
            Network::new(decoder(config), &device, true),
        ),
        ("plain", Network::plain(decoder(config), &device)),
    ]
}

/// An adapter as in the recipe, tracked by autodiff.
pub fn adapter(config: &DecoderConfig) -> Adapter {
    Adapter::new(
        &LoraConfig::default(),
        config,
        1,
        &Device::flex().autodiff(),
    )
    .expect("the recipe fits")
}

/// Four labelled questions.
pub fn questions(vocabulary: usize) -> Vec<Encoded> {
    let question = |index: usize| Encoded {
        id: index.to_string(),
        key: index as u64,
        tokens: (0..LENGTHS[index])
            .map(|at| ((at * 7919 + index * 104_729) % vocabulary) as u32)
            .collect(),
        target: Target::Choice {
            choices: Choices::Tokens(vec![1, 2, 3, 4]),
            label: Some(index),
        },
    };
    (0..LENGTHS.len()).map(question).collect()
}

/// The questions packed, with every token scored, so that a decoder's last layer does the work of a
/// whole layer.
pub fn whole_batch(vocabulary: usize) -> Batch {
    let mut batch = Batch::default();
    for question in questions(vocabulary) {
        batch.push(&question.tokens, None, question.key);
    }
    batch.asked = (0..batch.len()).collect();
    batch
}

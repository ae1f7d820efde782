//! Tiny decoders and adapters for tests.

use burn::tensor::Device;

use crate::lora::{Adapter, LoraConfig, TargetModules};
use crate::model::{
    Attention, DecoderConfig, Ends, LayerKind, MODEL, Mixer, Mlp, Rope, RopeScaling,
};

/// The shape of `testdata/golden/tiny/llama`, with any number of layers.
pub fn decoder(layers: usize) -> DecoderConfig {
    let rope = Rope {
        theta: 10000.0,
        scaling: RopeScaling::Default,
        partial_rotary_factor: None,
    };
    let attention = Attention::new([4, 2, 8], Some(rope));
    let layer = LayerKind::new(Mixer::Attention(attention), Mlp::new(48));
    DecoderConfig {
        model_type: "llama".into(),
        module: MODEL,
        vocab_size: 96,
        hidden_size: 32,
        num_hidden_layers: layers,
        max_position_embeddings: 128,
        rms_norm_eps: 1e-5,
        layers: vec![layer; layers],
        tie_word_embeddings: false,
        ends: Ends::default(),
    }
}

/// Rank 4, alpha 8, on these targets (`all-linear`, or comma-separated names).
pub fn config(targets: &str) -> LoraConfig {
    let target_modules = match targets {
        "all-linear" => TargetModules::Pattern(targets.into()),
        names => TargetModules::List(names.split(',').map(String::from).collect()),
    };
    LoraConfig {
        rank: 4,
        alpha: 8.0,
        dropout: 0.0,
        target_modules,
        ..LoraConfig::default()
    }
}

/// An adapter without zeros, B included.
///
/// # Panics
/// If the targets match no layer of the decoder.
pub fn adapter(layers: usize, targets: &str) -> Adapter {
    let fresh = Adapter::new(&config(targets), &decoder(layers), 3, &Device::flex())
        .expect("targets of the decoder");
    let mut number = 0.0;
    fresh.clone_with(|_, tensor| {
        number += 0.01;
        tensor + number
    })
}

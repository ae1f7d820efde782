//! Tiny decoders and adapters for tests.

use burn::tensor::Device;

use crate::lora::{Adapter, LoraConfig, TargetModules};
use crate::model::{DecoderConfig, LayerKind, Rope, RopeScaling};

/// The shape of `testdata/golden/tiny/llama`, with any number of layers.
pub fn decoder(layers: usize) -> DecoderConfig {
    let rope = Rope {
        theta: 10000.0,
        scaling: RopeScaling::Default,
    };
    DecoderConfig {
        model_type: "llama".into(),
        vocab_size: 96,
        hidden_size: 32,
        intermediate_size: 48,
        num_hidden_layers: layers,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 8,
        max_position_embeddings: 128,
        rms_norm_eps: 1e-5,
        layers: vec![LayerKind::new(None, rope); layers],
        tie_word_embeddings: false,
        attention_bias: false,
        qk_norm: false,
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

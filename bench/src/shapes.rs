//! The shapes of known decoders, for models with random weights: `smollm2-135m`, `llama-2-7b`, …

use ivon_lora::model::{Attention, DecoderConfig, Ends, LayerKind, Mixer, Mlp, Rope, RopeScaling};

/// The sizes that define a Llama-shaped decoder, under the names of config.json.
#[derive(Clone, Copy, Debug)]
struct Shape {
    name: &'static str,
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: usize,
    max_position_embeddings: usize,
    rope_theta: f64,
    tie_word_embeddings: bool,
}

/// From the config.json of each model; `tiny` is our own, for tests.
#[rustfmt::skip]
const SHAPES: [Shape; 6] = [
    Shape { name: "tiny", vocab_size: 512, hidden_size: 64, intermediate_size: 96, num_hidden_layers: 2, num_attention_heads: 4,
            num_key_value_heads: 2, max_position_embeddings: 2048, rope_theta: 1e4, tie_word_embeddings: false },
    Shape { name: "smollm2-135m", vocab_size: 49_152, hidden_size: 576, intermediate_size: 1536, num_hidden_layers: 30, num_attention_heads: 9,
            num_key_value_heads: 3, max_position_embeddings: 8192, rope_theta: 1e5, tie_word_embeddings: true },
    Shape { name: "smollm2-360m", vocab_size: 49_152, hidden_size: 960, intermediate_size: 2560, num_hidden_layers: 32, num_attention_heads: 15,
            num_key_value_heads: 5, max_position_embeddings: 8192, rope_theta: 1e5, tie_word_embeddings: true },
    Shape { name: "tinyllama-1.1b", vocab_size: 32_000, hidden_size: 2048, intermediate_size: 5632, num_hidden_layers: 22, num_attention_heads: 32,
            num_key_value_heads: 4, max_position_embeddings: 2048, rope_theta: 1e4, tie_word_embeddings: false },
    Shape { name: "smollm2-1.7b", vocab_size: 49_152, hidden_size: 2048, intermediate_size: 8192, num_hidden_layers: 24, num_attention_heads: 32,
            num_key_value_heads: 32, max_position_embeddings: 8192, rope_theta: 1.3e5, tie_word_embeddings: true },
    Shape { name: "llama-2-7b", vocab_size: 32_000, hidden_size: 4096, intermediate_size: 11_008, num_hidden_layers: 32, num_attention_heads: 32,
            num_key_value_heads: 32, max_position_embeddings: 4096, rope_theta: 1e4, tie_word_embeddings: false },
];

/// The names of all shapes, smallest first.
pub fn names() -> Vec<&'static str> {
    SHAPES.iter().map(|shape| shape.name).collect()
}

/// The decoder with this name, if known.
pub fn named(name: &str) -> Option<DecoderConfig> {
    let shape = SHAPES.iter().find(|shape| shape.name == name)?;
    let rope = Rope {
        theta: shape.rope_theta,
        scaling: RopeScaling::Default,
        partial_rotary_factor: None,
    };
    let (heads, hidden) = (shape.num_attention_heads, shape.hidden_size);
    let heads = [heads, shape.num_key_value_heads, hidden / heads];
    let attention = Attention::new(heads, Some(rope));
    let layer = LayerKind::new(
        Mixer::Attention(attention),
        Mlp::new(shape.intermediate_size),
    );
    Some(DecoderConfig {
        model_type: "llama".into(),
        module: ivon_lora::model::MODEL,
        vocab_size: shape.vocab_size,
        hidden_size: hidden,
        num_hidden_layers: shape.num_hidden_layers,
        max_position_embeddings: shape.max_position_embeddings,
        rms_norm_eps: 1e-5,
        layers: vec![layer; shape.num_hidden_layers],
        tie_word_embeddings: shape.tie_word_embeddings,
        ends: Ends::default(),
    })
}

/// Number of weights in all tensors of a decoder without biases and head norms.
pub fn parameters(config: &DecoderConfig) -> usize {
    let hidden = config.hidden_size;
    let tables = config.vocab_size * hidden * if config.tie_word_embeddings { 1 } else { 2 };
    crate::flops::linear_weights(config) + config.num_hidden_layers * 2 * hidden + tables + hidden
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_is_valid_and_has_the_parameters_that_its_name_says() {
        for (name, millions) in [
            ("smollm2-135m", 134.5),
            ("smollm2-360m", 361.8),
            ("tinyllama-1.1b", 1100.0),
            ("smollm2-1.7b", 1711.4),
            ("llama-2-7b", 6738.4),
        ] {
            let config = named(name).unwrap();
            config.validate(name).unwrap();
            let found = parameters(&config) as f64 / 1e6;
            assert!((found - millions).abs() < 0.1, "{name}: {found}");
        }
        assert_eq!(names().len(), SHAPES.len());
        assert!(named("gpt-5").is_none());
    }
}

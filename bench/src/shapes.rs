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

/// The shapes of other families: the `config.json` of each checkpoint, as far as it concerns the
/// sizes, from memory (the hub could not be reached).
const CONFIGS: [(&str, &str); 10] = [
    (
        "gemma-3-270m",
        r#"{"model_type": "gemma3_text", "vocab_size": 262144, "hidden_size": 640, "intermediate_size": 2048,
            "num_hidden_layers": 18, "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256,
            "query_pre_attn_scalar": 256, "sliding_window": 512, "max_position_embeddings": 32768}"#,
    ),
    (
        "granite-4.0-350m",
        r#"{"model_type": "granitemoehybrid", "vocab_size": 100352, "hidden_size": 1024, "intermediate_size": 2048,
            "shared_intermediate_size": 2048, "num_hidden_layers": 28, "num_attention_heads": 16,
            "num_key_value_heads": 4, "num_local_experts": 0, "position_embedding_type": "rope",
            "embedding_multiplier": 12, "attention_multiplier": 0.015625, "residual_multiplier": 0.246,
            "logits_scaling": 4, "tie_word_embeddings": true, "layer_types": ["attention", "attention", "attention",
            "attention", "attention", "attention", "attention", "attention", "attention", "attention", "attention",
            "attention", "attention", "attention", "attention", "attention", "attention", "attention", "attention",
            "attention", "attention", "attention", "attention", "attention", "attention", "attention", "attention",
            "attention"]}"#,
    ),
    (
        "qwen3.5-0.8b",
        r#"{"model_type": "qwen3_5_text", "vocab_size": 248320, "hidden_size": 1024, "intermediate_size": 3584,
            "num_hidden_layers": 24, "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 256,
            "linear_num_key_heads": 16, "linear_num_value_heads": 16, "tie_word_embeddings": true}"#,
    ),
    (
        "lfm2-1.2b",
        r#"{"model_type": "lfm2", "vocab_size": 65536, "hidden_size": 2048, "block_ff_dim": 12288,
            "block_auto_adjust_ff_dim": true, "num_hidden_layers": 16, "num_attention_heads": 32,
            "num_key_value_heads": 8, "full_attn_idxs": [2, 5, 8, 10, 12, 14]}"#,
    ),
    (
        "olmo-2-1b",
        r#"{"model_type": "olmo2", "vocab_size": 100352, "hidden_size": 2048, "intermediate_size": 8192,
            "num_hidden_layers": 16, "num_attention_heads": 16, "num_key_value_heads": 16}"#,
    ),
    (
        "gemma-2-2b",
        r#"{"model_type": "gemma2", "vocab_size": 256000, "hidden_size": 2304, "intermediate_size": 9216,
            "num_hidden_layers": 26, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256}"#,
    ),
    (
        "gemma-4-e2b",
        r#"{"model_type": "gemma4_text", "vocab_size": 262144, "hidden_size": 1536, "intermediate_size": 6144,
            "num_hidden_layers": 35, "num_attention_heads": 8, "num_key_value_heads": 1, "head_dim": 256,
            "num_kv_shared_layers": 20, "use_double_wide_mlp": true, "hidden_size_per_layer_input": 256,
            "final_logit_softcapping": 30}"#,
    ),
    (
        "smollm3-3b",
        r#"{"model_type": "smollm3", "vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 11008,
            "num_hidden_layers": 36, "num_attention_heads": 16, "num_key_value_heads": 4, "rope_theta": 5000000}"#,
    ),
    (
        "ministral-3-3b",
        r#"{"model_type": "ministral3", "vocab_size": 131072, "hidden_size": 3072, "intermediate_size": 9216,
            "num_hidden_layers": 26, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
            "tie_word_embeddings": true}"#,
    ),
    (
        "phi-4-mini",
        r#"{"model_type": "phi3", "vocab_size": 200064, "hidden_size": 3072, "intermediate_size": 8192,
            "num_hidden_layers": 32, "num_attention_heads": 24, "num_key_value_heads": 8,
            "partial_rotary_factor": 0.75, "sliding_window": null, "tie_word_embeddings": true}"#,
    ),
];

/// The names of all shapes, Llama's first.
pub fn names() -> Vec<&'static str> {
    let llamas = SHAPES.iter().map(|shape| shape.name);
    llamas.chain(CONFIGS.map(|(name, _)| name)).collect()
}

/// The `config.json` of a shape of another family than Llama's.
pub fn config_json(name: &str) -> Option<&'static str> {
    let found = CONFIGS.iter().find(|(known, _)| *known == name)?;
    Some(found.1)
}

/// The decoder with this name, if known.
pub fn named(name: &str) -> Option<DecoderConfig> {
    if let Some(text) = config_json(name) {
        return DecoderConfig::from_json(text, name).ok();
    }
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

/// Number of weights in all tensors of a decoder.
pub fn parameters(config: &DecoderConfig) -> usize {
    let shapes = config.tensors().into_values();
    shapes.map(|shape| shape.iter().product::<usize>()).sum()
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
            ("gemma-3-270m", 268.1),
            ("granite-4.0-350m", 352.4),
            ("qwen3.5-0.8b", 752.4),
            ("lfm2-1.2b", 1170.3),
            ("olmo-2-1b", 1484.9),
            ("gemma-2-2b", 2614.3),
            ("smollm3-3b", 3075.1),
            ("phi-4-mini", 3836.0),
        ] {
            let config = named(name).unwrap();
            config.validate(name).unwrap();
            let found = parameters(&config) as f64 / 1e6;
            assert!((found - millions).abs() < 0.1, "{name}: {found}");
        }
        assert_eq!(names().len(), SHAPES.len() + CONFIGS.len());
        assert!(named("gpt-5").is_none());
    }
}

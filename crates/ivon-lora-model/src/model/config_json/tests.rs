//! Keys of config.json: used, refused, or without effect.

use serde_json::json;

use super::*;
use crate::model::{HeadNorm, RopeScaling};
use crate::testing;

fn llama() -> Value {
    json!({"model_type": "llama", "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "max_position_embeddings": 128})
}

fn with(changes: Value) -> Value {
    let mut config = llama();
    config
        .as_object_mut()
        .unwrap()
        .extend(changes.as_object().unwrap().clone());
    config
}

fn read(config: &Value) -> Result<DecoderConfig, String> {
    DecoderConfig::from_json(&config.to_string(), "config.json").map_err(|error| error.to_string())
}

#[test]
fn both_schemas_of_every_golden_model_say_the_same() {
    for family in ["llama", "llama3-rope", "mistral", "qwen2", "qwen3"] {
        let folder = testing::golden().join("tiny").join(family);
        let read = |name: &str| {
            DecoderConfig::from_json(&std::fs::read_to_string(folder.join(name)).unwrap(), name)
                .unwrap()
        };
        let (new, old) = (read("config.json"), read("config.transformers4.json"));
        assert_eq!(new, old, "{family}");
        let attention = new.attention().unwrap();
        assert_eq!(attention.attention_bias, family == "qwen2");
        assert_eq!(attention.qk_norm == HeadNorm::PerHead, family == "qwen3");
        assert_eq!(
            matches!(
                new.layers[0].rope().unwrap().scaling,
                RopeScaling::Llama3 { .. }
            ),
            family == "llama3-rope"
        );
    }
}

#[test]
fn missing_keys_take_the_defaults_of_the_family() {
    let mut config = llama();
    let keys = config.as_object_mut().unwrap();
    keys.remove("num_key_value_heads");
    keys.remove("rms_norm_eps");
    let read = read(&config).unwrap();
    assert_eq!((read.heads(), read.rms_norm_eps), ([4, 4, 8], 1e-6));
    assert_eq!(
        (
            read.layers[0].rope().unwrap().theta,
            read.tie_word_embeddings,
            read.layers[0].window()
        ),
        (10_000.0, false, None)
    );
}

#[test]
fn null_is_the_default_for_every_key_that_has_one() {
    for family in Family::model_types() {
        for key in keys::READ {
            let mut without = with(
                json!({ "model_type": family, "num_attention_heads": 32, "hidden_size": 256 }),
            );
            without.as_object_mut().unwrap().remove(key);
            let mut null = without.clone();
            null[key] = Value::Null;
            match (read(&without), read(&null)) {
                // The two keys whose absence means something else than null.
                (Ok(without), Ok(null)) if key == "num_key_value_heads" => {
                    let absent = Family::of_model_type(family).unwrap().num_key_value_heads;
                    let absent = absent.unwrap_or(32);
                    // Three layers of Qwen3.5 are delta nets, without such heads.
                    if without.attention().is_some() {
                        assert_eq!(
                            (without.heads()[1], null.heads()[1]),
                            (absent, 32),
                            "{family}"
                        );
                    }
                }
                (Ok(without), Ok(null)) if key == "sliding_window" && family != "gemma4_text" => {
                    let window = without.layers[0].window();
                    let has_one = ["mistral", "olmo3", "gemma2", "gemma3_text"].contains(&family);
                    assert_eq!(
                        (window, null.layers[0].window()),
                        (has_one.then_some(4096), None),
                        "{family}"
                    );
                }
                (without, null) => assert_eq!(without, null, "{family} {key}"),
            }
        }
    }
}

#[test]
fn linear_scaling_is_read_under_its_older_key_too() {
    for scaling in [
        json!({"type": "linear", "factor": 2.0}),
        json!({"rope_type": "linear", "factor": 2}),
    ] {
        let read = read(&with(json!({"rope_scaling": scaling}))).unwrap();
        assert_eq!(
            read.layers[0].rope().unwrap().scaling,
            RopeScaling::Linear { factor: 2.0 }
        );
    }
}

#[test]
fn mistral_slides_on_every_layer() {
    let window = |changes| read(&with(changes)).unwrap().layers[0].window();
    assert_eq!(
        window(json!({"model_type": "mistral", "sliding_window": 16})),
        Some(16)
    );
    assert_eq!(
        window(json!({"model_type": "mistral", "sliding_window": null})),
        None
    );
    assert_eq!(
        window(json!({"model_type": "mistral", "max_position_embeddings": 32768})),
        Some(4096)
    );
}

#[test]
fn qwen_slides_on_the_layers_that_its_configuration_names() {
    let windows = |changes: Value| {
        let mut config =
            with(json!({"model_type": "qwen2", "sliding_window": 16, "use_sliding_window": true}));
        config
            .as_object_mut()
            .unwrap()
            .extend(changes.as_object().unwrap().clone());
        let layers = read(&config).unwrap().layers;
        layers
            .into_iter()
            .map(|layer| layer.window())
            .collect::<Vec<_>>()
    };
    let (none, some) = (None, Some(16));
    for (changes, expected) in [
        (json!({"max_window_layers": 3}), [none; 3]),
        (json!({"max_window_layers": 0}), [some; 3]),
        (json!({"max_window_layers": 1}), [none, some, some]),
        (
            json!({"use_sliding_window": false, "max_window_layers": 0}),
            [none; 3],
        ),
        // A window as long as the longest sequence has no effect.
        (
            json!({"max_window_layers": 1, "sliding_window": 128}),
            [none; 3],
        ),
        (
            json!({"layer_types": ["full_attention", "sliding_attention", "full_attention"]}),
            [none, some, none],
        ),
    ] {
        assert_eq!(windows(changes.clone()), expected, "{changes}");
    }
}

#[test]
fn an_unknown_family_is_refused_by_name_with_the_list_of_what_is_supported() {
    let message = read(&with(json!({"model_type": "gpt_oss"}))).unwrap_err();
    assert_eq!(
        message,
        format!(
            "model type `gpt_oss` of `config.json` is not supported, supported are {}",
            "llama, mistral, ministral3, qwen2, qwen3, qwen3_5_text, smollm3, phi3, granite, \
             granitemoehybrid, olmo2, olmo3, gemma2, gemma3_text, gemma4_text, lfm2, gemma3, gemma4, \
             qwen3_5, mistral3"
        )
    );
}

#[test]
fn what_the_decoder_cannot_do_is_refused_by_field() {
    for (field, changes) in [
        ("hidden_act", json!({"hidden_act": "gelu"})),
        ("attention_bias", json!({"attention_bias": true})),
        ("mlp_bias", json!({"mlp_bias": true})),
        (
            "quantization_config",
            json!({"quantization_config": {"bits": 4}}),
        ),
        (
            "partial_rotary_factor",
            json!({"partial_rotary_factor": 0.5}),
        ),
        (
            "partial_rotary_factor",
            json!({"rope_parameters": {"partial_rotary_factor": 0.5}}),
        ),
        ("is_causal", json!({"is_causal": false})),
        (
            "per_layer_config",
            json!({"per_layer_config": {"0": {"head_dim": 4}}}),
        ),
        ("layer_types", json!({"layer_types": ["full_attention"]})),
        (
            "rope_type",
            json!({"rope_scaling": {"rope_type": "ntk", "factor": 4.0}}),
        ),
        ("factor", json!({"rope_scaling": {"rope_type": "linear"}})),
        (
            "rope_parameters.full_attention",
            json!({"rope_parameters": {"full_attention": {"rope_type": "default"}}}),
        ),
        ("rope_scaling", json!({"rope_scaling": [1]})),
        ("layer_types", json!({"layer_types": ["chunked_attention"]})),
    ] {
        let message = read(&with(changes)).unwrap_err();
        assert!(
            message.starts_with(&format!("`{field}` in `config.json` is ")),
            "{field}: {message}"
        );
    }
}

#[test]
fn every_number_is_held_to_its_bounds() {
    for (field, value) in [
        ("vocab_size", json!(0)),
        ("vocab_size", json!(1u64 << 40)),
        ("vocab_size", json!(-1)),
        ("hidden_size", json!(1.5)),
        ("hidden_size", json!("wide")),
        ("hidden_size", json!(33)),
        ("intermediate_size", json!(0)),
        ("num_hidden_layers", json!(u64::MAX)),
        ("num_key_value_heads", json!(3)),
        ("num_key_value_heads", json!(0)),
        ("num_key_value_heads", json!(8)),
        ("head_dim", json!(7)),
        ("head_dim", json!(0)),
        ("max_position_embeddings", json!(0)),
        ("rms_norm_eps", json!(0.0)),
        ("rms_norm_eps", json!(-1e-5)),
        ("rope_theta", json!(0.5)),
        ("tie_word_embeddings", json!(1)),
        ("hidden_size", json!(null)),
    ] {
        let mut config = llama();
        config[field] = value.clone();
        let message = read(&config).expect_err(&format!("{field} = {value}"));
        assert!(
            message.starts_with(&format!("`{field}` in `config.json` is ")),
            "{field} = {value}: {message}"
        );
    }
}

#[test]
fn text_that_is_no_object_is_malformed() {
    for text in ["", "[1]", "{\"model_type\": "] {
        assert!(
            matches!(
                DecoderConfig::from_json(text, "config.json"),
                Err(ModelError::Malformed { .. })
            ),
            "{text}"
        );
    }
}

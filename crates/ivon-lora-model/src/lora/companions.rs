//! The files of a merged model other than the weights: `config.json` and those of the tokenizer.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::{LoraError, Precision};
use crate::files;
use crate::model::companions::{TEMPLATES_FOLDER, is_companion};
use crate::model::{DecoderConfig, Rope, RopeScaling, Windows};

/// The key for whether the output layer is the embedding table.
const TIED: &str = "tie_word_embeddings";
const LARGEST: u64 = 256 << 20;

/// `config.json` and the files beside it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Companions {
    /// `config.json`.
    pub config: Map<String, Value>,
    /// File names and contents.
    pub files: Vec<(String, Vec<u8>)>,
}

impl Companions {
    /// Those of a Hugging Face folder, unchanged.
    ///
    /// # Errors
    /// If `config.json` is missing or malformed, or a file cannot be read.
    pub fn of_folder(folder: &Path) -> Result<Self, LoraError> {
        let path = folder.join("config.json");
        let config = serde_json::from_str(&files::read_text(&path, LARGEST)?).map_err(|error| {
            LoraError::Malformed {
                path,
                expected: "a model's configuration",
                reason: error.to_string(),
            }
        })?;
        let mut names = files::names_in(folder)?;
        let templates = folder.join(TEMPLATES_FOLDER);
        if templates.is_dir() {
            let templates = files::names_in(&templates)?.into_iter();
            names.extend(templates.map(|name| format!("{TEMPLATES_FOLDER}/{name}")));
        }
        let mut companions = Vec::new();
        for name in names.into_iter().filter(|name| is_companion(name)) {
            let bytes = files::read_bytes(&folder.join(&name), LARGEST)?;
            companions.push((name, bytes));
        }
        Ok(Self {
            config,
            files: companions,
        })
    }

    /// The same for weights of this decoder, whatever the base's own `config.json` says about its
    /// output layer and the file of its weights.
    #[must_use]
    pub fn for_weights_of(mut self, decoder: &DecoderConfig) -> Self {
        if self.are_tied() != decoder.tie_word_embeddings {
            self.config
                .insert(TIED.into(), json!(decoder.tie_word_embeddings));
        }
        self.config.shift_remove("transformers_weights");
        self
    }

    /// Whether `config.json` says that the output layer is the embedding table.
    pub(super) fn are_tied(&self) -> bool {
        let key = self.config.get(TIED);
        key.and_then(Value::as_bool).unwrap_or(false)
    }

    /// The same for a model with a table of its own at each end.
    pub(super) fn untied(&self) -> Self {
        let mut untied = self.clone();
        if let Some(Value::Object(text)) = untied.config.get_mut("text_config") {
            text.insert(TIED.into(), json!(false));
        }
        untied.config.insert(TIED.into(), json!(false));
        untied
    }

    /// Those of a base without a folder (GGUF): a `config.json` in a schema that transformers 4 and
    /// 5 both read. `tokenizer` are the tokenizer's files; `special` further keys, such as
    /// `bos_token_id` and `eos_token_id`.
    ///
    /// # Errors
    /// [`LoraError::NoConfig`] if layers have different rotary embeddings.
    pub fn of_decoder(
        decoder: &DecoderConfig,
        special: Map<String, Value>,
        tokenizer: Vec<(String, Vec<u8>)>,
    ) -> Result<Self, LoraError> {
        let mut config = decoder_config(decoder)?;
        config.extend(special);
        Ok(Self {
            config,
            files: tokenizer,
        })
    }

    /// `config.json` for weights of this precision, without the keys of a quantised base.
    pub(super) fn config_with(&self, precision: Precision) -> Value {
        let mut config = self.config.clone();
        config.shift_remove("quantization_config");
        let keys: Vec<_> = ["dtype", "torch_dtype"]
            .into_iter()
            .filter(|key| config.contains_key(*key))
            .collect();
        for key in if keys.is_empty() {
            vec!["torch_dtype"]
        } else {
            keys
        } {
            config.insert(key.into(), json!(precision.torch_name()));
        }
        Value::Object(config)
    }
}

fn decoder_config(decoder: &DecoderConfig) -> Result<Map<String, Value>, LoraError> {
    let family = decoder.family();
    let (rope, head_dim) = shared_rope(decoder)?;
    let has_bias = decoder
        .attention()
        .is_some_and(|attention| attention.attention_bias);
    let [heads, key_heads, _] = decoder.heads();
    let keys = json!({
        "architectures": [family.architecture],
        "attention_bias": has_bias,
        "head_dim": head_dim,
        "hidden_act": "silu",
        "hidden_size": decoder.hidden_size,
        "intermediate_size": decoder.intermediate_size(),
        "max_position_embeddings": decoder.max_position_embeddings,
        "model_type": decoder.model_type,
        "num_attention_heads": heads,
        "num_hidden_layers": decoder.num_hidden_layers,
        "num_key_value_heads": key_heads,
        "rms_norm_eps": decoder.rms_norm_eps,
        "rope_scaling": rope_scaling(rope, head_dim, decoder.max_position_embeddings),
        "rope_theta": rope.theta,
        "tie_word_embeddings": decoder.tie_word_embeddings,
        "vocab_size": decoder.vocab_size,
    });
    let Value::Object(mut keys) = keys else {
        return Ok(Map::new());
    };
    if !family.has_attention_bias_key {
        keys.shift_remove("attention_bias");
    }
    keys.extend(window_keys(decoder, family.windows));
    Ok(keys)
}

/// The keys about the attention windows of the layers.
fn window_keys(decoder: &DecoderConfig, windows: Windows) -> Map<String, Value> {
    let mut keys = Map::new();
    let of_layers: Vec<Option<usize>> = decoder
        .layers
        .iter()
        .map(|layer| layer.attention()?.window)
        .collect();
    let window = of_layers.iter().find_map(|window| *window);
    if windows == Windows::EveryLayer || window.is_some() {
        keys.insert("sliding_window".into(), json!(window));
    }
    if windows == Windows::ByLayer {
        keys.insert("use_sliding_window".into(), json!(window.is_some()));
    }
    if window.is_some() && of_layers.contains(&None) {
        let name = |window: &Option<usize>| match window {
            Some(_) => "sliding_attention",
            None => "full_attention",
        };
        let names: Vec<&str> = of_layers.iter().map(name).collect();
        keys.insert("layer_types".into(), json!(names));
    }
    keys
}

/// The rotary embedding shared by all layers, and the width of their heads.
fn shared_rope(decoder: &DecoderConfig) -> Result<(&Rope, usize), LoraError> {
    match decoder.ropes().0[..] {
        [rope] => Ok(rope),
        _ => Err(LoraError::NoConfig),
    }
}

/// `rope_scaling` of a model whose context has `length` tokens.
fn rope_scaling(rope: &Rope, head_dim: usize, length: usize) -> Value {
    let scaling = match &rope.scaling {
        RopeScaling::Default => return Value::Null,
        RopeScaling::Factors { factors } => {
            llama3_of(rope, head_dim).unwrap_or_else(|| RopeScaling::of_divisors(factors, length))
        }
        other => other.clone(),
    };
    json!(scaling)
}

/// The `llama3` rule that gives the divisors of a rotary embedding, if they are those of a model
/// from Meta (original context 8192).
fn llama3_of(rope: &Rope, head_dim: usize) -> Option<RopeScaling> {
    let RopeScaling::Factors { factors } = &rope.scaling else {
        return None;
    };
    let rule = RopeScaling::Llama3 {
        factor: f64::from(factors.iter().copied().fold(1.0, f32::max)).round(),
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 8192,
    };
    let by_rule = Rope {
        theta: rope.theta,
        scaling: rule.clone(),
        partial_rotary_factor: None,
    };
    let (wanted, found) = (
        rope.inverse_frequencies(head_dim, 1),
        by_rule.inverse_frequencies(head_dim, 1),
    );
    let close = wanted.len() == found.len()
        && wanted
            .iter()
            .zip(&found)
            .all(|(a, b)| (a - b).abs() <= 1e-4 * a.abs());
    close.then_some(rule)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::golden;
    use crate::testing::tiny::decoder;

    #[test]
    fn the_dtype_key_that_is_there_is_changed() {
        for (key, file) in [
            ("dtype", "config.json"),
            ("torch_dtype", "config.transformers4.json"),
        ] {
            let text = std::fs::read_to_string(golden().join("tiny/llama").join(file)).unwrap();
            let companions = Companions {
                config: serde_json::from_str(&text).unwrap(),
                files: vec![],
            };
            let mut config = companions.config_with(Precision::BF16);
            assert_eq!(config[key], "bfloat16");
            config[key] = json!("float32");
            assert_eq!(config, Value::Object(companions.config));
        }
        let quantised = Companions {
            config: Map::from_iter([("quantization_config".into(), json!({}))]),
            files: vec![],
        };
        assert_eq!(
            quantised.config_with(Precision::F16),
            json!({ "torch_dtype": "float16" })
        );
    }

    #[test]
    fn what_the_weights_settled_is_written_and_nothing_else() {
        let of = |config: Value| Companions {
            config: config.as_object().unwrap().clone(),
            files: vec![],
        };
        let said = json!({ "a": 1, "tie_word_embeddings": true, "transformers_weights": "old.safetensors" });
        let two = of(said.clone()).for_weights_of(&decoder(1)).config;
        assert_eq!(
            Value::Object(two),
            json!({ "a": 1, "tie_word_embeddings": false })
        );
        let one = of(said)
            .for_weights_of(&DecoderConfig {
                tie_word_embeddings: true,
                ..decoder(1)
            })
            .config;
        assert_eq!(
            Value::Object(one),
            json!({ "a": 1, "tie_word_embeddings": true })
        );
        assert_eq!(of(json!({})).for_weights_of(&decoder(1)).config, Map::new());
    }

    #[test]
    fn a_decoder_is_written_in_the_words_of_its_own_file() {
        let text =
            std::fs::read_to_string(golden().join("tiny/llama/config.transformers4.json")).unwrap();
        let theirs: Map<String, Value> = serde_json::from_str(&text).unwrap();
        let ours = Companions::of_decoder(
            &decoder(3),
            Map::from_iter([("bos_token_id".into(), json!(1))]),
            vec![],
        )
        .unwrap()
        .config;
        for (key, value) in ours.iter().filter(|(key, _)| *key != "rope_scaling") {
            assert_eq!(theirs.get(key), Some(value), "{key}");
        }
    }

    #[test]
    fn the_divisors_of_a_llama_3_gguf_become_its_rule_and_others_those_of_a_longrope() {
        let rule = RopeScaling::Llama3 {
            factor: 32.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 8192,
        };
        let stretched = |scaling: RopeScaling| {
            let mut config = decoder(1);
            let attention = config.layers[0].attention_mut().unwrap();
            attention.head_dim = 64;
            attention.rope = Some(Rope {
                theta: 500_000.0,
                scaling,
                partial_rotary_factor: None,
            });
            config
        };
        let frequencies = |config: DecoderConfig| config.ropes().0[0].0.inverse_frequencies(64, 1);
        let divisors = frequencies(stretched(RopeScaling::Default))
            .iter()
            .zip(frequencies(stretched(rule.clone())))
            .map(|(a, b)| a / b)
            .collect();
        let gguf = stretched(RopeScaling::Factors { factors: divisors });
        let config = Companions::of_decoder(&gguf, Map::new(), vec![])
            .unwrap()
            .config;
        assert_eq!(
            config["rope_scaling"],
            json!({ "rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 8192 })
        );
        let strange = stretched(RopeScaling::Factors {
            factors: vec![3.0; 32],
        });
        let config = Companions::of_decoder(&strange, Map::new(), vec![]);
        let text = Value::Object(config.unwrap().config).to_string();
        let again = DecoderConfig::from_json(&text, "config.json").unwrap();
        let divided = again.ropes().0[0].0.clone();
        assert_eq!(divided.attention_factor(), 1.0);
        let third = frequencies(stretched(RopeScaling::Linear { factor: 3.0 }));
        for length in [1, again.max_position_embeddings + 1] {
            assert_eq!(divided.inverse_frequencies(64, length), third);
        }
    }

    #[test]
    fn a_folder_gives_its_tokenizer_along() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), "{\"a\": 1}").unwrap();
        std::fs::write(folder.path().join("merges.txt"), "a b").unwrap();
        std::fs::write(folder.path().join("model.safetensors"), "weights").unwrap();
        std::fs::create_dir(folder.path().join(TEMPLATES_FOLDER)).unwrap();
        std::fs::write(
            folder.path().join(TEMPLATES_FOLDER).join("tool.jinja"),
            "{{ 1 }}",
        )
        .unwrap();
        let found = Companions::of_folder(folder.path()).unwrap();
        let template = (
            "additional_chat_templates/tool.jinja".into(),
            b"{{ 1 }}".to_vec(),
        );
        assert_eq!(
            (found.config["a"].clone(), found.files),
            (
                json!(1),
                vec![("merges.txt".into(), b"a b".to_vec()), template]
            )
        );
        std::fs::write(folder.path().join("config.json"), "{").unwrap();
        assert!(matches!(
            Companions::of_folder(folder.path()),
            Err(LoraError::Malformed { .. })
        ));
    }
}

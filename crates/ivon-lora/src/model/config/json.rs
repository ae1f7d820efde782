//! A Hugging Face `config.json`, in the schema of transformers 4 and of 5 → [`DecoderConfig`].
//!
//! The two differ in the rotary settings: 4 has `rope_theta` beside `rope_scaling`, 5 has both in `rope_parameters`
//! (and `dtype`, `layer_types`). Where a key is missing or null, the default is that of the family's class in transformers;
//! sizes that no default can be right for must be there.

mod keys;
mod rope;

use serde_json::{Map, Value};

use self::rope::Rope;
use super::{DecoderConfig, setting};
use crate::model::ModelError;

/// What a `config.json` says.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::model) struct ConfigFile {
    /// The shape of the decoder.
    pub decoder: DecoderConfig,
    /// The first of `architectures`: the class that the model was saved from.
    pub architecture: Option<String>,
    /// The file of the weights, where `transformers_weights` names one.
    pub weights: Option<String>,
    /// What stands there twice, or is not used.
    pub notes: Vec<String>,
}

impl ConfigFile {
    /// Reads the text of a `config.json`; `file` is named in errors.
    ///
    /// # Errors
    /// As [`DecoderConfig::from_json`].
    pub fn read(text: &str, file: &str) -> Result<Self, ModelError> {
        let malformed = |reason: String| ModelError::Malformed { file: file.into(), reason };
        let value: Value = serde_json::from_str(text).map_err(|error| malformed(error.to_string()))?;
        let Value::Object(object) = value else { return Err(malformed("expected a JSON object".into())) };
        let fields = Fields { object: &object, file };
        let model_type = fields.text("model_type")?.ok_or_else(|| fields.missing("model_type"))?;
        let supported = DecoderConfig::MODEL_TYPES;
        if !supported.contains(&model_type) {
            return Err(ModelError::Architecture { file: file.into(), found: model_type.into(), supported });
        }
        fields.refuse_what_the_decoder_lacks(model_type)?;
        let mut notes = Vec::new();
        let decoder = decoder(&fields, model_type, &mut notes)?;
        decoder.validate(file)?;
        let unknown = keys::unknown(&object);
        if !unknown.is_empty() {
            notes.push(format!("not used, as a {model_type} decoder has no such setting: `{}` of `{file}`", unknown.join("`, `")));
        }
        let architecture = fields.get("architectures").and_then(|list| list.get(0)?.as_str()).map(String::from);
        Ok(Self { decoder, architecture, weights: fields.text("transformers_weights")?.map(String::from), notes })
    }
}

impl DecoderConfig {
    /// Reads the text of a `config.json`; `file` is named in errors.
    ///
    /// # Errors
    /// [`ModelError::Malformed`] if it is no JSON object, [`ModelError::Architecture`] for another family,
    /// [`ModelError::Setting`] for a value that is missing, out of range or asks for what the decoder cannot do.
    pub fn from_json(text: &str, file: &str) -> Result<Self, ModelError> {
        ConfigFile::read(text, file).map(|config| config.decoder)
    }
}

fn decoder(fields: &Fields, model_type: &str, notes: &mut Vec<String>) -> Result<DecoderConfig, ModelError> {
    let hidden_size = fields.needed_count("hidden_size")?;
    let heads = fields.needed_count("num_attention_heads")?;
    let layers = fields.needed_count("num_hidden_layers")?;
    let max_position_embeddings = fields.count("max_position_embeddings")?.unwrap_or(match model_type {
        "mistral" => 131_072,
        "llama" => 2048,
        _ => 32_768,
    });
    let head_dim = match fields.count("head_dim")? {
        Some(width) => width,
        None if model_type == "qwen3" => 128,
        None if heads > 0 && hidden_size.is_multiple_of(heads) => hidden_size / heads,
        None => return Err(setting(fields.file, "hidden_size", format!("`{hidden_size}`"), format!("a multiple of {heads} heads"))),
    };
    let rope = Rope::read(fields, max_position_embeddings, notes)?;
    Ok(DecoderConfig {
        model_type: model_type.into(),
        vocab_size: fields.needed_count("vocab_size")?,
        hidden_size,
        intermediate_size: fields.needed_count("intermediate_size")?,
        num_hidden_layers: layers,
        num_attention_heads: heads,
        num_key_value_heads: key_value_heads(fields, model_type, heads)?,
        head_dim,
        max_position_embeddings,
        rms_norm_eps: fields.number("rms_norm_eps")?.unwrap_or(1e-6),
        rope_theta: rope.theta,
        rope_scaling: rope.scaling,
        sliding_window: sliding_window(fields, model_type, layers, max_position_embeddings)?,
        tie_word_embeddings: fields.flag("tie_word_embeddings")?.unwrap_or(false),
        attention_bias: model_type == "qwen2",
        qk_norm: model_type == "qwen3",
    })
}

/// Null means as many as query heads, to every family; absent means the number of the family's class.
fn key_value_heads(fields: &Fields, model_type: &str, heads: usize) -> Result<usize, ModelError> {
    let absent = match model_type {
        "mistral" => 8,
        "qwen2" | "qwen3" => 32,
        _ => heads,
    };
    let default = if fields.object.contains_key("num_key_value_heads") { heads } else { absent };
    Ok(fields.count("num_key_value_heads")?.unwrap_or(default))
}

/// The one window of all layers, if they have one.
fn sliding_window(fields: &Fields, model_type: &str, layers: usize, longest: usize) -> Result<Option<usize>, ModelError> {
    let window = match (model_type, fields.object.contains_key("sliding_window")) {
        ("llama", _) => None,
        (_, true) => fields.count("sliding_window")?,
        (_, false) => Some(4096),
    };
    let window = match model_type {
        "qwen2" | "qwen3" if !fields.flag("use_sliding_window")?.unwrap_or(false) => None,
        _ => window,
    };
    let Some(window) = window else { return Ok(None) };
    let sliding_layers = match fields.layer_types()? {
        // Mistral slides on every layer; its `layer_types` is not read by transformers.
        _ if model_type == "mistral" => layers,
        Some(types) => types.iter().filter(|name| **name == "sliding_attention").count(),
        None => layers.saturating_sub(fields.count("max_window_layers")?.unwrap_or(28)),
    };
    match sliding_layers {
        0 => Ok(None),
        all if all == layers => Ok(Some(window)),
        // A window that covers the longest sequence hides nothing.
        _ if window >= longest => Ok(None),
        some => Err(setting(
            fields.file,
            "use_sliding_window",
            format!("`true` with a window on {some} of {layers} layers"),
            "a window on all layers or on none",
        )),
    }
}

/// The keys of an object, read with their types checked.
struct Fields<'a> {
    object: &'a Map<String, Value>,
    file: &'a str,
}

impl<'a> Fields<'a> {
    fn missing(&self, field: &str) -> ModelError {
        setting(self.file, field, "missing", "a value")
    }

    fn wrong(&self, field: &str, found: &Value, expected: &str) -> ModelError {
        setting(self.file, field, format!("`{}`", found.to_string().chars().take(60).collect::<String>()), expected)
    }

    /// The value of a key, `None` where it is absent or null.
    fn get(&self, field: &str) -> Option<&'a Value> {
        self.object.get(field).filter(|value| !value.is_null())
    }

    fn count(&self, field: &str) -> Result<Option<usize>, ModelError> {
        let read = |value: &Value| {
            value.as_u64().and_then(|n| usize::try_from(n).ok()).ok_or_else(|| self.wrong(field, value, "a whole number, not negative"))
        };
        self.get(field).map(read).transpose()
    }

    fn needed_count(&self, field: &str) -> Result<usize, ModelError> {
        self.count(field)?.ok_or_else(|| self.missing(field))
    }

    fn number(&self, field: &str) -> Result<Option<f64>, ModelError> {
        self.get(field).map(|value| value.as_f64().ok_or_else(|| self.wrong(field, value, "a number"))).transpose()
    }

    fn flag(&self, field: &str) -> Result<Option<bool>, ModelError> {
        self.get(field).map(|value| value.as_bool().ok_or_else(|| self.wrong(field, value, "`true` or `false`"))).transpose()
    }

    fn text(&self, field: &str) -> Result<Option<&'a str>, ModelError> {
        self.get(field).map(|value| value.as_str().ok_or_else(|| self.wrong(field, value, "a text"))).transpose()
    }

    fn layer_types(&self) -> Result<Option<Vec<&'a str>>, ModelError> {
        let Some(value) = self.get("layer_types") else { return Ok(None) };
        let names = value.as_array().and_then(|list| list.iter().map(Value::as_str).collect::<Option<Vec<_>>>());
        let names = names.ok_or_else(|| self.wrong("layer_types", value, "a list of names"))?;
        // transformers' older name of the same.
        let names: Vec<&str> = names.into_iter().map(|name| if name == "attention" { "full_attention" } else { name }).collect();
        match names.iter().find(|name| !["full_attention", "sliding_attention"].contains(name)) {
            Some(other) => Err(setting(self.file, "layer_types", format!("`{other}`"), "`full_attention` or `sliding_attention`")),
            None => Ok(Some(names)),
        }
    }

    fn refuse_what_the_decoder_lacks(&self, model_type: &str) -> Result<(), ModelError> {
        if let (Some(types), Some(layers)) = (self.layer_types()?, self.count("num_hidden_layers")?)
            && types.len() != layers
        {
            return Err(setting(
                self.file,
                "layer_types",
                format!("a list of {}", types.len()),
                format!("one for each of {layers} layers"),
            ));
        }
        let activation = self.text("hidden_act")?.unwrap_or("silu");
        if !["silu", "swish"].contains(&activation) {
            return Err(setting(self.file, "hidden_act", format!("`{activation}`"), "`silu` or `swish`"));
        }
        // Qwen2's biases are not this key's to decide, and Mistral has none whatever it says.
        let heeded: &[&str] = match model_type {
            "llama" => &["attention_bias", "mlp_bias"],
            "qwen3" => &["attention_bias"],
            _ => &[],
        };
        for field in heeded {
            if self.flag(field)?.unwrap_or(false) {
                return Err(setting(self.file, field, "`true`", "`false`"));
            }
        }
        if self.flag("is_causal")? == Some(false) {
            return Err(setting(self.file, "is_causal", "`false`", "`true`: a token sees no later one"));
        }
        for (field, expected) in [
            ("quantization_config", "weights in F32, F16 or BF16, or a GGUF file"),
            ("per_layer_config", "the same settings for all layers"),
        ] {
            if self.get(field).is_some_and(|found| !found.as_object().is_some_and(Map::is_empty)) {
                return Err(setting(self.file, field, "there", expected));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::RopeScaling;
    use crate::testing;

    fn llama() -> Value {
        json!({"model_type": "llama", "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
            "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "max_position_embeddings": 128})
    }

    fn with(changes: Value) -> Value {
        let mut config = llama();
        config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        config
    }

    fn read(config: &Value) -> Result<DecoderConfig, String> {
        DecoderConfig::from_json(&config.to_string(), "config.json").map_err(|error| error.to_string())
    }

    #[test]
    fn both_schemas_of_every_golden_model_say_the_same() {
        for family in ["llama", "llama3-rope", "mistral", "qwen2", "qwen3"] {
            let folder = testing::golden().join("tiny").join(family);
            let read = |name: &str| DecoderConfig::from_json(&std::fs::read_to_string(folder.join(name)).unwrap(), name).unwrap();
            let (new, old) = (read("config.json"), read("config.transformers4.json"));
            assert_eq!(new, old, "{family}");
            assert_eq!(new.attention_bias, family == "qwen2");
            assert_eq!(new.qk_norm, family == "qwen3");
            assert_eq!(matches!(new.rope_scaling, RopeScaling::Llama3 { .. }), family == "llama3-rope");
        }
    }

    #[test]
    fn missing_keys_take_the_defaults_of_the_family() {
        let mut config = llama();
        let keys = config.as_object_mut().unwrap();
        keys.remove("num_key_value_heads");
        keys.remove("rms_norm_eps");
        let read = read(&config).unwrap();
        assert_eq!((read.num_key_value_heads, read.head_dim, read.rms_norm_eps), (4, 8, 1e-6));
        assert_eq!((read.rope_theta, read.tie_word_embeddings, read.sliding_window), (10_000.0, false, None));
    }

    #[test]
    fn null_is_the_default_for_every_key_that_has_one() {
        for family in DecoderConfig::MODEL_TYPES {
            for key in keys::READ {
                let mut without = with(json!({ "model_type": family, "num_attention_heads": 32, "hidden_size": 256 }));
                without.as_object_mut().unwrap().remove(key);
                let mut null = without.clone();
                null[key] = Value::Null;
                match (read(&without), read(&null)) {
                    // The two keys whose absence means another thing to the families' classes.
                    (Ok(without), Ok(null)) if key == "num_key_value_heads" => {
                        let absent = if *family == "mistral" { 8 } else { 32 };
                        assert_eq!((without.num_key_value_heads, null.num_key_value_heads), (absent, 32), "{family}");
                    }
                    (Ok(without), Ok(null)) if key == "sliding_window" && *family == "mistral" => {
                        assert_eq!((without.sliding_window, null.sliding_window), (Some(4096), None));
                    }
                    (without, null) => assert_eq!(without, null, "{family} {key}"),
                }
            }
        }
    }

    #[test]
    fn linear_scaling_is_read_under_its_older_key_too() {
        for scaling in [json!({"type": "linear", "factor": 2.0}), json!({"rope_type": "linear", "factor": 2})] {
            let read = read(&with(json!({"rope_scaling": scaling}))).unwrap();
            assert_eq!(read.rope_scaling, RopeScaling::Linear { factor: 2.0 });
        }
    }

    #[test]
    fn mistral_slides_on_every_layer() {
        let window = |changes| read(&with(changes)).unwrap().sliding_window;
        assert_eq!(window(json!({"model_type": "mistral", "sliding_window": 16})), Some(16));
        assert_eq!(window(json!({"model_type": "mistral", "sliding_window": null})), None);
        assert_eq!(window(json!({"model_type": "mistral", "max_position_embeddings": 32768})), Some(4096));
    }

    #[test]
    fn qwen_slides_on_all_layers_or_on_none() {
        let qwen = |changes: Value| {
            let mut config = with(json!({"model_type": "qwen2", "sliding_window": 16, "use_sliding_window": true}));
            config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
            read(&config)
        };
        assert_eq!(qwen(json!({"max_window_layers": 3})).unwrap().sliding_window, None);
        assert_eq!(qwen(json!({"max_window_layers": 0})).unwrap().sliding_window, Some(16));
        assert_eq!(qwen(json!({"use_sliding_window": false, "max_window_layers": 0})).unwrap().sliding_window, None);
        let message = qwen(json!({"max_window_layers": 1})).unwrap_err();
        assert!(message.contains("`true` with a window on 2 of 3 layers, expected a window on all layers or on none"), "{message}");
        assert_eq!(qwen(json!({"max_window_layers": 1, "sliding_window": 128})).unwrap().sliding_window, None);
        let types = json!({"layer_types": ["full_attention", "sliding_attention", "full_attention"]});
        assert!(qwen(types).unwrap_err().contains("on 1 of 3 layers"));
    }

    #[test]
    fn an_unknown_family_is_refused_by_name_with_the_list_of_what_is_supported() {
        let message = read(&with(json!({"model_type": "gemma2"}))).unwrap_err();
        assert_eq!(message, "model type `gemma2` of `config.json` is not supported, supported are llama, mistral, qwen2, qwen3");
    }

    #[test]
    fn what_the_decoder_cannot_do_is_refused_by_field() {
        for (field, changes) in [
            ("hidden_act", json!({"hidden_act": "gelu"})),
            ("attention_bias", json!({"attention_bias": true})),
            ("mlp_bias", json!({"mlp_bias": true})),
            ("quantization_config", json!({"quantization_config": {"bits": 4}})),
            ("partial_rotary_factor", json!({"partial_rotary_factor": 0.5})),
            ("partial_rotary_factor", json!({"rope_parameters": {"partial_rotary_factor": 0.5}})),
            ("is_causal", json!({"is_causal": false})),
            ("per_layer_config", json!({"per_layer_config": {"0": {"head_dim": 4}}})),
            ("layer_types", json!({"layer_types": ["full_attention"]})),
            ("rope_type", json!({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}})),
            ("factor", json!({"rope_scaling": {"rope_type": "linear"}})),
            ("rope_parameters.full_attention", json!({"rope_parameters": {"full_attention": {"rope_type": "default"}}})),
            ("rope_scaling", json!({"rope_scaling": [1]})),
            ("layer_types", json!({"layer_types": ["chunked_attention"]})),
        ] {
            let message = read(&with(changes)).unwrap_err();
            assert!(message.starts_with(&format!("`{field}` in `config.json` is ")), "{field}: {message}");
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
            assert!(message.starts_with(&format!("`{field}` in `config.json` is ")), "{field} = {value}: {message}");
        }
    }

    #[test]
    fn text_that_is_no_object_is_malformed() {
        for text in ["", "[1]", "{\"model_type\": "] {
            assert!(matches!(DecoderConfig::from_json(text, "config.json"), Err(ModelError::Malformed { .. })), "{text}");
        }
    }
}

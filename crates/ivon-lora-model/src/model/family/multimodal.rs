//! Models of images, sound and text, of which the text part is a decoder of a known family.
//!
//! Their `config.json` has the decoder's settings under `text_config`, and their weights have its
//! tensors under `model.language_model.`.

use serde_json::{Map, Value, json};

/// A class of models that contain a decoder.
#[derive(Debug)]
pub(in crate::model) struct Multimodal {
    /// Its `model_type`.
    pub model_type: &'static str,
    /// The `model_type` of its decoder: the first if `text_config` names none.
    text: &'static [&'static str],
    /// Whether its output layer is the embedding table, if the file does not say.
    tie_word_embeddings: bool,
    /// Sizes that its files may leave to the class of the decoder.
    sizes: &'static [(&'static str, usize)],
}

static MULTIMODAL: [Multimodal; 4] = [
    Multimodal {
        model_type: "gemma3",
        text: &["gemma3_text"],
        tie_word_embeddings: true,
        sizes: &[("vocab_size", 262_208), ("num_attention_heads", 8)],
    },
    Multimodal {
        model_type: "gemma4",
        text: &["gemma4_text"],
        tie_word_embeddings: true,
        sizes: &[("vocab_size", 262_144), ("num_attention_heads", 8)],
    },
    Multimodal {
        model_type: "qwen3_5",
        text: &["qwen3_5_text"],
        tie_word_embeddings: false,
        sizes: &[],
    },
    Multimodal {
        model_type: "mistral3",
        text: &["mistral", "ministral3"],
        tie_word_embeddings: true,
        sizes: &[],
    },
];

/// Settings that stand beside `text_config` and hold for the decoder as well.
const SHARED: [&str; 4] = [
    "architectures",
    "quantization_config",
    "tie_word_embeddings",
    "transformers_weights",
];

impl Multimodal {
    /// The class with this `model_type`.
    pub fn of_model_type(model_type: &str) -> Option<&'static Self> {
        let mut classes = MULTIMODAL.iter();
        classes.find(|class| class.model_type == model_type)
    }

    /// The model types of all classes.
    pub fn model_types() -> impl Iterator<Item = &'static str> {
        MULTIMODAL.iter().map(|class| class.model_type)
    }

    /// Whether a decoder of this type may be its text part.
    pub fn holds(&self, model_type: &str) -> bool {
        self.text.contains(&model_type)
    }

    /// The types of decoders that may be its text part.
    pub fn text_types(&self) -> Vec<&'static str> {
        self.text.to_vec()
    }

    /// The settings of its decoder as a `config.json` of its own, from those under `text_config`
    /// and those beside it, `outer`; the latter take precedence, as in transformers.
    pub fn text_config(
        &self,
        text: &Map<String, Value>,
        outer: &Map<String, Value>,
    ) -> Map<String, Value> {
        let mut settings = text.clone();
        let is_said = |value: &&Value| !value.is_null();
        for key in SHARED {
            if let Some(value) = outer.get(key).filter(is_said) {
                settings.insert(key.into(), value.clone());
            }
        }
        let sizes = self.sizes.iter().map(|&(key, size)| (key, json!(size)));
        let defaults = [
            ("model_type", json!(self.text[0])),
            ("tie_word_embeddings", json!(self.tie_word_embeddings)),
        ];
        for (key, value) in sizes.chain(defaults) {
            if settings.get(key).is_none_or(Value::is_null) {
                settings.insert(key.into(), value);
            }
        }
        settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Family;

    #[test]
    fn every_text_part_is_of_a_family_and_no_class_has_a_family_s_name() {
        for class in &MULTIMODAL {
            let known = |name: &&str| Family::of_model_type(name).is_some();
            assert!(class.text.iter().all(known), "{}", class.model_type);
            assert!(!known(&class.model_type), "{}", class.model_type);
        }
    }

    #[test]
    fn what_stands_beside_the_text_s_settings_takes_precedence_and_the_class_fills_in() {
        let object = |value: Value| value.as_object().unwrap().clone();
        let text = object(json!({ "hidden_size": 8, "tie_word_embeddings": false }));
        let outer = object(json!({ "tie_word_embeddings": true, "hidden_size": 9 }));
        let class = Multimodal::of_model_type("gemma3").unwrap();
        let expected = json!({
            "hidden_size": 8, "tie_word_embeddings": true, "vocab_size": 262_208,
            "num_attention_heads": 8, "model_type": "gemma3_text",
        });
        assert_eq!(class.text_config(&text, &outer), object(expected));
        let qwen = Multimodal::of_model_type("qwen3_5").unwrap();
        let untied = qwen.text_config(&Map::new(), &Map::new());
        assert_eq!(untied["tie_word_embeddings"], false);
    }
}

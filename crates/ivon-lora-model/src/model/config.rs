//! The shape of a decoder, with the names of a Hugging Face `config.json`.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::attention::{Attention, HeadNorm, KeyValues};
use super::error::ModelError;
use super::layer_kind::LayerKind;
use super::rope::Rope;
use super::setting::{count, ensure, setting};

/// The maximum number of layers of a decoder.
pub(super) const MOST_LAYERS: usize = 1 << 12;

/// Everything that the forward pass needs besides the weights.
#[derive(Clone, Debug, PartialEq)]
pub struct DecoderConfig {
    /// Its family, see [`Family`](super::Family).
    pub model_type: String,
    /// The path of the decoder in the model of its checkpoint: [`MODEL`](super::MODEL), or
    /// [`LANGUAGE_MODEL`](super::LANGUAGE_MODEL) in a model of images and text.
    pub module: &'static str,
    /// Number of tokens V.
    pub vocab_size: usize,
    /// Width H of the residual stream.
    pub hidden_size: usize,
    /// Number of decoder layers.
    pub num_hidden_layers: usize,
    /// Longest sequence the model is made for.
    pub max_position_embeddings: usize,
    /// ε of the root-mean-square norms.
    pub rms_norm_eps: f64,
    /// The composition of each layer, `[num_hidden_layers]`.
    pub layers: Vec<LayerKind>,
    /// Whether the output layer is the embedding table.
    pub tie_word_embeddings: bool,
    /// What happens to embeddings and logits.
    pub ends: Ends,
}

/// What happens to the embeddings before the first layer, and to the logits after the last norm.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Ends {
    /// By which embeddings are multiplied.
    pub embedding_multiplier: f32,
    /// By which logits are divided.
    pub logits_scaling: f64,
    /// c, if logits z become c tanh(z / c).
    pub final_logit_softcapping: Option<f64>,
    /// The rows of the table of the layers' own inputs (Gemma 4); their width is in the layers.
    pub vocab_size_per_layer_input: Option<usize>,
}

impl Default for Ends {
    /// Llama's: nothing happens.
    fn default() -> Self {
        Self {
            embedding_multiplier: 1.0,
            logits_scaling: 1.0,
            final_logit_softcapping: None,
            vocab_size_per_layer_input: None,
        }
    }
}

impl DecoderConfig {
    /// Checks the consistency of all numbers, and bounds that are generous for these families and
    /// prevent overflow in later products.
    ///
    /// `file` is named in the error.
    ///
    /// # Errors
    /// [`ModelError::Setting`].
    pub(super) fn validate_numbers(&self, file: &str) -> Result<(), ModelError> {
        for (field, value, most) in [
            ("vocab_size", self.vocab_size, 1 << 24),
            ("hidden_size", self.hidden_size, 1 << 17),
            ("num_hidden_layers", self.num_hidden_layers, MOST_LAYERS),
            (
                "max_position_embeddings",
                self.max_position_embeddings,
                1 << 31,
            ),
        ] {
            count(file, field, value, most)?;
        }
        let eps = self.rms_norm_eps;
        let holds = eps > 0.0 && eps <= 0.1;
        ensure(file, "rms_norm_eps", eps, holds, "above 0, at most 0.1")?;
        self.ends.validate(file)?;
        self.validate_layers(file)
    }

    fn validate_layers(&self, file: &str) -> Result<(), ModelError> {
        if self.layers.len() != self.num_hidden_layers {
            let found = format!("a list of {}", self.layers.len());
            let expected = format!("one for each of {} layers", self.num_hidden_layers);
            return Err(setting(file, "layers", found, expected));
        }
        let mut checked: Option<&LayerKind> = None;
        for (index, layer) in self.layers.iter().enumerate() {
            if checked != Some(layer) {
                layer.validate(file, index)?;
                checked = Some(layer);
            }
        }
        Ok(())
    }

    /// The attention of the first layer that has it.
    pub fn attention(&self) -> Option<&Attention> {
        self.layers.iter().find_map(LayerKind::attention)
    }

    /// The number of query heads, of key heads, and the width of a head, in the first layer with
    /// attention; zeros if there is none.
    pub fn heads(&self) -> [usize; 3] {
        self.attention().map_or([0; 3], |attention| {
            [
                attention.num_attention_heads,
                attention.num_key_value_heads,
                attention.head_dim,
            ]
        })
    }

    /// The inner width of the first layer's MLP.
    pub fn intermediate_size(&self) -> usize {
        self.layers
            .first()
            .map_or(0, |layer| layer.mlp.intermediate_size)
    }

    /// The width of a layer's own input, if layers have one.
    pub fn per_layer_input(&self) -> Option<usize> {
        self.layers.iter().find_map(|layer| layer.per_layer_input)
    }

    /// Whether later layers use the keys and values of each layer, `[num_hidden_layers]`.
    pub fn layers_with_shared_keys(&self) -> Vec<bool> {
        let mut shared = vec![false; self.layers.len()];
        for attention in self.layers.iter().filter_map(LayerKind::attention) {
            if let KeyValues::OfLayer(layer) = attention.key_values {
                shared[layer] = true;
            }
        }
        shared
    }

    /// The window through which later tokens see the keys and values of each layer, the widest one
    /// if several layers use them; none: they see all, `[num_hidden_layers]`.
    pub fn windows_on_keys(&self) -> Vec<Option<usize>> {
        let mut windows: Vec<_> = self.layers.iter().map(LayerKind::window).collect();
        for attention in self.layers.iter().filter_map(LayerKind::attention) {
            if let KeyValues::OfLayer(layer) = attention.key_values {
                let both = windows[layer].zip(attention.window);
                windows[layer] = both.map(|(one, other)| one.max(other));
            }
        }
        windows
    }

    /// The distinct rotary embeddings, each with the width of its heads, and for each layer the
    /// index of its own, `[num_hidden_layers]`.
    pub fn ropes(&self) -> (Vec<(&Rope, usize)>, Vec<Option<usize>>) {
        let mut ropes: Vec<(&Rope, usize)> = Vec::new();
        let mut of_layer = Vec::with_capacity(self.layers.len());
        for layer in &self.layers {
            let attention = layer.attention();
            let rope = attention.and_then(|attention| {
                let rope = attention.rope.as_ref()?;
                Some((rope, attention.head_dim))
            });
            of_layer.push(rope.map(|rope| {
                let known = ropes.iter().position(|known| *known == rope);
                known.unwrap_or_else(|| {
                    ropes.push(rope);
                    ropes.len() - 1
                })
            }));
        }
        (ropes, of_layer)
    }

    /// Whether the keys of a Llama's `config.json` describe it.
    pub fn is_like_llama(&self) -> bool {
        let query_grows = |layer: &LayerKind| {
            let rope = layer.rope();
            rope.is_some_and(|rope| rope.query_factor(0).is_some())
        };
        self.like_llama().is_some() && !self.layers.iter().any(query_grows)
    }

    /// The attention and the inner width of the MLP that all layers share except for window and
    /// rotary embedding, if all are like Llama's.
    fn like_llama(&self) -> Option<(&Attention, usize)> {
        let shared = |attention: &Attention| Attention {
            window: None,
            rope: None,
            ..attention.clone()
        };
        let first = self.layers.first()?.like_llama()?;
        let wide = self.intermediate_size();
        let alike = |layer: &LayerKind| {
            let attention = layer.like_llama();
            attention.is_some_and(|attention| shared(attention) == shared(first))
                && layer.mlp.intermediate_size == wide
        };
        (self.ends == Ends::default() && self.layers.iter().all(alike)).then_some((first, wide))
    }
}

impl Ends {
    fn validate(&self, file: &str) -> Result<(), ModelError> {
        let numbers = [
            ("embedding_multiplier", self.embedding_multiplier.into()),
            ("logits_scaling", self.logits_scaling),
            (
                "final_logit_softcapping",
                self.final_logit_softcapping.unwrap_or(1.0),
            ),
        ];
        for (field, number) in numbers {
            let holds = number > 0.0 && number <= 1e6;
            ensure(file, field, number, holds, "above 0, at most 1e6")?;
        }
        let rows = self.vocab_size_per_layer_input.unwrap_or(1);
        count(file, "vocab_size_per_layer_input", rows, 1 << 24)
    }
}

impl Serialize for DecoderConfig {
    /// A decoder like Llama's with the keys of its `config.json`, which the fingerprints of saved
    /// adapters have; others layer by layer.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let llama = self.like_llama();
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("model_type", &self.model_type)?;
        map.serialize_entry("vocab_size", &self.vocab_size)?;
        map.serialize_entry("hidden_size", &self.hidden_size)?;
        if let Some((_, wide)) = llama {
            map.serialize_entry("intermediate_size", &wide)?;
        }
        map.serialize_entry("num_hidden_layers", &self.num_hidden_layers)?;
        if let Some((attention, _)) = llama {
            map.serialize_entry("num_attention_heads", &attention.num_attention_heads)?;
            map.serialize_entry("num_key_value_heads", &attention.num_key_value_heads)?;
            map.serialize_entry("head_dim", &attention.head_dim)?;
        }
        map.serialize_entry("max_position_embeddings", &self.max_position_embeddings)?;
        map.serialize_entry("rms_norm_eps", &self.rms_norm_eps)?;
        match (llama, &self.layers[..]) {
            (
                Some((
                    Attention {
                        rope: Some(rope),
                        window,
                        ..
                    },
                    _,
                )),
                [first, rest @ ..],
            ) if rest.iter().all(|layer| layer == first) => {
                map.serialize_entry("rope_theta", &rope.theta)?;
                map.serialize_entry("rope_scaling", &rope.scaling)?;
                map.serialize_entry("sliding_window", window)?;
            }
            _ => map.serialize_entry("layers", &self.layers)?,
        }
        map.serialize_entry("tie_word_embeddings", &self.tie_word_embeddings)?;
        match llama {
            Some((attention, _)) => {
                let has_norm = attention.qk_norm == HeadNorm::PerHead;
                map.serialize_entry("attention_bias", &attention.attention_bias)?;
                map.serialize_entry("qk_norm", &has_norm)?;
            }
            None => map.serialize_entry("ends", &self.ends)?,
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::tiny::decoder;

    #[test]
    fn layers_that_are_alike_are_written_once_as_the_fingerprints_of_saved_adapters_have_them() {
        let written = serde_json::to_string(&decoder(2)).unwrap();
        let expected = r#"{"model_type":"llama","vocab_size":96,"hidden_size":32,"intermediate_size":48,"num_hidden_layers":2,"num_attention_heads":4,"num_key_value_heads":2,"head_dim":8,"max_position_embeddings":128,"rms_norm_eps":0.00001,"rope_theta":10000.0,"rope_scaling":{"rope_type":"default"},"sliding_window":null,"tie_word_embeddings":false,"attention_bias":false,"qk_norm":false}"#;
        assert_eq!(written, expected);
        let mut mixed = decoder(2);
        mixed.layers[1].attention_mut().unwrap().window = Some(4);
        let written = serde_json::to_value(&mixed).unwrap();
        assert_eq!(
            written["layers"][1],
            serde_json::json!({ "window": 4, "rope_theta": 10000.0, "rope_scaling": { "rope_type": "default" }, "norms": "before", "gate": "silu" })
        );
        assert!(written.get("sliding_window").is_none());
    }

    #[test]
    fn a_decoder_with_other_parts_than_llama_s_is_written_with_all_of_them() {
        let mut other = decoder(2);
        other.layers[1].residual_multiplier = 0.5;
        let written = serde_json::to_value(&other).unwrap();
        assert_eq!(written["layers"][1]["residual_multiplier"], 0.5);
        assert_eq!(written["layers"][1]["mixer"]["attention"]["head_dim"], 8);
        assert_eq!(written["ends"]["logits_scaling"], 1.0);
        assert!(written.get("head_dim").is_none());
    }

    #[test]
    fn a_rotary_embedding_that_several_layers_share_is_listed_once() {
        let mut mixed = decoder(3);
        let attention = mixed.layers[1].attention_mut().unwrap();
        attention.rope.as_mut().unwrap().theta = 5e5;
        let (ropes, of_layer) = mixed.ropes();
        assert_eq!(
            (ropes.len(), of_layer),
            (2, vec![Some(0), Some(1), Some(0)])
        );
    }

    #[test]
    fn a_list_of_layers_of_another_length_is_refused() {
        let mut config = decoder(3);
        config.layers.pop();
        let message = config.validate("config.json").unwrap_err().to_string();
        let expected =
            "`layers` in `config.json` is a list of 2, expected one for each of 3 layers";
        assert_eq!(message, expected);
    }
}

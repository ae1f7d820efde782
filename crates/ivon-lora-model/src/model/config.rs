//! The shape of a decoder, with the names of a Hugging Face `config.json`.

use serde::Serialize;

use super::error::ModelError;
use super::family::Family;
use super::layer_kind::{self, LayerKind};
use super::rope::Rope;
use super::setting::{ensure, setting};

/// The maximum number of layers of a decoder.
pub(super) const MOST_LAYERS: usize = 1 << 12;

/// Everything that the forward pass needs besides the weights.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DecoderConfig {
    /// Its family, see [`Family`].
    pub model_type: String,
    /// Number of tokens V.
    pub vocab_size: usize,
    /// Width H of the residual stream.
    pub hidden_size: usize,
    /// Intermediate width of the gated MLP.
    pub intermediate_size: usize,
    /// Number of decoder layers.
    pub num_hidden_layers: usize,
    /// Number of query heads.
    pub num_attention_heads: usize,
    /// Number of key and value heads, a divisor of the number of query heads.
    pub num_key_value_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Longest sequence the model is made for.
    pub max_position_embeddings: usize,
    /// ε of the root-mean-square norms.
    pub rms_norm_eps: f64,
    /// The properties of each layer, `[num_hidden_layers]`.
    #[serde(flatten, serialize_with = "layer_kind::serialize")]
    pub layers: Vec<LayerKind>,
    /// Whether the output layer is the embedding table.
    pub tie_word_embeddings: bool,
    /// Whether q_proj, k_proj and v_proj have a bias (Qwen2; `attention_bias` elsewhere).
    pub attention_bias: bool,
    /// Whether queries and keys are normalised per head (Qwen3).
    pub qk_norm: bool,
}

impl DecoderConfig {
    /// Its family; Llama's if the type is unknown, which [`validate`](Self::validate) refuses.
    pub fn family(&self) -> &'static Family {
        Family::of_model_type(&self.model_type).unwrap_or_else(Family::llama)
    }

    /// Checks the consistency of all numbers, and bounds that are generous for these families and
    /// prevent overflow in later products.
    ///
    /// `file` is named in the error.
    ///
    /// # Errors
    /// [`ModelError::Architecture`] for another family, else [`ModelError::Setting`].
    pub fn validate(&self, file: &str) -> Result<(), ModelError> {
        if Family::of_model_type(&self.model_type).is_none() {
            return Err(ModelError::Architecture {
                file: file.into(),
                found: self.model_type.clone(),
                supported: Family::model_types(),
            });
        }
        self.validate_counts(file)?;
        let heads = self.num_attention_heads;
        let found = self.num_key_value_heads;
        let divides = heads.is_multiple_of(found);
        let expected = format_args!("a divisor of {heads} query heads");
        ensure(file, "num_key_value_heads", found, divides, expected)?;
        let width = self.head_dim;
        let is_even = width.is_multiple_of(2);
        ensure(file, "head_dim", width, is_even, "an even number")?;
        let eps = self.rms_norm_eps;
        let holds = eps > 0.0 && eps <= 0.1;
        ensure(file, "rms_norm_eps", eps, holds, "above 0, at most 0.1")?;
        self.validate_layers(file)
    }

    fn validate_counts(&self, file: &str) -> Result<(), ModelError> {
        let heads = self.num_attention_heads;
        for (field, value, most) in [
            ("vocab_size", self.vocab_size, 1 << 24),
            ("hidden_size", self.hidden_size, 1 << 17),
            ("intermediate_size", self.intermediate_size, 1 << 20),
            ("num_hidden_layers", self.num_hidden_layers, MOST_LAYERS),
            ("num_attention_heads", heads, 1 << 12),
            ("num_key_value_heads", self.num_key_value_heads, heads),
            ("head_dim", self.head_dim, 1 << 12),
            (
                "max_position_embeddings",
                self.max_position_embeddings,
                1 << 31,
            ),
        ] {
            count(file, field, value, most)?;
        }
        Ok(())
    }

    fn validate_layers(&self, file: &str) -> Result<(), ModelError> {
        if self.layers.len() != self.num_hidden_layers {
            let found = format!("a list of {}", self.layers.len());
            let expected = format!("one for each of {} layers", self.num_hidden_layers);
            return Err(setting(file, "layers", found, expected));
        }
        let mut checked: Option<&LayerKind> = None;
        for layer in &self.layers {
            if checked != Some(layer) {
                if let Some(window) = layer.window {
                    count(file, "sliding_window", window, 1 << 31)?;
                }
                layer.rope.validate(file, self.head_dim)?;
                checked = Some(layer);
            }
        }
        Ok(())
    }

    /// The distinct rotary embeddings, and for each layer the index of its own,
    /// `[num_hidden_layers]`.
    pub fn ropes(&self) -> (Vec<&Rope>, Vec<usize>) {
        let mut ropes: Vec<&Rope> = Vec::new();
        let mut of_layer = Vec::with_capacity(self.layers.len());
        for layer in &self.layers {
            let known = ropes.iter().position(|rope| **rope == layer.rope);
            of_layer.push(known.unwrap_or(ropes.len()));
            if known.is_none() {
                ropes.push(&layer.rope);
            }
        }
        (ropes, of_layer)
    }
}

fn count(file: &str, field: &str, value: usize, most: usize) -> Result<(), ModelError> {
    let holds = (1..=most).contains(&value);
    ensure(file, field, value, holds, format_args!("1 to {most}"))
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
        mixed.layers[1].window = Some(4);
        let written = serde_json::to_value(&mixed).unwrap();
        assert_eq!(written["layers"][1]["window"], 4);
        assert!(written.get("sliding_window").is_none());
    }

    #[test]
    fn a_rotary_embedding_that_several_layers_share_is_listed_once() {
        let mut mixed = decoder(3);
        mixed.layers[1].rope.theta = 5e5;
        let (ropes, of_layer) = mixed.ropes();
        assert_eq!((ropes.len(), of_layer), (2, vec![0, 1, 0]));
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

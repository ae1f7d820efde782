//! The shape of a decoder, in the words of a Hugging Face `config.json`.

use serde::{Deserialize, Serialize};

/// Everything that the forward pass needs to know beyond the weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DecoderConfig {
    /// `llama`, `mistral`, `qwen2` or `qwen3`.
    pub model_type: String,
    /// Number of tokens V.
    pub vocab_size: usize,
    /// Width H of the residual stream.
    pub hidden_size: usize,
    /// Width of the gated layer.
    pub intermediate_size: usize,
    /// Number of decoder layers.
    pub num_hidden_layers: usize,
    /// Number of query heads.
    pub num_attention_heads: usize,
    /// Number of key and value heads; divides the number of query heads.
    pub num_key_value_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Longest sequence that the model was made for.
    pub max_position_embeddings: usize,
    /// ε of the root-mean-square norms.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// How the rotary frequencies are stretched.
    pub rope_scaling: RopeScaling,
    /// Tokens further back than this are not attended to (the window counts the token itself).
    pub sliding_window: Option<usize>,
    /// Whether the output layer is the embedding table.
    pub tie_word_embeddings: bool,
    /// Whether q_proj, k_proj and v_proj have a bias (Qwen2; `attention_bias` elsewhere).
    pub attention_bias: bool,
    /// Whether o_proj has a bias (a Llama with `attention_bias`).
    #[serde(default)]
    pub output_bias: bool,
    /// Whether queries and keys are normed per head (Qwen3).
    pub qk_norm: bool,
}

/// How rotary frequencies differ from `rope_theta^(-2i/head_dim)`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rope_type", rename_all = "lowercase")]
pub enum RopeScaling {
    /// They do not.
    #[default]
    Default,
    /// All are divided by `factor`.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Llama 3: long wavelengths are divided by `factor`, short ones kept, those between interpolated.
    Llama3 {
        /// The divisor of the longest wavelengths.
        factor: f64,
        /// `original_max_position_embeddings / low_freq_factor` is the wavelength above which all is divided.
        low_freq_factor: f64,
        /// `original_max_position_embeddings / high_freq_factor` is the wavelength below which nothing is.
        high_freq_factor: f64,
        /// Context length before stretching.
        original_max_position_embeddings: usize,
    },
    /// Each is divided by a number of its own: GGUF's `rope_freqs.weight`, `[head_dim / 2]`.
    Factors {
        /// The divisors.
        factors: Vec<f32>,
    },
}

impl DecoderConfig {
    /// The inverse frequencies of the rotary embedding, radians per position, `[head_dim / 2]`.
    ///
    /// The `llama3` rule is that of transformers' `_compute_llama3_parameters`.
    pub fn inverse_frequencies(&self) -> Vec<f32> {
        let plain = (0..self.head_dim / 2).map(|i| self.rope_theta.powf(-2.0 * i as f64 / self.head_dim as f64));
        match &self.rope_scaling {
            RopeScaling::Default => plain.map(|frequency| frequency as f32).collect(),
            RopeScaling::Linear { factor } => plain.map(|frequency| (frequency / factor) as f32).collect(),
            RopeScaling::Factors { factors } => {
                plain.zip(factors).map(|(frequency, factor)| (frequency / f64::from(*factor)) as f32).collect()
            }
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
                let context = *original_max_position_embeddings as f64;
                plain
                    .map(|frequency| {
                        let wavelength = 2.0 * std::f64::consts::PI / frequency;
                        let kept = ((context / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor)).clamp(0.0, 1.0);
                        (frequency * (kept + (1.0 - kept) / factor)) as f32
                    })
                    .collect()
            }
        }
    }
}

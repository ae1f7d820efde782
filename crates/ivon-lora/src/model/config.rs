//! The shape of a decoder, in the words of a Hugging Face `config.json`.

use serde::{Deserialize, Serialize};

use super::error::ModelError;

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
    /// Llama 3: long wavelengths are divided by `factor`, short ones kept, those between
    /// interpolated.
    Llama3 {
        /// The divisor of the longest wavelengths.
        factor: f64,
        /// `original_max_position_embeddings / low_freq_factor` is the wavelength above which all
        /// is divided.
        low_freq_factor: f64,
        /// `original_max_position_embeddings / high_freq_factor` is the wavelength below which
        /// nothing is.
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
    /// The families that the decoder speaks, as `model_type` of config.json.
    pub const MODEL_TYPES: &'static [&'static str] = &["llama", "mistral", "qwen2", "qwen3"];

    /// Checks every number against the others and against bounds that no model of these families
    /// leaves, so that no later product of them overflows.
    ///
    /// `file` is named in the error.
    ///
    /// # Errors
    /// [`ModelError::Architecture`] for another family, else [`ModelError::Setting`].
    pub fn validate(&self, file: &str) -> Result<(), ModelError> {
        if !Self::MODEL_TYPES.contains(&self.model_type.as_str()) {
            return Err(ModelError::Architecture {
                file: file.into(),
                found: self.model_type.clone(),
                supported: Self::MODEL_TYPES,
            });
        }
        let count = |field: &str, value: usize, most: usize| {
            ensure(
                file,
                field,
                value,
                (1..=most).contains(&value),
                format_args!("1 to {most}"),
            )
        };
        count("vocab_size", self.vocab_size, 1 << 24)?;
        count("hidden_size", self.hidden_size, 1 << 17)?;
        count("intermediate_size", self.intermediate_size, 1 << 20)?;
        count("num_hidden_layers", self.num_hidden_layers, 1 << 12)?;
        count("num_attention_heads", self.num_attention_heads, 1 << 12)?;
        count(
            "num_key_value_heads",
            self.num_key_value_heads,
            self.num_attention_heads,
        )?;
        count("head_dim", self.head_dim, 1 << 12)?;
        count(
            "max_position_embeddings",
            self.max_position_embeddings,
            1 << 31,
        )?;
        let heads = self.num_attention_heads;
        let divides = heads.is_multiple_of(self.num_key_value_heads);
        ensure(
            file,
            "num_key_value_heads",
            self.num_key_value_heads,
            divides,
            format_args!("a divisor of {heads} query heads"),
        )?;
        ensure(
            file,
            "head_dim",
            self.head_dim,
            self.head_dim.is_multiple_of(2),
            "an even number",
        )?;
        let eps = self.rms_norm_eps;
        ensure(
            file,
            "rms_norm_eps",
            eps,
            eps > 0.0 && eps <= 0.1,
            "above 0, at most 0.1",
        )?;
        let theta = self.rope_theta;
        ensure(
            file,
            "rope_theta",
            theta,
            (1.0..=1e12).contains(&theta),
            "1 to 1e12",
        )?;
        if let Some(window) = self.sliding_window {
            count("sliding_window", window, 1 << 31)?;
        }
        self.validate_rope_scaling(file)
    }

    fn validate_rope_scaling(&self, file: &str) -> Result<(), ModelError> {
        let positive = |field: &str, value: f64| {
            ensure(
                file,
                field,
                value,
                value > 0.0 && value <= 1e6,
                "above 0, at most 1e6",
            )
        };
        match &self.rope_scaling {
            RopeScaling::Default => Ok(()),
            RopeScaling::Linear { factor } => positive("factor", *factor),
            RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings: original,
            } => {
                positive("factor", *factor)?;
                positive("low_freq_factor", *low_freq_factor)?;
                positive("high_freq_factor", *high_freq_factor)?;
                let ordered = high_freq_factor > low_freq_factor;
                ensure(
                    file,
                    "high_freq_factor",
                    high_freq_factor,
                    ordered,
                    format_args!("above low_freq_factor {low_freq_factor}"),
                )?;
                ensure(
                    file,
                    "original_max_position_embeddings",
                    original,
                    (1..=1 << 31).contains(original),
                    "1 to 2147483648",
                )
            }
            RopeScaling::Factors { factors } => {
                let (found, expected) = (factors.len(), self.head_dim / 2);
                ensure(
                    file,
                    "rope_freqs.weight",
                    format_args!("{found} numbers"),
                    found == expected,
                    format_args!("{expected} numbers"),
                )?;
                factors
                    .iter()
                    .try_for_each(|factor| positive("rope_freqs.weight", f64::from(*factor)))
            }
        }
    }

    /// The inverse frequencies of the rotary embedding, radians per position, `[head_dim / 2]`.
    ///
    /// The `llama3` rule is that of transformers' `_compute_llama3_parameters`.
    pub fn inverse_frequencies(&self) -> Vec<f32> {
        let plain = (0..self.head_dim / 2)
            .map(|i| self.rope_theta.powf(-2.0 * i as f64 / self.head_dim as f64));
        match &self.rope_scaling {
            RopeScaling::Default => plain.map(|frequency| frequency as f32).collect(),
            RopeScaling::Linear { factor } => {
                plain.map(|frequency| (frequency / factor) as f32).collect()
            }
            RopeScaling::Factors { factors } => plain
                .zip(factors)
                .map(|(frequency, factor)| (frequency / f64::from(*factor)) as f32)
                .collect(),
            RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings,
            } => {
                let context = *original_max_position_embeddings as f64;
                plain
                    .map(|frequency| {
                        let wavelength = 2.0 * std::f64::consts::PI / frequency;
                        let kept = ((context / wavelength - low_freq_factor)
                            / (high_freq_factor - low_freq_factor))
                            .clamp(0.0, 1.0);
                        (frequency * (kept + (1.0 - kept) / factor)) as f32
                    })
                    .collect()
            }
        }
    }
}

/// An error that names the field unless `holds`.
fn ensure(
    file: &str,
    field: &str,
    found: impl std::fmt::Display,
    holds: bool,
    expected: impl std::fmt::Display,
) -> Result<(), ModelError> {
    if holds {
        Ok(())
    } else {
        Err(setting(file, field, format!("`{found}`"), expected))
    }
}

/// The error for a field; `found` as it shall be printed.
pub(super) fn setting(
    file: &str,
    field: &str,
    found: impl std::fmt::Display,
    expected: impl std::fmt::Display,
) -> ModelError {
    ModelError::Setting {
        file: file.into(),
        field: field.into(),
        found: found.to_string(),
        expected: expected.to_string(),
    }
}

//! The rotary embedding: the rotation angle of each pair of a head at each position.

use serde::{Deserialize, Serialize};

use super::error::ModelError;
use super::setting::ensure;

/// A rotary embedding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rope {
    /// Base of the frequencies.
    #[serde(rename = "rope_theta")]
    pub theta: f64,
    /// How the frequencies are scaled.
    #[serde(rename = "rope_scaling")]
    pub scaling: RopeScaling,
}

/// How rotary frequencies differ from `theta^(-2i/head_dim)`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rope_type", rename_all = "lowercase")]
pub enum RopeScaling {
    /// Not at all.
    #[default]
    Default,
    /// All are divided by `factor`.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Llama 3: long wavelengths are divided by `factor`, short ones unchanged, those between
    /// interpolated.
    Llama3 {
        /// The divisor of the longest wavelengths.
        factor: f64,
        /// Wavelengths above `original_max_position_embeddings / low_freq_factor` are divided.
        low_freq_factor: f64,
        /// Wavelengths below `original_max_position_embeddings / high_freq_factor` are unchanged.
        high_freq_factor: f64,
        /// Context length before scaling.
        original_max_position_embeddings: usize,
    },
    /// Each is divided by its own factor: GGUF's `rope_freqs.weight`, `[head_dim / 2]`.
    Factors {
        /// The divisors.
        factors: Vec<f32>,
    },
}

impl Rope {
    /// The inverse frequencies, radians per position, `[head_dim / 2]`.
    ///
    /// The `llama3` rule is that of transformers' `_compute_llama3_parameters`.
    pub fn inverse_frequencies(&self, head_dim: usize) -> Vec<f32> {
        let plain = (0..head_dim / 2).map(|i| self.theta.powf(-2.0 * i as f64 / head_dim as f64));
        match &self.scaling {
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
                low_freq_factor: low,
                high_freq_factor: high,
                original_max_position_embeddings,
            } => {
                let context = *original_max_position_embeddings as f64;
                plain
                    .map(|frequency| llama3(frequency, context, *factor, [*low, *high]) as f32)
                    .collect()
            }
        }
    }

    /// Checks the range of every number.
    ///
    /// # Errors
    /// [`ModelError::Setting`].
    pub(super) fn validate(&self, file: &str, head_dim: usize) -> Result<(), ModelError> {
        let theta = self.theta;
        let holds = (1.0..=1e12).contains(&theta);
        ensure(file, "rope_theta", theta, holds, "1 to 1e12")?;
        match &self.scaling {
            RopeScaling::Default => Ok(()),
            RopeScaling::Linear { factor } => positive(file, "factor", *factor),
            RopeScaling::Llama3 {
                factor,
                low_freq_factor: low,
                high_freq_factor: high,
                original_max_position_embeddings: original,
            } => {
                positive(file, "factor", *factor)?;
                positive(file, "low_freq_factor", *low)?;
                positive(file, "high_freq_factor", *high)?;
                let expected = format_args!("above low_freq_factor {low}");
                ensure(file, "high_freq_factor", high, high > low, expected)?;
                let field = "original_max_position_embeddings";
                let holds = (1..=1 << 31).contains(original);
                ensure(file, field, original, holds, "1 to 2147483648")
            }
            RopeScaling::Factors { factors } => validate_factors(file, factors, head_dim / 2),
        }
    }
}

/// The `llama3` rule for one frequency.
fn llama3(frequency: f64, context: f64, factor: f64, [low, high]: [f64; 2]) -> f64 {
    let wavelength = 2.0 * std::f64::consts::PI / frequency;
    let kept = ((context / wavelength - low) / (high - low)).clamp(0.0, 1.0);
    frequency * (kept + (1.0 - kept) / factor)
}

fn positive(file: &str, field: &str, value: f64) -> Result<(), ModelError> {
    let holds = value > 0.0 && value <= 1e6;
    ensure(file, field, value, holds, "above 0, at most 1e6")
}

fn validate_factors(file: &str, factors: &[f32], expected: usize) -> Result<(), ModelError> {
    let found = factors.len();
    ensure(
        file,
        "rope_freqs.weight",
        format_args!("{found} numbers"),
        found == expected,
        format_args!("{expected} numbers"),
    )?;
    factors
        .iter()
        .try_for_each(|factor| positive(file, "rope_freqs.weight", f64::from(*factor)))
}

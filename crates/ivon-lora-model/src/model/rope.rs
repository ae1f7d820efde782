//! The rotary embedding: the rotation angle of each pair of a head at each position.

use std::f64::consts::PI;

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
    /// The part of each head that is rotated, in (0, 1], from its first column on; none: all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partial_rotary_factor: Option<f64>,
}

/// How rotary frequencies differ from `theta^(-2i/width)`.
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
    /// In sequences longer than the original context, the base grows with their length.
    Dynamic {
        /// How much faster than the length it grows.
        factor: f64,
        /// Context length before scaling.
        original_max_position_embeddings: usize,
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
    /// Divided, unchanged and interpolated between, by the number of turns over the original
    /// context; the rotated numbers are multiplied by a constant.
    Yarn(Yarn),
    /// Each is divided by a factor of its own, another one in sequences longer than the original
    /// context; the rotated numbers are multiplied by a constant.
    LongRope {
        /// The divisors up to the original context, `[width / 2]`.
        short_factor: Vec<f64>,
        /// The divisors beyond it, `[width / 2]`.
        long_factor: Vec<f64>,
        /// By which cosine and sine are multiplied.
        attention_factor: f64,
        /// Context length before scaling.
        original_max_position_embeddings: usize,
    },
    /// Only the first frequencies turn, those of the rotated part; unlike a partial rotation, they
    /// are those of the whole head, and each pair spans half the head.
    Proportional {
        /// The divisor of all frequencies.
        factor: f64,
    },
    /// Each is divided by its own factor: GGUF's `rope_freqs.weight`, `[head_dim / 2]`.
    Factors {
        /// The divisors.
        factors: Vec<f32>,
    },
}

/// The numbers of YaRN (arXiv 2309.00071, section 3.2).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Yarn {
    /// The divisor of the frequencies with few turns.
    pub factor: f64,
    /// Frequencies with more turns over the original context are unchanged.
    pub beta_fast: f64,
    /// Frequencies with fewer turns over the original context are divided.
    pub beta_slow: f64,
    /// Whether both limits are rounded to whole pairs.
    pub truncate: bool,
    /// By which cosine and sine are multiplied.
    pub attention_factor: f64,
    /// Context length before scaling.
    pub original_max_position_embeddings: usize,
    /// β: queries at position p are multiplied by 1 + β ln(1 + ⌊p / original⌋) (Llama 4,
    /// Ministral 3); 0: they are not.
    pub query_beta: f64,
}

impl Rope {
    /// The number of columns of a head that are rotated, an even number.
    pub fn width(&self, head_dim: usize) -> usize {
        match (&self.scaling, self.partial_rotary_factor) {
            (RopeScaling::Proportional { .. }, _) | (_, None) => head_dim,
            (_, Some(part)) => (head_dim as f64 * part) as usize,
        }
    }

    /// The inverse frequencies in sequences of `length` tokens, radians per position,
    /// `[width / 2]`.
    ///
    /// The rules are those of transformers' `modeling_rope_utils`.
    pub fn inverse_frequencies(&self, head_dim: usize, length: usize) -> Vec<f32> {
        let width = self.width(head_dim);
        let plain = |i: usize| self.theta.powf(-2.0 * i as f64 / width as f64);
        let each = 0..width / 2;
        match &self.scaling {
            RopeScaling::Default => each.map(|i| plain(i) as f32).collect(),
            RopeScaling::Linear { factor } => each.map(|i| (plain(i) / factor) as f32).collect(),
            RopeScaling::Dynamic {
                factor,
                original_max_position_embeddings: original,
            } => {
                let (length, original) = (length.max(*original) as f64, *original as f64);
                let growth = factor * length / original - (factor - 1.0);
                let theta = self.theta * growth.powf(width as f64 / (width as f64 - 2.0));
                each.map(|i| theta.powf(-2.0 * i as f64 / width as f64) as f32)
                    .collect()
            }
            RopeScaling::Llama3 {
                factor,
                low_freq_factor: low,
                high_freq_factor: high,
                original_max_position_embeddings,
            } => {
                let context = *original_max_position_embeddings as f64;
                each.map(|i| llama3(plain(i), context, *factor, [*low, *high]) as f32)
                    .collect()
            }
            RopeScaling::Yarn(yarn) => {
                let limits = yarn.limits(self.theta, width);
                each.map(|i| yarn.frequency(plain(i), i as f64, limits) as f32)
                    .collect()
            }
            RopeScaling::LongRope {
                short_factor,
                long_factor,
                original_max_position_embeddings: original,
                ..
            } => {
                let is_long = length > *original;
                let factors = if is_long { long_factor } else { short_factor };
                let divided = each.zip(factors);
                divided
                    .map(|(i, factor)| (plain(i) / factor) as f32)
                    .collect()
            }
            RopeScaling::Proportional { factor } => {
                let part = self.partial_rotary_factor.unwrap_or(1.0);
                let turning = (part * head_dim as f64 / 2.0) as usize;
                each.map(|i| match i < turning {
                    true => (plain(i) / factor) as f32,
                    false => 0.0,
                })
                .collect()
            }
            RopeScaling::Factors { factors } => each
                .zip(factors)
                .map(|(i, factor)| (plain(i) / f64::from(*factor)) as f32)
                .collect(),
        }
    }

    /// By which cosine and sine are multiplied.
    pub fn attention_factor(&self) -> f64 {
        match &self.scaling {
            RopeScaling::Yarn(Yarn {
                attention_factor, ..
            })
            | RopeScaling::LongRope {
                attention_factor, ..
            } => *attention_factor,
            _ => 1.0,
        }
    }

    /// By which the query at a position is multiplied; none if by 1 at every position.
    pub fn query_factor(&self, position: u32) -> Option<f64> {
        let RopeScaling::Yarn(yarn) = &self.scaling else {
            return None;
        };
        let beyond = position as usize / yarn.original_max_position_embeddings.max(1);
        (yarn.query_beta != 0.0).then(|| 1.0 + yarn.query_beta * (beyond as f64).ln_1p())
    }

    /// What the frequencies in sequences of `length` tokens depend on: equal numbers, equal
    /// frequencies.
    pub fn length_class(&self, length: usize) -> usize {
        match &self.scaling {
            RopeScaling::Dynamic {
                original_max_position_embeddings: original,
                ..
            } => length.max(*original),
            RopeScaling::LongRope {
                original_max_position_embeddings: original,
                ..
            } => usize::from(length > *original),
            _ => 0,
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
        if let Some(part) = self.partial_rotary_factor {
            let holds = part > 0.0 && part <= 1.0;
            ensure(
                file,
                "partial_rotary_factor",
                part,
                holds,
                "above 0, at most 1",
            )?;
        }
        let width = self.width(head_dim);
        let expected = "an even number of rotated columns, at least 2";
        let holds = width >= 2 && width.is_multiple_of(2);
        let found = format_args!("{width} rotated columns");
        ensure(file, "partial_rotary_factor", found, holds, expected)?;
        self.scaling.validate(file, width)
    }
}

impl RopeScaling {
    /// The rule of a `config.json` that divides by these numbers in sequences of every length, of a
    /// model whose context has `length` tokens.
    pub fn of_divisors(divisors: &[f32], length: usize) -> Self {
        let divisors: Vec<f64> = divisors.iter().copied().map(f64::from).collect();
        Self::LongRope {
            short_factor: divisors.clone(),
            long_factor: divisors,
            attention_factor: 1.0,
            original_max_position_embeddings: length,
        }
    }

    fn validate(&self, file: &str, width: usize) -> Result<(), ModelError> {
        match self {
            Self::Default => Ok(()),
            Self::Linear { factor } | Self::Proportional { factor } => {
                positive(file, "factor", *factor)
            }
            Self::Dynamic {
                factor,
                original_max_position_embeddings: original,
            } => {
                let expected = "at least 4 rotated columns for `dynamic`";
                ensure(file, "head_dim", width, width >= 4, expected)?;
                positive(file, "factor", *factor)?;
                original_length(file, *original)
            }
            Self::Llama3 {
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
                original_length(file, *original)
            }
            Self::Yarn(yarn) => yarn.validate(file),
            Self::LongRope {
                short_factor,
                long_factor,
                attention_factor,
                original_max_position_embeddings: original,
            } => {
                validate_factors(file, "short_factor", short_factor, width / 2)?;
                validate_factors(file, "long_factor", long_factor, width / 2)?;
                positive(file, "attention_factor", *attention_factor)?;
                original_length(file, *original)
            }
            Self::Factors { factors } => {
                let factors: Vec<f64> = factors.iter().map(|&factor| factor.into()).collect();
                validate_factors(file, "rope_freqs.weight", &factors, width / 2)
            }
        }
    }
}

impl Yarn {
    /// The pairs between which frequencies are interpolated: those with `beta_fast` and with
    /// `beta_slow` turns over the original context.
    fn limits(&self, theta: f64, width: usize) -> [f64; 2] {
        let original = self.original_max_position_embeddings as f64;
        let pair =
            |turns: f64| width as f64 * (original / (turns * 2.0 * PI)).ln() / (2.0 * theta.ln());
        let (low, high) = (pair(self.beta_fast), pair(self.beta_slow));
        let (low, high) = match self.truncate {
            true => (low.floor(), high.ceil()),
            false => (low, high),
        };
        let (low, high) = (low.max(0.0), high.min(width as f64 - 1.0));
        // As in transformers, so that nothing is divided by 0.
        [low, if low == high { high + 0.001 } else { high }]
    }

    /// One frequency: f (1 − e) / factor + f e, where e falls from 1 to 0 between the limits.
    fn frequency(&self, plain: f64, pair: f64, [low, high]: [f64; 2]) -> f64 {
        let kept = 1.0 - ((pair - low) / (high - low)).clamp(0.0, 1.0);
        plain / self.factor * (1.0 - kept) + plain * kept
    }

    /// The constant of a factor: 0.1 · `mscale` · ln `factor` + 1, at least 1.
    pub fn attention_factor_of(factor: f64, mscale: f64) -> f64 {
        match factor > 1.0 {
            true => 0.1 * mscale * factor.ln() + 1.0,
            false => 1.0,
        }
    }

    fn validate(&self, file: &str) -> Result<(), ModelError> {
        positive(file, "factor", self.factor)?;
        positive(file, "beta_fast", self.beta_fast)?;
        positive(file, "beta_slow", self.beta_slow)?;
        positive(file, "attention_factor", self.attention_factor)?;
        let beta = self.query_beta;
        let holds = (0.0..=1e6).contains(&beta);
        ensure(file, "llama_4_scaling_beta", beta, holds, "0 to 1e6")?;
        original_length(file, self.original_max_position_embeddings)
    }
}

/// The `llama3` rule for one frequency.
fn llama3(frequency: f64, context: f64, factor: f64, [low, high]: [f64; 2]) -> f64 {
    let wavelength = 2.0 * PI / frequency;
    let kept = ((context / wavelength - low) / (high - low)).clamp(0.0, 1.0);
    frequency * (kept + (1.0 - kept) / factor)
}

fn positive(file: &str, field: &str, value: f64) -> Result<(), ModelError> {
    let holds = value > 0.0 && value <= 1e6;
    ensure(file, field, value, holds, "above 0, at most 1e6")
}

fn original_length(file: &str, original: usize) -> Result<(), ModelError> {
    let field = "original_max_position_embeddings";
    let holds = (1..=1 << 31).contains(&original);
    ensure(file, field, original, holds, "1 to 2147483648")
}

fn validate_factors(
    file: &str,
    field: &str,
    factors: &[f64],
    expected: usize,
) -> Result<(), ModelError> {
    let found = factors.len();
    ensure(
        file,
        field,
        format_args!("{found} numbers"),
        found == expected,
        format_args!("{expected} numbers"),
    )?;
    factors
        .iter()
        .try_for_each(|factor| positive(file, field, *factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rope(scaling: RopeScaling) -> Rope {
        Rope {
            theta: 10_000.0,
            scaling,
            partial_rotary_factor: None,
        }
    }

    #[test]
    fn a_proportional_rotation_turns_the_first_pairs_of_the_whole_head_and_a_partial_one_a_smaller_head()
     {
        let part = |scaling| Rope {
            partial_rotary_factor: Some(0.25),
            ..rope(scaling)
        };
        let proportional = part(RopeScaling::Proportional { factor: 1.0 });
        let whole = rope(RopeScaling::Default).inverse_frequencies(32, 1);
        let found = proportional.inverse_frequencies(32, 1);
        assert_eq!((&found[..4], &found[4..]), (&whole[..4], &[0.0; 12][..]));
        let partial = part(RopeScaling::Default);
        assert_eq!(partial.width(32), 8);
        let small = rope(RopeScaling::Default).inverse_frequencies(8, 1);
        assert_eq!(partial.inverse_frequencies(32, 1), small);
    }

    #[test]
    fn a_dynamic_base_grows_only_beyond_the_original_context() {
        let dynamic = rope(RopeScaling::Dynamic {
            factor: 4.0,
            original_max_position_embeddings: 64,
        });
        let plain = rope(RopeScaling::Default).inverse_frequencies(8, 1);
        assert_eq!(dynamic.inverse_frequencies(8, 64), plain);
        // 4 · 128 / 64 − 3 = 5; the last of 4 frequencies is (10⁴ · 5^(8/6))^(−6/8) = 10^(−3) / 5.
        let last = dynamic.inverse_frequencies(8, 128)[3];
        assert!((last - 2e-4).abs() < 1e-9, "{last}");
        assert_eq!(dynamic.length_class(9), dynamic.length_class(64));
        assert_ne!(dynamic.length_class(65), dynamic.length_class(66));
    }

    #[test]
    fn yarn_keeps_fast_pairs_and_divides_slow_ones() {
        let yarn = Yarn {
            factor: 4.0,
            beta_fast: 32.0,
            beta_slow: 1.0,
            truncate: true,
            attention_factor: Yarn::attention_factor_of(4.0, 1.0),
            original_max_position_embeddings: 4096,
            query_beta: 0.0,
        };
        assert!((yarn.attention_factor - 1.138_629_436).abs() < 1e-9);
        let rope = rope(RopeScaling::Yarn(yarn));
        let plain = Rope {
            scaling: RopeScaling::Default,
            ..rope.clone()
        };
        let (plain, found) = (
            plain.inverse_frequencies(128, 1),
            rope.inverse_frequencies(128, 1),
        );
        // 4096 / 2π = 652 turns of the first pair, 4096 · 10⁻⁴ / 2π = 0.065 of the last.
        assert_eq!(found[0], plain[0]);
        assert!((found[63] / plain[63] - 0.25).abs() < 1e-6);
        assert!(found[33] < plain[33] && found[33] > plain[33] / 4.0);
    }
}

//! The range over which a setting is tuned, and its value at an address (seed, trial, path).

use serde::{Deserialize, Serialize};
use toml::Value;

use super::CompareError;
use ivon_lora::random::{Purpose, below, stream, uniform};

/// The values that a setting may have in trials.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "a range is a list of values, or `{ from, to }` with numbers above 0 (`scale = \"linear\"` for any numbers)"
)]
pub enum Range {
    /// One of these.
    OneOf(Vec<Value>),
    /// Between two numbers.
    Between(Between),
}

/// Numbers between two others.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Between {
    /// The smallest.
    pub from: f64,
    /// The largest.
    pub to: f64,
    /// Whether their logarithms or the numbers themselves are drawn uniformly.
    #[serde(default)]
    pub scale: Spacing,
}

/// How numbers are spread between two others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Spacing {
    /// Each power of ten is as likely as the next.
    #[default]
    Log,
    /// Each number is as likely as the next.
    Linear,
}

impl Range {
    /// Checks that there is something to choose from.
    ///
    /// # Errors
    /// If there is not; `what` says whose range it is.
    pub fn check(&self, what: &str) -> Result<(), CompareError> {
        let wrong = |found: String, expected: &str| {
            Err(CompareError::Setting {
                what: what.into(),
                found,
                expected: expected.into(),
            })
        };
        match self {
            Self::OneOf(values) if values.is_empty() => {
                wrong("an empty list".into(), "at least one value")
            }
            Self::OneOf(_) => Ok(()),
            Self::Between(Between { from, to, scale }) => {
                let is_positive = *scale == Spacing::Linear || *from > 0.0;
                if from.is_finite() && to.is_finite() && from <= to && is_positive {
                    return Ok(());
                }
                wrong(
                    format!("from {from} to {to}"),
                    "finite numbers, the smaller first, above 0 unless `scale = \"linear\"`",
                )
            }
        }
    }

    /// The value at an address; numbers are rounded to three digits to be readable.
    pub(super) fn draw(&self, seed: u64, trial: u64, path: &str) -> Value {
        let mut numbers = stream(seed, Purpose::Search, trial, 0, path);
        match self {
            Self::OneOf(values) => {
                let index = below(&mut numbers, values.len().max(1) as u64) as usize;
                values.get(index).cloned().unwrap_or(Value::Boolean(false))
            }
            Self::Between(Between { from, to, scale }) => {
                let share = uniform(&mut numbers);
                let value = match scale {
                    Spacing::Linear => from + share * (to - from),
                    Spacing::Log => (from.ln() + share * (to / from).ln()).exp(),
                };
                Value::Float(rounded(value).clamp(*from, *to))
            }
        }
    }
}

/// Rounded to three digits.
fn rounded(value: f64) -> f64 {
    format!("{value:.2e}").parse().unwrap_or(value)
}

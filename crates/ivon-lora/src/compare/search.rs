//! Ranges of settings → the trials of a method: every trial's settings are named by (seed, trial,
//! method, setting).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::CompareError;
use super::config::{MethodEntry, merge};
use crate::random::{Purpose, below, stream, uniform};

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
    /// Whether their logarithms or they themselves are drawn evenly.
    #[serde(default)]
    pub scale: Spacing,
}

/// How numbers lie between two others.
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
    /// With `what`, which says whose range it is.
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

    /// The value at an address; numbers have three digits, so that they read well.
    fn draw(&self, seed: u64, trial: u64, path: &str) -> Value {
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

/// Three digits.
fn rounded(value: f64) -> f64 {
    format!("{value:.2e}").parse().unwrap_or(value)
}

/// The settings of one trial of a method, by name as in its `tune`.
pub fn trial_settings(method: &MethodEntry, seed: u64, trial: u64) -> BTreeMap<String, Value> {
    let of = |(key, range): (&String, &Range)| {
        (
            key.clone(),
            range.draw(seed, trial, &format!("{}/{key}", method.name)),
        )
    };
    method.tune.iter().map(of).collect()
}

/// Lays settings by name over tables: `train.steps` stands for `steps` of `[train]`, a name without
/// a point for the optimizer's.
pub fn lay_over(table: &mut Table, settings: &BTreeMap<String, Value>) {
    for (name, value) in settings {
        let (section, key) = name.split_once('.').unwrap_or(("optimizer", name));
        let inner = Table::from_iter([(key.to_string(), value.clone())]);
        merge(
            table,
            &Table::from_iter([(section.to_string(), Value::Table(inner))]),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::CompareConfig;
    use super::super::config::tests::FILE;
    use super::*;

    #[test]
    fn trials_repeat_differ_and_stay_in_their_ranges() {
        let config: CompareConfig = toml::from_str(FILE).unwrap();
        let method = &config.methods[0];
        let all: Vec<_> = (0..200)
            .map(|trial| trial_settings(method, 7, trial))
            .collect();
        assert_eq!(all[3], trial_settings(method, 7, 3));
        assert_ne!(all[3], trial_settings(method, 8, 3));
        let rates: Vec<f64> = all
            .iter()
            .map(|trial| trial["learning_rate"].as_float().unwrap())
            .collect();
        assert!(rates.iter().all(|rate| (1e-5..=1e-3).contains(rate)));
        // Half of them below the geometric middle of 1e-4: 100 expected, standard deviation 7.
        assert!(
            rates
                .iter()
                .filter(|rate| **rate < 1e-4)
                .count()
                .abs_diff(100)
                < 30
        );
        assert!(
            all.iter()
                .any(|trial| trial["train.steps"] == Value::Integer(20))
                && all
                    .iter()
                    .any(|trial| trial["train.steps"] == Value::Integer(40))
        );
    }

    #[test]
    fn settings_are_laid_over_where_their_names_say() {
        let mut table: Table = toml::from_str(
            "[optimizer]\nname = 'ivon'\ness = 1.0\n[train]\nsteps = 3\nbatch_size = 2",
        )
        .unwrap();
        lay_over(
            &mut table,
            &BTreeMap::from([
                ("ess".into(), Value::Float(5.0)),
                ("train.steps".into(), Value::Integer(9)),
                ("lora.rank".into(), Value::Integer(4)),
            ]),
        );
        let expected: Table =
            toml::from_str("[optimizer]\nname = 'ivon'\ness = 5.0\n[train]\nsteps = 9\nbatch_size = 2\n[lora]\nrank = 4").unwrap();
        assert_eq!(table, expected);
    }
}

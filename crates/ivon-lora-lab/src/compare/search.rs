//! The trials of a method, whose settings are drawn by (seed, trial, method, setting).

use std::collections::BTreeMap;

use toml::Value;

use super::CompareError;
use super::config::{CompareConfig, MethodEntry, TaskEntry};
use super::range::Range;
use super::tables::{lay_over, merge, resolved};
use ivon_lora::run::RunConfig;

/// The number of trials that a method has of its own.
pub(super) fn trials(config: &CompareConfig, method: &MethodEntry) -> u32 {
    if method.tune.is_empty() {
        0
    } else {
        config.tuning.as_ref().map_or(0, |tuning| tuning.trials)
    }
}

/// The tuned settings of one trial of a method, by their names in `tune`.
pub fn trial_settings(method: &MethodEntry, seed: u64, trial: u64) -> BTreeMap<String, Value> {
    let of = |(key, range): (&String, &Range)| {
        (
            key.clone(),
            range.draw(seed, trial, &format!("{}/{key}", method.name)),
        )
    };
    method.tune.iter().map(of).collect()
}

/// The settings of a trial.
///
/// # Errors
/// If they are not a run's.
pub(super) fn trial_config(
    config: &CompareConfig,
    task: &TaskEntry,
    method: &MethodEntry,
    trial: u32,
) -> Result<RunConfig, CompareError> {
    let mut table = config.tables(task, method);
    let seed = config.tuning.as_ref().map_or(0, |tuning| tuning.seed);
    if let Some(tuning) = &config.tuning {
        merge(&mut table, &tuning.run);
    }
    lay_over(&mut table, &trial_settings(method, seed, u64::from(trial)));
    resolved(table, seed, || {
        format!("{}, {}, trial {trial}", task.name, method.name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::file::tests::FILE;

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
}

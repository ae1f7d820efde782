//! Trials of settings, the best of each method, and the settings of the cells that follow from them.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::cell::is_current;
use super::config::{CompareConfig, MethodEntry, TaskEntry};
use super::planned_run::{PlannedRun, RunKind};
use super::search::{trial_config, trial_settings};
use super::settings::cell_name;
use super::tables::{lay_over, resolved};
use super::task::TaskData;
use super::{CompareError, failure};
use ivon_lora::answer::{EVALUATION_FILE, RunReport};
use ivon_lora::files;
use ivon_lora::run::{RunConfig, RunError};

const LARGEST: u64 = 64 << 20;

/// A trial of settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// The task.
    pub task: String,
    /// The method.
    pub method: String,
    /// Counted from 0.
    pub trial: u32,
    /// The settings that were tried.
    pub settings: BTreeMap<String, Value>,
    /// NLL on tune at the mean, nats.
    pub nll_mean: Option<f64>,
    /// NLL on tune averaged over all draws, nats; none without draws.
    pub nll_samples: Option<f64>,
    /// Why it has no NLL.
    pub error: Option<String>,
    /// Whether it was chosen.
    pub is_chosen: bool,
}

impl Trial {
    /// The NLL by which it is judged: the lower one, since the cell predicts with whichever is better.
    pub fn nll(&self) -> Option<f64> {
        [self.nll_mean, self.nll_samples]
            .into_iter()
            .flatten()
            .filter(|nll| nll.is_finite())
            .reduce(f64::min)
    }

    /// The trial of a method before it is made.
    pub(super) fn new(
        config: &CompareConfig,
        task: &str,
        method: &MethodEntry,
        trial: u32,
    ) -> Self {
        let seed = config.tuning.as_ref().map_or(0, |tuning| tuning.seed);
        Self {
            task: task.into(),
            method: method.name.clone(),
            trial,
            settings: trial_settings(method, seed, u64::from(trial)),
            nll_mean: None,
            nll_samples: None,
            error: None,
            is_chosen: false,
        }
    }

    /// The same with what its finished run says.
    pub(super) fn finished(self, folder: &Path) -> Self {
        match read_nll(folder) {
            Ok([nll_mean, nll_samples]) => Self {
                nll_mean,
                nll_samples,
                ..self
            },
            Err(error) => self.failed(error.to_string()),
        }
    }

    /// The same with the reason why it failed.
    pub(super) fn failed(self, reason: String) -> Self {
        Self {
            error: Some(reason),
            ..self
        }
    }

    /// The trial of a run as its folder has it; none if it is neither finished nor failed with these
    /// settings and rows.
    fn read(
        config: &CompareConfig,
        task: &TaskData<'_>,
        run: &PlannedRun<'_>,
        number: u32,
    ) -> Option<Self> {
        let trial = Self::new(config, &task.entry.name, run.method, number);
        let settings = match trial_config(config, task.entry, run.method, number) {
            Ok(settings) => settings,
            Err(error) => return Some(trial.failed(error.to_string())),
        };
        let folder = run.folder(&config.out);
        if is_current(&folder, &settings, &task.rows(run.method).trials) {
            return Some(trial.finished(&folder));
        }
        let reason = failure::read(&run.claims(&config.out), &settings)?;
        Some(trial.failed(reason))
    }
}

/// Those of these runs that are trials and are finished or failed, as their folders have them; the best
/// of each method that has all of its trials is marked.
pub(super) fn read_trials(
    config: &CompareConfig,
    task: &TaskData<'_>,
    runs: &[PlannedRun<'_>],
) -> Vec<Trial> {
    let trial = |run: &PlannedRun<'_>| match run.kind {
        RunKind::Trial(number) => Trial::read(config, task, run, number),
        RunKind::Cell(_) => None,
    };
    let mut trials: Vec<Trial> = runs.iter().filter_map(trial).collect();
    choose(config, &mut trials);
    trials
}

/// Marks the best of each method's trials on one task, once the method has all of them; returns a
/// sentence for each choice.
pub(super) fn choose(config: &CompareConfig, trials: &mut [Trial]) -> Vec<String> {
    let all = config
        .tuning
        .as_ref()
        .map_or(0, |tuning| tuning.trials as usize);
    let methods = trials.chunk_by_mut(|one, other| one.method == other.method);
    let complete = methods.filter(|trials| trials.len() == all);
    complete.filter_map(mark_best).collect()
}

/// Marks the trial with the lowest NLL and says what it tried; none if no trial has one.
fn mark_best(trials: &mut [Trial]) -> Option<String> {
    let judged = trials
        .iter_mut()
        .filter_map(|trial| Some((trial.nll()?, trial)));
    let (nll, best) = judged.min_by(|one, other| one.0.total_cmp(&other.0))?;
    best.is_chosen = true;
    let settings = best.settings.iter();
    let settings: Vec<String> = settings
        .map(|(key, value)| format!("{key} {value}"))
        .collect();
    Some(format!(
        "{}, {}: chosen on tune {} (NLL {nll:.4})",
        best.task,
        best.method,
        settings.join(", ")
    ))
}

/// The settings of a cell, including those that were chosen for the method that trains it.
///
/// # Errors
/// If no trial of that method has come to its end, or the settings are not a run's.
pub(super) fn cell_config(
    config: &CompareConfig,
    trials: &[Trial],
    (task, method, seed): (&TaskEntry, &MethodEntry, u64),
) -> Result<RunConfig, CompareError> {
    let Some(trainer) = config.trainer(method)? else {
        return chosen_config(config, trials, (task, method, seed));
    };
    let trained = chosen_config(config, trials, (task, trainer, seed))?;
    config.fitted_after(task, method, trainer, &trained)
}

/// The settings of a cell that trains, including those that were chosen by its trials or by those of
/// the method that it is tuned as.
fn chosen_config(
    config: &CompareConfig,
    trials: &[Trial],
    (task, method, seed): (&TaskEntry, &MethodEntry, u64),
) -> Result<RunConfig, CompareError> {
    let cell = config.cell(task, method, seed)?;
    if config.tuning.is_none() || method.untuned {
        return Ok(cell);
    }
    let tuned = method.tuned_as.as_ref().unwrap_or(&method.name);
    let is_choice =
        |trial: &&Trial| trial.is_chosen && trial.task == task.name && trial.method == *tuned;
    let chosen = trials.iter().find(is_choice);
    let chosen = chosen.ok_or_else(|| CompareError::Setting {
        what: format!("the choice of settings of `{}`", method.name),
        found: "not made".into(),
        expected: format!("a trial of `{tuned}` that comes to its end"),
    })?;
    let mut table = Table::try_from(&cell).unwrap_or_default();
    lay_over(&mut table, &chosen.settings);
    resolved(table, seed, || cell_name(task, method, Some(seed)))
}

/// The NLL of a finished trial, at the mean and with all draws.
fn read_nll(folder: &Path) -> Result<[Option<f64>; 2], CompareError> {
    let path = folder.join(EVALUATION_FILE);
    let text = files::read_text(&path, LARGEST)?;
    let report: RunReport = serde_json::from_str(&text).map_err(|error| RunError::Malformed {
        path: path.clone(),
        reason: error.to_string(),
    })?;
    Ok(match report {
        RunReport::Choices(report) => [
            Some(report.mean.nll),
            report.samples.last().map(|scores| scores.nll),
        ],
        RunReport::Texts(report) => [
            Some(report.mean_tokens.nll.value),
            report.sampled_tokens.map(|scores| scores.nll.value),
        ],
    })
}

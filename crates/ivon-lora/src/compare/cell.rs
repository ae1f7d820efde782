//! One trial or one cell: a run in its folder, made once, with what it cost.

use std::path::Path;
use std::time::Instant;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::CompareError;
use super::plan::LoadedTask;
use crate::data::Dataset;
use crate::files;
use crate::run::{
    self, COST_FILE, EVALUATION_FILE, PREDICTIONS_FILE, RUN_FILE, RunConfig, RunError, RunEvent, Start, check_rows, read_run, train_on,
};
use crate::train::{CHECKPOINTS_FOLDER, Outcome};

const LARGEST: u64 = 1 << 20;

/// Wall-clock seconds. It takes the place of what the run itself wrote of its cost, last of all: where it is the cell is finished.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Cost {
    /// Of the training steps, and of what the method computes after them; those of the run that was fitted to are among them.
    pub training_seconds: f64,
    /// Of predicting test once, at the mean.
    pub mean_seconds: f64,
    /// Of predicting test with all draws; 0 without any.
    pub samples_seconds: f64,
}

/// Whether a folder holds a finished run of a comparison.
pub(super) fn is_finished(folder: &Path) -> bool {
    [EVALUATION_FILE, PREDICTIONS_FILE].iter().all(|file| folder.join(file).exists()) && read_cost(folder).is_ok()
}

/// Whether a folder holds a finished run with these settings over these rows.
pub(super) fn is_current(folder: &Path, config: &RunConfig, dataset: &Dataset) -> bool {
    is_finished(folder) && check_same(folder, config, dataset).is_ok()
}

/// Reads what a finished cell cost.
///
/// # Errors
/// If the file is malformed.
pub(super) fn read_cost(folder: &Path) -> Result<Cost, CompareError> {
    read(folder)
}

fn read<T: DeserializeOwned>(folder: &Path) -> Result<T, CompareError> {
    let path = folder.join(COST_FILE);
    let malformed = |error: serde_json::Error| RunError::Malformed { path: path.clone(), reason: error.to_string() };
    Ok(serde_json::from_str(&files::read_text(&path, LARGEST)?).map_err(malformed)?)
}

/// Makes a run unless it is finished; gives whether it is now, or whoever watches said stop. `trained` is the folder of the run whose
/// adapter it takes, where it trains none of its own.
///
/// # Errors
/// Whatever ends the run, and that another one with other settings stands in its folder.
pub(super) fn make(
    folder: &Path,
    config: &RunConfig,
    task: &LoadedTask<'_>,
    is_trial: bool,
    trained: Option<&Path>,
    watch: &mut dyn FnMut(RunEvent<'_>) -> bool,
) -> Result<bool, CompareError> {
    let config = RunConfig { out: Some(folder.into()), ..config.clone() };
    let dataset = if is_trial { &task.trial_dataset } else { &task.dataset };
    if is_finished(folder) {
        check_same(folder, &config, dataset)?;
        return Ok(true);
    }
    let mut clock = Clock::new();
    let ended = train_on(&config, &task.model, &task.task, dataset, &task.known, Start::WhereItWas, &mut |event| {
        clock.hear(&event);
        // The sentences of a single run would drown those of the comparison.
        match event {
            RunEvent::Note(_) | RunEvent::Saved(_) | RunEvent::Warning(_) => {
                watch(RunEvent::Progress { what: "preparing", done: 0, total: 1 })
            }
            event => watch(event),
        }
    })?;
    if ended.outcome == Outcome::Interrupted {
        return Ok(false);
    }
    let examples = ended.report.as_ref().map_or(0, |report| report.n);
    let own: run::Cost = read(folder)?;
    let before = trained.map_or(Ok(0.0), |trained| read_cost(trained).map(|cost| cost.training_seconds))?;
    let cost = clock.cost(examples, before + own.training_seconds + own.fitting_seconds);
    let text = serde_json::to_vec_pretty(&cost).unwrap_or_default();
    files::write_bytes(&folder.join(COST_FILE), &text)?;
    // Nobody goes on from a finished run, and there may be hundreds.
    let _ = std::fs::remove_dir_all(folder.join(CHECKPOINTS_FOLDER));
    Ok(true)
}

/// A finished run must be the one that is asked for: all cells of a task are scored on the same rows.
fn check_same(folder: &Path, config: &RunConfig, dataset: &Dataset) -> Result<(), CompareError> {
    let there = read_run(&folder.join(RUN_FILE))?;
    let mut differences = config.trajectory_differences(&there);
    if config.evaluation != there.evaluation {
        differences.push("`evaluation` has changed".into());
    }
    if !differences.is_empty() {
        return Err(RunError::OtherSettings { folder: folder.into(), differences }.into());
    }
    Ok(check_rows(folder, &there.provenance.unwrap_or_default(), dataset)?)
}

/// Tells what predicting test cost.
struct Clock {
    last: Instant,
    /// Seconds since the event before, and examples done, of the passes over test.
    test: Vec<(usize, f64)>,
}

impl Clock {
    fn new() -> Self {
        Self { last: Instant::now(), test: Vec::new() }
    }

    fn hear(&mut self, event: &RunEvent<'_>) {
        let elapsed = self.last.elapsed().as_secs_f64();
        self.last = Instant::now();
        if let RunEvent::Progress { what: "evaluating test", done, .. } = event {
            self.test.push((*done, elapsed));
        }
    }

    /// The first pass over the examples is that at the mean.
    fn cost(&self, examples: usize, training_seconds: f64) -> Cost {
        let of = |is_mean: bool| self.test.iter().filter(|(done, _)| (*done <= examples) == is_mean).map(|(_, seconds)| seconds).sum();
        Cost { training_seconds, mean_seconds: of(true), samples_seconds: of(false) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_pass_over_test_is_that_at_the_mean() {
        let clock = Clock { last: Instant::now(), test: vec![(4, 1.0), (8, 1.0), (12, 0.5), (16, 0.5), (24, 0.5)] };
        assert_eq!(clock.cost(8, 3.0), Cost { training_seconds: 3.0, mean_seconds: 2.0, samples_seconds: 1.5 });
    }
}

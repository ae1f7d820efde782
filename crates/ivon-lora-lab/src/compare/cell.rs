//! A trial or a cell: a run in its folder, made once, and what it cost.

use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::CompareError;
use super::claim::Claim;
use super::config::OtherSetEntry;
use super::detection::{ask_of_other_sets, read_other_sets};
use super::once::create_once;
use super::task::TaskData;
use ivon_lora::answer::{EVALUATION_FILE, PREDICTIONS_FILE};
use ivon_lora::data::Dataset;
use ivon_lora::files;
use ivon_lora::run::{
    COST_FILE, Cost, RUN_FILE, RunConfig, RunError, Start, TrainingData, check_rows, read_run,
    train_on_data,
};
use ivon_lora::train::{CHECKPOINTS_FOLDER, Outcome};
use ivon_lora::watch::{Event, Stage, Watch};

const LARGEST: u64 = 1 << 20;

/// The file that is written last and marks a finished cell.
pub(super) const FINISHED_FILE: &str = "finished.json";

/// The contents of that file, which add to the cost that the run itself has written.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct FinishMark {
    /// Seconds of training of the run whose adapter this one took; 0 if it trained its own.
    seconds_before: f64,
}

/// Wall-clock seconds of a finished cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Seconds {
    /// For the training steps and what the method computes after them, including those of the run
    /// that it was fitted to.
    pub training: f64,
    /// For predicting test at the mean; none if one pass gives mean and draws.
    pub mean: Option<f64>,
    /// For predicting test at the mean and with all draws.
    pub prediction: f64,
}

/// The file by which older versions marked a finished cell, in place of the run's own cost.
#[derive(Deserialize)]
struct OlderCost {
    training_seconds: f64,
    mean_seconds: f64,
    /// 0 without draws, or if one pass gave mean and draws.
    samples_seconds: f64,
}

impl From<OlderCost> for Seconds {
    fn from(older: OlderCost) -> Self {
        Self {
            training: older.training_seconds,
            mean: (older.samples_seconds > 0.0).then_some(older.mean_seconds),
            prediction: older.mean_seconds + older.samples_seconds,
        }
    }
}

/// Whether a folder holds a finished run of a comparison.
pub(super) fn is_finished(folder: &Path) -> bool {
    [EVALUATION_FILE, PREDICTIONS_FILE]
        .iter()
        .all(|file| folder.join(file).exists())
        && read_seconds(folder).is_ok()
}

/// Whether a folder holds a finished run with these settings over these rows.
pub(super) fn is_current(folder: &Path, config: &RunConfig, dataset: &Dataset) -> bool {
    is_finished(folder) && check_same(folder, config, dataset).is_ok()
}

/// Reads the time that a finished cell took.
///
/// # Errors
/// If a file is malformed, or the cell is not finished.
pub(super) fn read_seconds(folder: &Path) -> Result<Seconds, CompareError> {
    let (cost, finished) = (folder.join(COST_FILE), folder.join(FINISHED_FILE));
    if !finished.exists() {
        return read::<OlderCost>(&cost).map(Seconds::from);
    }
    let (cost, finished): (Cost, FinishMark) = (read(&cost)?, read(&finished)?);
    Ok(Seconds {
        training: finished.seconds_before + cost.training_seconds + cost.fitting_seconds,
        mean: cost.mean_seconds,
        prediction: cost.prediction_seconds,
    })
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T, CompareError> {
    let malformed = |error: serde_json::Error| RunError::Malformed {
        path: path.into(),
        reason: error.to_string(),
    };
    Ok(serde_json::from_str(&files::read_text(path, LARGEST)?).map_err(malformed)?)
}

/// A run to be made: a trial or a cell.
pub(super) struct CellRun<'a> {
    pub folder: &'a Path,
    pub config: &'a RunConfig,
    pub task: &'a TaskData<'a>,
    pub dataset: &'a Dataset,
    /// Sets that it is asked about when it is finished.
    pub other_sets: &'a [OtherSetEntry],
    /// The folder of the run whose adapter it takes, if it trains none of its own.
    pub trained: Option<&'a Path>,
}

impl CellRun<'_> {
    /// Whether nothing is left to do.
    pub fn is_complete(&self) -> bool {
        let asked = || read_other_sets(self.folder, self.other_sets);
        is_finished(self.folder) && asked().is_ok_and(|found| found.is_some())
    }

    /// Makes the run unless it is finished; returns whether it is now, or false if the watcher said
    /// stop. What is left to do needs a claim.
    ///
    /// # Errors
    /// Whatever ends the run, if its folder holds another run, and if the claim is lost.
    pub fn make(&self, claim: Option<&Claim>, watch: Watch<'_>) -> Result<bool, CompareError> {
        let (folder, task, dataset) = (self.folder, self.task, self.dataset);
        let config = RunConfig {
            out: Some(folder.into()),
            ..self.config.clone()
        };
        let mut watch = |event: Event<'_>| watch(without_sentences(event));
        if is_finished(folder) {
            check_same(folder, &config, dataset)?;
            self.ask_of_other_sets(&mut watch)?;
            return Ok(true);
        }
        let data = TrainingData {
            model: &task.model,
            task: &task.task,
            dataset,
            untuned: &task.untuned,
        };
        // Left by somebody who removed other files.
        let _ = std::fs::remove_file(folder.join(FINISHED_FILE));
        let ended = train_on_data(&config, &data, Start::WhereItWas, &mut watch)?;
        if ended.outcome == Outcome::Interrupted {
            return Ok(false);
        }
        self.mark_finished(claim)?;
        // A finished run is never resumed, and there may be hundreds.
        let _ = std::fs::remove_dir_all(folder.join(CHECKPOINTS_FOLDER));
        self.ask_of_other_sets(&mut watch)?;
        Ok(true)
    }

    fn ask_of_other_sets(&self, watch: Watch<'_>) -> Result<(), CompareError> {
        let model = &self.task.model;
        ask_of_other_sets(self.folder, self.config, model, self.other_sets, watch)
    }

    /// Writes the mark, once: only while the claim is held, and only if there is none.
    fn mark_finished(&self, claim: Option<&Claim>) -> Result<(), CompareError> {
        let seconds_before = match self.trained {
            Some(trained) => read_seconds(trained)?.training,
            None => 0.0,
        };
        let text = serde_json::to_vec_pretty(&FinishMark { seconds_before }).unwrap_or_default();
        let is_held = claim.is_none_or(Claim::is_held);
        if is_held && create_once(&self.folder.join(FINISHED_FILE), &text)? {
            return Ok(());
        }
        let folder = self.folder.into();
        Err(RunError::FolderInUse { folder }.into())
    }
}

/// Hides the sentences of a single run, which would drown those of the comparison.
fn without_sentences(event: Event<'_>) -> Event<'_> {
    match event {
        Event::Note(_) | Event::Saved(_) | Event::Warning(_) => Event::Progress {
            what: Stage::Preparing,
            done: 0,
            total: 1,
        },
        event => event,
    }
}

/// Checks that a finished run has these settings and these rows.
fn check_same(folder: &Path, config: &RunConfig, dataset: &Dataset) -> Result<(), CompareError> {
    let there = read_run(&folder.join(RUN_FILE))?;
    let mut differences = config.trajectory_differences(&there);
    if config.evaluation != there.evaluation {
        differences.push("`evaluation` has changed".into());
    }
    if !differences.is_empty() {
        return Err(RunError::OtherSettings {
            folder: folder.into(),
            differences,
        }
        .into());
    }
    Ok(check_rows(
        folder,
        &there.provenance.unwrap_or_default(),
        dataset,
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(files: &[(&str, &str)]) -> Result<Seconds, CompareError> {
        let folder = tempfile::tempdir().unwrap();
        files
            .iter()
            .for_each(|(name, text)| std::fs::write(folder.path().join(name), text).unwrap());
        read_seconds(folder.path())
    }

    const COST: &str = r#"{ "training_seconds": 3.0, "fitting_seconds": 1.0, "prediction_seconds": 3.5, "mean_seconds": 2.0, "stored_numbers": 7 }"#;

    #[test]
    fn a_cell_took_what_its_run_took_and_what_was_trained_before() {
        let found = seconds(&[
            (COST_FILE, COST),
            (FINISHED_FILE, r#"{ "seconds_before": 10.0 }"#),
        ])
        .unwrap();
        assert_eq!(
            found,
            Seconds {
                training: 14.0,
                mean: Some(2.0),
                prediction: 3.5
            }
        );
        let one_pass = COST.replace("2.0", "null");
        let found = seconds(&[
            (COST_FILE, &one_pass),
            (FINISHED_FILE, r#"{ "seconds_before": 0.0 }"#),
        ])
        .unwrap();
        assert_eq!(
            found,
            Seconds {
                training: 4.0,
                mean: None,
                prediction: 3.5
            }
        );
    }

    #[test]
    fn a_run_without_the_mark_is_not_finished() {
        let error = seconds(&[(COST_FILE, COST)]).unwrap_err().to_string();
        assert!(
            error.contains(COST_FILE) && error.contains("samples_seconds"),
            "{error}"
        );
        assert!(seconds(&[(FINISHED_FILE, r#"{ "seconds_before": 0.0 }"#)]).is_err());
    }

    #[test]
    fn a_cell_of_an_older_version_is_read() {
        let older = |samples: f64| {
            format!(
                r#"{{ "training_seconds": 3.0, "mean_seconds": 2.0, "samples_seconds": {samples} }}"#
            )
        };
        let found = seconds(&[(COST_FILE, &older(1.5))]).unwrap();
        assert_eq!(
            found,
            Seconds {
                training: 3.0,
                mean: Some(2.0),
                prediction: 3.5
            }
        );
        let one_pass = seconds(&[(COST_FILE, &older(0.0))]).unwrap();
        assert_eq!(
            one_pass,
            Seconds {
                training: 3.0,
                mean: None,
                prediction: 2.0
            }
        );
    }
}

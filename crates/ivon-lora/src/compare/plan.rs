//! A comparison → its tasks with their rows, and what all of it will take, before it starts.

use std::fmt;
use std::path::{Path, PathBuf};

use super::CompareError;
use super::cell::is_finished;
use super::config::{CompareConfig, MethodEntry, TaskEntry, folder_name, merge, resolved};
use super::search::{lay_over, trial_settings};
use crate::data::{self, Dataset, Encoded, Example, Task};
use crate::model::Checkpoint;
use crate::run::{Estimate, RunConfig, RunError, UntunedAnswers, available_memory};

/// A task of a comparison, its rows read.
pub(super) struct LoadedTask<'a> {
    pub entry: &'a TaskEntry,
    pub task: Task,
    pub dataset: Dataset,
    /// For trials: the tune rows stand where test does, so that no trial sees a test row.
    pub trial_dataset: Dataset,
    pub model: String,
    /// What the untuned base said to its rows.
    pub untuned: UntunedAnswers,
}

impl<'a> LoadedTask<'a> {
    /// Reads the rows of a task.
    ///
    /// # Errors
    /// Whatever is wrong with its data, and that there are no tune rows where settings shall be
    /// chosen.
    pub fn load(config: &CompareConfig, entry: &'a TaskEntry) -> Result<Self, CompareError> {
        let mut table = config.run.clone();
        merge(&mut table, &entry.settings);
        let run = resolved(table, 0, || entry.name.clone())?;
        let task = Task::from_config(&run.data)?;
        let dataset = data::load(&run.data, &task)?;
        if config.tuning.is_some() && dataset.tune.is_empty() {
            return Err(CompareError::NothingToTuneOn {
                task: entry.name.clone(),
            });
        }
        let model = run.model.path.ok_or(RunError::Setting {
            name: "model.path",
            found: "absent".into(),
            expected: "a folder, a `.gguf` file or a hub name, in `[run.model]`",
        })?;
        let trial_dataset = Dataset {
            test: dataset.tune.clone(),
            calibrate: Vec::new(),
            ..dataset.clone()
        };
        Ok(Self {
            entry,
            task,
            dataset,
            trial_dataset,
            model,
            untuned: UntunedAnswers::default(),
        })
    }
}

/// The folder of a trial.
pub(super) fn trial_folder(
    out: &Path,
    task: &TaskEntry,
    method: &MethodEntry,
    trial: u32,
) -> PathBuf {
    out.join("trials")
        .join(folder_name(&task.name))
        .join(folder_name(&method.name))
        .join(format!("{trial:03}"))
}

/// The folder of a cell.
pub(super) fn cell_folder(
    out: &Path,
    task: &TaskEntry,
    method: &MethodEntry,
    seed: u64,
) -> PathBuf {
    out.join("cells")
        .join(folder_name(&task.name))
        .join(folder_name(&method.name))
        .join(seed.to_string())
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
    let mut table = config.run.clone();
    merge(&mut table, &task.settings);
    merge(&mut table, &method.settings);
    let seed = config.tuning.as_ref().map_or(0, |tuning| tuning.seed);
    if let Some(tuning) = &config.tuning {
        merge(&mut table, &tuning.run);
    }
    lay_over(&mut table, &trial_settings(method, seed, u64::from(trial)));
    resolved(table, seed, || {
        format!("{}, {}, trial {trial}", task.name, method.name)
    })
}

/// What is left to do, and about how long it takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Plan {
    /// Trials in all.
    pub trials: usize,
    /// Cells in all.
    pub cells: usize,
    /// Trials and cells that are finished.
    pub finished: usize,
    /// Seconds that the rest is expected to take, good to about a third.
    pub seconds: f64,
    /// Bytes of memory of the largest run.
    pub bytes: f64,
    /// How many runs are made at once.
    pub at_once: usize,
    /// Bytes of memory that are free, where there are too few for as many at once as were asked
    /// for.
    pub too_few: Option<f64>,
}

impl fmt::Display for Plan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hours = self.seconds / 3600.0;
        let time = if hours < 1.0 {
            format!("{:.0} min", self.seconds / 60.0)
        } else {
            format!("{hours:.1} h")
        };
        write!(
            formatter,
            "{} trials and {} cells, {} of them finished; about {time} for the rest, and {:.2} GB of memory",
            self.trials,
            self.cells,
            self.finished,
            self.bytes / 1e9
        )?;
        match (self.at_once, self.too_few) {
            (at_once, Some(free)) => {
                write!(
                    formatter,
                    " for each run: {at_once} at once and no more, since {:.1} GB are free",
                    free / 1e9
                )
            }
            (0 | 1, None) => Ok(()),
            (at_once, None) => write!(formatter, " for each of {at_once} runs at once"),
        }
    }
}

/// Works out what a comparison will take.
///
/// # Errors
/// Whatever is wrong with a task's rows or its model.
pub fn plan(config: &CompareConfig) -> Result<Plan, CompareError> {
    let mut plan = Plan::default();
    for entry in &config.tasks {
        let loaded = LoadedTask::load(config, entry)?;
        let checkpoint = Checkpoint::open(&loaded.model)?;
        let tokenizer = checkpoint.tokenizer()?;
        let first = config.cell(entry, &config.methods[0], config.seeds_of(entry)[0])?;
        let options = first.data.encode_options(&loaded.task);
        let encode = |examples: &[Example]| -> Result<Vec<Encoded>, CompareError> {
            if examples.is_empty() {
                Ok(Vec::new())
            } else {
                Ok(data::encode_all(examples, &tokenizer, options)?.examples)
            }
        };
        let [train, tune, calibrate, test] = [
            &loaded.dataset.train,
            &loaded.dataset.tune,
            &loaded.dataset.calibrate,
            &loaded.dataset.test,
        ]
        .map(|role| encode(role));
        let (train, tune, calibrate, test) = (train?, tune?, calibrate?, test?);
        // The base is asked once for tune, by the trials, and once for test.
        let mut base_seconds = [0.0f64; 2];
        let mut add = |config: &RunConfig, folder: &Path, is_trial: bool| {
            if is_finished(folder) {
                plan.finished += 1;
                return;
            }
            let (calibrate, test) = if is_trial {
                (&[][..], &tune)
            } else {
                (&calibrate[..], &test)
            };
            let estimate = Estimate::of(
                config,
                &checkpoint,
                config.train.length(train.len()),
                &train,
                [&tune, calibrate, test],
            );
            plan.seconds +=
                estimate.training_seconds + estimate.fitting_seconds + estimate.evaluation_seconds;
            base_seconds[usize::from(is_trial)] = estimate.base_seconds;
            plan.bytes = plan.bytes.max(estimate.bytes());
        };
        for method in &config.methods {
            for trial in 0..trials(config, method) {
                add(
                    &trial_config(config, entry, method, trial)?,
                    &trial_folder(&config.out, entry, method, trial),
                    true,
                );
            }
            for &seed in config.seeds_of(entry) {
                add(
                    &config.cell(entry, method, seed)?,
                    &cell_folder(&config.out, entry, method, seed),
                    false,
                );
            }
        }
        plan.seconds += base_seconds.iter().sum::<f64>();
        plan.trials += config
            .methods
            .iter()
            .map(|method| trials(config, method) as usize)
            .sum::<usize>();
        plan.cells += config.methods.len() * config.seeds_of(entry).len();
    }
    (plan.at_once, plan.too_few) = at_once(config.jobs, plan.bytes, available_memory());
    Ok(plan)
}

/// How many runs of `bytes` each are made at once where so many are wanted, and the bytes that are
/// free where that is fewer.
fn at_once(wanted: usize, bytes: f64, available: Option<f64>) -> (usize, Option<f64>) {
    match available.map(|available| (available, (available / bytes) as usize)) {
        Some((available, fit)) if fit < wanted && wanted > 1 => (fit.max(1), Some(available)),
        _ => (wanted.max(1), None),
    }
}

/// The trials that a method has of its own.
pub(super) fn trials(config: &CompareConfig, method: &MethodEntry) -> u32 {
    if method.tune.is_empty() {
        0
    } else {
        config.tuning.as_ref().map_or(0, |tuning| tuning.trials)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_runs_are_made_at_once_as_memory_allows() {
        assert_eq!(at_once(4, 1e9, Some(9e9)), (4, None));
        assert_eq!(at_once(4, 2e9, Some(5e9)), (2, Some(5e9)));
        assert_eq!(at_once(4, 9e9, Some(5e9)), (1, Some(5e9)));
        assert_eq!(at_once(1, 9e9, Some(5e9)), (1, None));
        assert_eq!(at_once(4, 2e9, None), (4, None));
        // Everything is finished.
        assert_eq!(at_once(4, 0.0, Some(5e9)), (4, None));
        let plan = Plan {
            trials: 2,
            cells: 4,
            bytes: 2e9,
            at_once: 2,
            too_few: Some(5e9),
            ..Plan::default()
        };
        assert!(plan.to_string().ends_with(
            "and 2.00 GB of memory for each run: 2 at once and no more, since 5.0 GB are free"
        ));
        assert!(
            Plan {
                too_few: None,
                ..plan
            }
            .to_string()
            .ends_with("and 2.00 GB of memory for each of 2 runs at once")
        );
        assert!(
            Plan {
                too_few: None,
                at_once: 1,
                ..plan
            }
            .to_string()
            .ends_with("and 2.00 GB of memory")
        );
    }
}

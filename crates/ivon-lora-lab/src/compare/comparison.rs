//! A comparison from its first trial to its table.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use toml::Value;

use super::cell::is_current;
use super::config::{CompareConfig, MethodEntry, TaskEntry};
use super::layout::{cell_folder, trial_folder};
use super::plan::plan;
use super::queue::{Job, Outcome, make_all};
use super::results::TaskResults;
use super::rows::TaskRows;
use super::search::{trial_config, trial_settings, trials};
use super::settings::cell_name;
use super::table::ComparisonTable;
use super::tables::{lay_over, resolved};
use super::task::TaskData;
use super::{CompareError, external};
use ivon_lora::answer::{EVALUATION_FILE, RunReport};
use ivon_lora::files;
use ivon_lora::run::{RunConfig, RunError};
use ivon_lora::watch::Event;

/// The file with the trials of a comparison, by task and method.
pub const TRIALS_FILE: &str = "trials.json";
/// The file with the whole comparison, from which its page is made.
pub const COMPARISON_FILE: &str = "comparison.json";
const LARGEST: u64 = 64 << 20;

/// All that a comparison's table is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct ComparisonResults {
    /// The file of the comparison, as TOML.
    pub(super) file: String,
    /// Whether every row of a method has a second one with the temperature that was chosen on
    /// *calibrate*.
    pub(super) temperature: bool,
    /// The row from which differences of all others are shown.
    pub(super) against: Option<String>,
    pub(super) tasks: Vec<TaskResults>,
    pub(super) trials: Vec<Trial>,
    pub(super) failed: Vec<FailedCell>,
    pub(super) is_interrupted: bool,
}

/// The results of a comparison.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Comparison {
    /// The table.
    pub table: ComparisonTable,
    /// Every trial, including failed ones.
    pub trials: Vec<Trial>,
    /// Cells and files that are missing from the table, and why.
    pub failed: Vec<FailedCell>,
    /// Whether it was stopped before its end.
    pub is_interrupted: bool,
}

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
}

/// A trial or a cell that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedCell {
    /// `sst2, IVON, seed 21`.
    pub name: String,
    /// What went wrong.
    pub reason: String,
}

/// Makes all runs that are not finished, and the table of all. `watch` hears what happens and says
/// whether to go on.
///
/// # Errors
/// Whatever is wrong with a task's rows, or with a file of the comparison. A failed run is not an error
/// but a [`FailedCell`].
pub fn compare(
    config: &CompareConfig,
    watch: &mut dyn FnMut(Event<'_>) -> bool,
) -> Result<ComparisonResults, CompareError> {
    files::create_folder(&config.out)?;
    let tasks = config
        .tasks
        .iter()
        .map(|entry| TaskData::load(config, entry))
        .collect::<Result<Vec<_>, _>>()?;
    for task in &tasks {
        // Once for all runs of a task.
        for note in &task.dataset.report.notes {
            watch(Event::Note(format!("{}: {note}", task.entry.name)));
        }
    }
    // The plan takes a while and is needed only for several runs at once.
    let at_once = match config.jobs {
        0 | 1 => 1,
        _ => plan(config)?.at_once,
    };
    let mut run = ComparisonRun {
        config,
        watch,
        at_once,
        trials: Vec::new(),
        failed: Vec::new(),
        is_interrupted: false,
    };
    for task in &tasks {
        run.tune(task);
        run.write_trials()?;
        run.cells(task);
    }
    let tasks = tasks.iter().map(|task| run.results(task));
    let tasks = tasks.collect::<Result<Vec<_>, _>>()?;
    Ok(ComparisonResults {
        file: toml::to_string(config).unwrap_or_default(),
        temperature: config.temperature,
        against: config.against.clone(),
        tasks,
        trials: run.trials,
        failed: run.failed,
        is_interrupted: run.is_interrupted,
    })
}

/// A comparison under way.
struct ComparisonRun<'a> {
    config: &'a CompareConfig,
    watch: &'a mut dyn FnMut(Event<'_>) -> bool,
    /// How many runs are made at once.
    at_once: usize,
    trials: Vec<Trial>,
    failed: Vec<FailedCell>,
    is_interrupted: bool,
}

impl ComparisonRun<'_> {
    /// Makes the trials of all methods on a task, and marks the best of each.
    fn tune(&mut self, task: &TaskData<'_>) {
        let config = self.config;
        let all = config.methods.iter();
        let all =
            all.flat_map(|method| (0..trials(config, method)).map(move |trial| (method, trial)));
        let (jobs, entries): (Vec<_>, Vec<_>) = all
            .map(|(method, trial)| new_trial(config, task, method, trial))
            .unzip();
        let first = self.trials.len();
        let outcomes = self.make_all(&jobs);
        for ((mut entry, job), outcome) in entries.into_iter().zip(&jobs).zip(outcomes) {
            match outcome {
                Outcome::Made => match read_nll(&job.folder) {
                    Ok([mean, samples]) => (entry.nll_mean, entry.nll_samples) = (mean, samples),
                    Err(error) => entry.error = Some(error.to_string()),
                },
                Outcome::Failed(reason) => entry.error = Some(reason),
                // It may turn out to be the best: nothing is chosen without it.
                Outcome::Elsewhere(reason) => {
                    self.failed.push(FailedCell {
                        name: job.name.clone(),
                        reason,
                    });
                    continue;
                }
                Outcome::Stopped => continue,
            }
            self.trials.push(entry);
        }
        self.choose(first);
    }

    /// Marks the best of each method's trials from `first` on, once the method has all of them.
    fn choose(&mut self, first: usize) {
        let all = self
            .config
            .tuning
            .as_ref()
            .map_or(0, |tuning| tuning.trials as usize);
        let methods = self.trials[first..].chunk_by_mut(|one, other| one.method == other.method);
        for trials in methods.filter(|trials| trials.len() == all) {
            let judged = trials
                .iter_mut()
                .filter_map(|trial| Some((trial.nll()?, trial)));
            let Some((nll, best)) = judged.min_by(|one, other| one.0.total_cmp(&other.0)) else {
                continue;
            };
            best.is_chosen = true;
            let settings: Vec<String> = best
                .settings
                .iter()
                .map(|(key, value)| format!("{key} {value}"))
                .collect();
            (self.watch)(Event::Note(format!(
                "{}, {}: chosen on tune {} (NLL {nll:.4})",
                best.task,
                best.method,
                settings.join(", ")
            )));
        }
    }

    /// Makes the cells of all methods on a task with all seeds; for each seed, those that train come
    /// first.
    fn cells(&mut self, task: &TaskData<'_>) {
        let mut jobs: Vec<Job<'_>> = Vec::new();
        for &seed in self.config.seeds_of(task.entry) {
            let mut places = BTreeMap::new();
            let (training, fitted): (Vec<_>, Vec<_>) = self
                .config
                .methods
                .iter()
                .partition(|method| method.trained_by.is_none());
            for method in training.into_iter().chain(fitted) {
                places.insert(&method.name, jobs.len());
                jobs.push(Job {
                    name: cell_name(task.entry, method, Some(seed)),
                    folder: cell_folder(&self.config.out, &task.entry.name, &method.name, seed),
                    config: self.cell_config(task.entry, method, seed),
                    task,
                    dataset: &task.rows(method).cells,
                    other_sets: &task.entry.other_sets,
                    after: method
                        .trained_by
                        .as_ref()
                        .and_then(|name| places.get(name).copied()),
                });
            }
        }
        let outcomes = self.make_all(&jobs);
        for (job, outcome) in jobs.into_iter().zip(outcomes) {
            if let Outcome::Failed(reason) | Outcome::Elsewhere(reason) = outcome {
                self.failed.push(FailedCell {
                    name: job.name,
                    reason,
                });
            }
        }
    }

    /// Makes runs unless the comparison was stopped.
    fn make_all(&mut self, jobs: &[Job<'_>]) -> Vec<Outcome> {
        if self.is_interrupted {
            return vec![Outcome::Stopped; jobs.len()];
        }
        let outcomes = make_all(jobs, self.at_once, self.watch);
        self.is_interrupted = outcomes.contains(&Outcome::Stopped);
        outcomes
    }

    /// The settings of a cell, including those that were chosen for the method that trains it.
    fn cell_config(
        &self,
        task: &TaskEntry,
        method: &MethodEntry,
        seed: u64,
    ) -> Result<RunConfig, CompareError> {
        let Some(trainer) = self.config.trainer(method)? else {
            return self.chosen_config(task, method, seed);
        };
        self.config.fitted_after(
            task,
            method,
            trainer,
            &self.chosen_config(task, trainer, seed)?,
        )
    }

    /// The settings of a cell that trains, including those that were chosen by its trials or by those
    /// of the method that it is tuned as.
    fn chosen_config(
        &self,
        task: &TaskEntry,
        method: &MethodEntry,
        seed: u64,
    ) -> Result<RunConfig, CompareError> {
        let config = self.config.cell(task, method, seed)?;
        if self.config.tuning.is_none() || method.untuned {
            return Ok(config);
        }
        let tuned = method.tuned_as.as_ref().unwrap_or(&method.name);
        let chosen = self
            .trials
            .iter()
            .find(|trial| trial.is_chosen && trial.task == task.name && trial.method == *tuned);
        let chosen = chosen.ok_or_else(|| CompareError::Setting {
            what: format!("the choice of settings of `{}`", method.name),
            found: "not made".into(),
            expected: format!("a trial of `{tuned}` that comes to its end"),
        })?;
        let mut table = toml::Table::try_from(&config).unwrap_or_default();
        lay_over(&mut table, &chosen.settings);
        resolved(table, seed, || cell_name(task, method, Some(seed)))
    }

    /// Whether a cell is finished with the present settings and rows, and so is the one whose adapter
    /// it takes.
    fn is_current(&self, task: &TaskData<'_>, method: &MethodEntry, seed: u64) -> bool {
        let folder = cell_folder(&self.config.out, &task.entry.name, &method.name, seed);
        let config = self.cell_config(task.entry, method, seed);
        let rows = &task.rows(method).cells;
        let own = config.is_ok_and(|config| is_current(&folder, &config, rows));
        own && self
            .config
            .trainer(method)
            .is_ok_and(|trainer| trainer.is_none_or(|trainer| self.is_current(task, trainer, seed)))
    }

    fn write_trials(&self) -> Result<(), CompareError> {
        if self.config.tuning.is_none() {
            return Ok(());
        }
        let path = self.config.out.join(TRIALS_FILE);
        let text =
            serde_json::to_vec_pretty(&self.trials).map_err(|error| RunError::Malformed {
                path: path.clone(),
                reason: error.to_string(),
            })?;
        Ok(files::write_bytes(&path, &text)?)
    }

    /// The results of a task: of its finished cells, and of what was made elsewhere.
    fn results(&mut self, task: &TaskData<'_>) -> Result<TaskResults, CompareError> {
        let mut results = TaskResults::new(&task.entry.name);
        for method in &self.config.methods {
            for &seed in self.config.seeds_of(task.entry) {
                // Cells that were made with other settings or rows do not count.
                if !self.is_current(task, method, seed) {
                    continue;
                }
                let folder = cell_folder(&self.config.out, &task.entry.name, &method.name, seed);
                if let Err(error) = results.add_cell(method, seed, task.entry, &folder) {
                    self.fail(cell_name(task.entry, method, Some(seed)), &error);
                }
            }
        }
        let test = results.scored(&task.dataset);
        results.add_rows(&task.dataset.train, &test, task.task.is_text())?;
        let entries = self.config.predictions.iter();
        for entry in entries.filter(|entry| entry.task == task.entry.name) {
            match external::read(&entry.path, &test) {
                Ok(predictions) => results.add_elsewhere(&entry.method, entry.seed, &predictions),
                Err(error) => {
                    let name = format!("{}, {}, seed {}", entry.task, entry.method, entry.seed);
                    self.fail(name, &error);
                }
            }
        }
        Ok(results)
    }

    fn fail(&mut self, name: String, error: &CompareError) {
        let reason = error.to_string();
        self.failed.push(FailedCell { name, reason });
    }
}

impl ComparisonResults {
    /// The table of these results.
    ///
    /// # Errors
    /// If predictions are no distributions over the labels' choices.
    pub fn comparison(&self) -> Result<Comparison, CompareError> {
        let rows = |task| TaskRows::new(task, self.temperature);
        let tasks = self.tasks.iter().map(rows).collect::<Result<Vec<_>, _>>()?;
        Ok(Comparison {
            table: ComparisonTable::new(&tasks, self.against.as_deref()),
            trials: self.trials.clone(),
            failed: self.failed.clone(),
            is_interrupted: self.is_interrupted,
        })
    }
}

impl Comparison {
    /// Reads [`COMPARISON_FILE`] of a comparison's folder.
    ///
    /// # Errors
    /// If it cannot be read or is malformed.
    pub fn read(folder: &Path) -> Result<Self, CompareError> {
        let path = folder.join(COMPARISON_FILE);
        let text = files::read_text(&path, LARGEST)?;
        Ok(
            serde_json::from_str(&text).map_err(|error| RunError::Malformed {
                path,
                reason: error.to_string(),
            })?,
        )
    }
}

/// A trial of a method, and the job that makes it.
fn new_trial<'a>(
    config: &CompareConfig,
    task: &'a TaskData<'a>,
    method: &MethodEntry,
    trial: u32,
) -> (Job<'a>, Trial) {
    let (task_name, name) = (&task.entry.name, &method.name);
    let seed = config.tuning.as_ref().map_or(0, |tuning| tuning.seed);
    let job = Job {
        name: format!("{task_name}, {name}, trial {trial}"),
        folder: trial_folder(&config.out, task_name, name, trial),
        config: trial_config(config, task.entry, method, trial),
        task,
        dataset: &task.rows(method).trials,
        other_sets: &[],
        after: None,
    };
    let entry = Trial {
        task: task_name.clone(),
        method: name.clone(),
        trial,
        settings: trial_settings(method, seed, u64::from(trial)),
        nll_mean: None,
        nll_samples: None,
        error: None,
        is_chosen: false,
    };
    (job, entry)
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

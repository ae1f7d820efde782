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
use super::rows::{TaskRows, add_cell};
use super::search::{trial_config, trial_settings, trials};
use super::settings::cell_name;
use super::table::ComparisonTable;
use super::tables::{lay_over, resolved};
use super::task::TaskData;
use super::{CompareError, external};
use ivon_lora::answer::{EVALUATION_FILE, EvaluationReport};
use ivon_lora::files;
use ivon_lora::run::{RunConfig, RunError};
use ivon_lora::watch::Event;

/// The trials of a comparison, by task and method.
pub const TRIALS_FILE: &str = "trials.json";
/// The whole comparison, from which its page is made.
pub const COMPARISON_FILE: &str = "comparison.json";
const LARGEST: u64 = 64 << 20;

/// What a comparison came to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Comparison {
    /// The table.
    pub table: ComparisonTable,
    /// Every trial, those that failed among them.
    pub trials: Vec<Trial>,
    /// Cells and files that are not in the table, with the reason.
    pub failed: Vec<FailedCell>,
    /// Whether it was stopped before its end.
    pub is_interrupted: bool,
}

/// One trial of settings.
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
    /// Whether it is the one that was chosen.
    pub is_chosen: bool,
}

impl Trial {
    /// What it is judged by: the lower NLL, since the run that follows predicts with whichever is
    /// better.
    pub fn nll(&self) -> Option<f64> {
        [self.nll_mean, self.nll_samples]
            .into_iter()
            .flatten()
            .filter(|nll| nll.is_finite())
            .reduce(f64::min)
    }
}

/// Something that did not come to an end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedCell {
    /// `sst2, IVON, seed 21`.
    pub name: String,
    /// What went wrong.
    pub reason: String,
}

/// Makes what is not made yet, and the table of all. `watch` hears what happens and says whether to
/// go on.
///
/// # Errors
/// Whatever is wrong with a task's rows, or a file of the comparison itself; a run that fails is no
/// error but a [`FailedCell`].
pub fn compare(
    config: &CompareConfig,
    watch: &mut dyn FnMut(Event<'_>) -> bool,
) -> Result<Comparison, CompareError> {
    files::create_folder(&config.out)?;
    let tasks = config
        .tasks
        .iter()
        .map(|entry| TaskData::load(config, entry))
        .collect::<Result<Vec<_>, _>>()?;
    for task in &tasks {
        // What became of the rows is said once for all runs of a task.
        task.dataset
            .report
            .notes
            .iter()
            .for_each(|note| _ = watch(Event::Note(format!("{}: {note}", task.entry.name))));
    }
    // What all of it needs is worked out only where it matters here.
    let at_once = if config.jobs > 1 {
        plan(config)?.at_once
    } else {
        1
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
    let rows = tasks
        .iter()
        .map(|task| run.rows(task))
        .collect::<Result<Vec<_>, _>>()?;
    let table = ComparisonTable::new(&rows);
    Ok(Comparison {
        table,
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
    /// The trials of all methods on a task, the best of each marked.
    fn tune(&mut self, task: &TaskData<'_>) {
        let mut jobs = Vec::new();
        let mut entries = Vec::new();
        for method in &self.config.methods {
            for trial in 0..trials(self.config, method) {
                jobs.push(Job {
                    name: format!("{}, {}, trial {trial}", task.entry.name, method.name),
                    folder: trial_folder(&self.config.out, &task.entry.name, &method.name, trial),
                    config: trial_config(self.config, task.entry, method, trial),
                    task,
                    is_trial: true,
                    after: None,
                });
                entries.push(Trial {
                    task: task.entry.name.clone(),
                    method: method.name.clone(),
                    trial,
                    settings: trial_settings(
                        method,
                        self.config.tuning.as_ref().map_or(0, |tuning| tuning.seed),
                        u64::from(trial),
                    ),
                    nll_mean: None,
                    nll_samples: None,
                    error: None,
                    is_chosen: false,
                });
            }
        }
        let first = self.trials.len();
        let outcomes = self.make_all(&jobs);
        for ((mut entry, job), outcome) in entries.into_iter().zip(&jobs).zip(outcomes) {
            match outcome {
                Outcome::Made => match read_nll(&job.folder) {
                    Ok([mean, samples]) => (entry.nll_mean, entry.nll_samples) = (mean, samples),
                    Err(error) => entry.error = Some(error.to_string()),
                },
                Outcome::Failed(reason) => entry.error = Some(reason),
                // It may yet be the best: nothing is chosen without it.
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

    /// Marks the best of each method's trials from `first` on; of a method that does not have them
    /// all yet nothing is chosen.
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

    /// The runs of all methods on a task with all seeds; of each seed those first that train.
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
                    is_trial: false,
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

    /// A cell's settings with those that the trials of whatever trains it have chosen.
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

    /// The settings of a cell that trains, with those that its trials, or those of the method that
    /// it is tuned as, have chosen.
    fn chosen_config(
        &self,
        task: &TaskEntry,
        method: &MethodEntry,
        seed: u64,
    ) -> Result<RunConfig, CompareError> {
        let config = self.config.cell(task, method, seed)?;
        if self.config.tuning.is_none() {
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

    /// Whether a cell is finished with the settings and rows of now, and that whose adapter it
    /// takes as well.
    fn is_current(&self, task: &TaskData<'_>, method: &MethodEntry, seed: u64) -> bool {
        let folder = cell_folder(&self.config.out, &task.entry.name, &method.name, seed);
        let config = self.cell_config(task.entry, method, seed);
        let own = config.is_ok_and(|config| is_current(&folder, &config, &task.dataset));
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

    /// The rows of a task: of its finished cells, and of what was made elsewhere.
    fn rows(&mut self, task: &TaskData<'_>) -> Result<TaskRows, CompareError> {
        let mut rows = TaskRows::new(&task.entry.name);
        for method in &self.config.methods {
            for &seed in self.config.seeds_of(task.entry) {
                // What was made with other settings or rows than those of now does not count.
                if !self.is_current(task, method, seed) {
                    continue;
                }
                let folder = cell_folder(&self.config.out, &task.entry.name, &method.name, seed);
                if let Err(error) =
                    add_cell(&mut rows, method, seed, &folder, self.config.temperature)
                {
                    self.failed.push(FailedCell {
                        name: cell_name(task.entry, method, Some(seed)),
                        reason: error.to_string(),
                    });
                }
            }
        }
        let test = rows.scored(&task.dataset);
        rows.add_majority(&task.dataset.train, &test)?;
        for entry in self
            .config
            .predictions
            .iter()
            .filter(|entry| entry.task == task.entry.name)
        {
            match external::read(&entry.path, &test) {
                Ok(predictions) => rows.add_external(&entry.method, entry.seed, predictions),
                Err(error) => {
                    self.failed.push(FailedCell {
                        name: format!("{}, {}, seed {}", entry.task, entry.method, entry.seed),
                        reason: error.to_string(),
                    });
                }
            }
        }
        Ok(rows)
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

/// NLL at the mean and with all draws, of a finished trial.
fn read_nll(folder: &Path) -> Result<[Option<f64>; 2], CompareError> {
    let path = folder.join(EVALUATION_FILE);
    let text = files::read_text(&path, LARGEST)?;
    let report: EvaluationReport =
        serde_json::from_str(&text).map_err(|error| RunError::Malformed {
            path: path.clone(),
            reason: error.to_string(),
        })?;
    Ok([
        Some(report.mean.nll),
        report.samples.last().map(|scores| scores.nll),
    ])
}

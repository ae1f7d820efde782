//! The folders of a comparison's runs → all that its table is made of.

use super::cell::is_current;
use super::chosen::{Trial, cell_config, read_trials};
use super::claim::holder_of;
use super::comparison::{ComparisonResults, FailedCell};
use super::config::{CompareConfig, MethodEntry};
use super::layout::cell_folder;
use super::planned_run::{PlannedRun, RunKind};
use super::results::TaskResults;
use super::search::trial_config;
use super::settings::cell_name;
use super::task::TaskData;
use super::{CompareError, external, failure};
use ivon_lora::files;
use ivon_lora::run::{RunConfig, RunError};

/// The file with the trials of a comparison, by task and method.
pub const TRIALS_FILE: &str = "trials.json";

/// What a comparison has come to so far.
pub(super) struct Gathered<'a> {
    pub config: &'a CompareConfig,
    pub trials: Vec<Trial>,
    /// Runs and files that are missing from the table, and why.
    pub failed: Vec<FailedCell>,
    /// Whether runs are missing that nobody has tried to make yet.
    pub is_incomplete: bool,
}

/// The results of the runs that are there, whoever has made them; nothing is run.
///
/// # Errors
/// Whatever is wrong with a task's rows, or with a file of the comparison.
pub fn gather(config: &CompareConfig) -> Result<ComparisonResults, CompareError> {
    files::create_folder(&config.out)?;
    let mut gathered = Gathered::new(config);
    let mut tasks = Vec::new();
    for entry in &config.tasks {
        let task = TaskData::load(config, entry)?;
        let runs = PlannedRun::all_of(config, entry);
        gathered.trials.extend(read_trials(config, &task, &runs));
        for run in &runs {
            gathered.add_missing(&task, run);
        }
        tasks.push(gathered.results(&task)?);
    }
    gathered.write_trials()?;
    let is_incomplete = gathered.is_incomplete;
    Ok(gathered.into_results(tasks, is_incomplete))
}

impl<'a> Gathered<'a> {
    /// Nothing yet.
    pub fn new(config: &'a CompareConfig) -> Self {
        Self {
            config,
            trials: Vec::new(),
            failed: Vec::new(),
            is_incomplete: false,
        }
    }

    /// With the results of all tasks.
    pub fn into_results(self, tasks: Vec<TaskResults>, is_interrupted: bool) -> ComparisonResults {
        ComparisonResults {
            file: toml::to_string(self.config).unwrap_or_default(),
            temperature: self.config.temperature,
            against: self.config.against.clone(),
            tasks,
            trials: self.trials,
            failed: self.failed,
            is_interrupted,
        }
    }

    /// Adds a run that is not finished, with the reason, if one is known.
    fn add_missing(&mut self, task: &TaskData<'_>, run: &PlannedRun<'_>) {
        let config = match self.state_of(task, run) {
            RunState::Finished => return,
            RunState::Waits => return self.is_incomplete = true,
            RunState::Refused(error) => return self.fail(run.name(), &error),
            RunState::Missing(config) => config,
        };
        let claims = run.claims(&self.config.out);
        let (name, out) = (run.name(), self.config.stale_after);
        if let Some(holder) = holder_of(&claims, out) {
            let reason = format!("{holder} is making it");
            self.failed.push(FailedCell { name, reason });
        } else if let Some(reason) = failure::read(&claims, &config) {
            // The trials themselves say what went wrong with them.
            if matches!(run.kind, RunKind::Cell(_)) {
                self.failed.push(FailedCell { name, reason });
            }
        } else {
            self.is_incomplete = true;
        }
    }

    fn state_of(&self, task: &TaskData<'_>, run: &PlannedRun<'_>) -> RunState {
        let (config, method) = (self.config, run.method);
        let rows = task.rows(method);
        let (settings, rows) = match run.kind {
            RunKind::Trial(trial) => (
                trial_config(config, task.entry, method, trial),
                &rows.trials,
            ),
            RunKind::Cell(_) if self.waits_for_trials(run) => return RunState::Waits,
            RunKind::Cell(seed) => (
                cell_config(config, &self.trials, (task.entry, method, seed)),
                &rows.cells,
            ),
        };
        match settings {
            Err(error) => RunState::Refused(error),
            Ok(settings) if is_current(&run.folder(&config.out), &settings, rows) => {
                RunState::Finished
            }
            Ok(settings) => RunState::Missing(Box::new(settings)),
        }
    }

    /// Whether a trial that decides on the settings of a cell has neither been finished nor failed.
    fn waits_for_trials(&self, run: &PlannedRun<'_>) -> bool {
        let is_there = |before: &PlannedRun<'_>| match before.kind {
            RunKind::Trial(trial) => self.trials.iter().any(|found| {
                found.trial == trial
                    && found.task == before.task.name
                    && found.method == before.method.name
            }),
            RunKind::Cell(_) => true,
        };
        let after = run.after(self.config);
        after.is_ok_and(|after| !after.iter().all(is_there))
    }

    /// The results of a task: of its finished cells, and of what was made elsewhere.
    pub fn results(&mut self, task: &TaskData<'_>) -> Result<TaskResults, CompareError> {
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

    /// Whether a cell is finished with the present settings and rows, and so is the one whose adapter
    /// it takes.
    fn is_current(&self, task: &TaskData<'_>, method: &MethodEntry, seed: u64) -> bool {
        let folder = cell_folder(&self.config.out, &task.entry.name, &method.name, seed);
        let config = cell_config(self.config, &self.trials, (task.entry, method, seed));
        let rows = &task.rows(method).cells;
        let own = config.is_ok_and(|config| is_current(&folder, &config, rows));
        own && self
            .config
            .trainer(method)
            .is_ok_and(|trainer| trainer.is_none_or(|trainer| self.is_current(task, trainer, seed)))
    }

    /// Writes all trials so far.
    pub fn write_trials(&self) -> Result<(), CompareError> {
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

    fn fail(&mut self, name: String, error: &CompareError) {
        let reason = error.to_string();
        self.failed.push(FailedCell { name, reason });
    }
}

/// The state of a run in its folder.
enum RunState {
    /// Finished with the present settings and rows.
    Finished,
    /// Its trials are not all over.
    Waits,
    /// It has no settings: no trial has come to its end.
    Refused(CompareError),
    /// Not finished with these settings.
    Missing(Box<RunConfig>),
}

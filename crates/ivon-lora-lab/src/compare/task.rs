//! A task of a comparison with its rows, divided as each method asks.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::CompareError;
use super::config::{CompareConfig, MethodEntry, TaskEntry};
use super::tables::{merge, resolved};
use ivon_lora::data::{self, DataConfig, Dataset, Task, divide};
use ivon_lora::run::{RunError, UntunedAnswers};
use ivon_lora::settings::SettingError;

/// A task of a comparison with its rows.
pub(super) struct TaskData<'a> {
    pub entry: &'a TaskEntry,
    pub task: Task,
    /// The rows that all methods share; in train stand those that any of them may learn from.
    pub dataset: Dataset,
    /// The rows of methods, by how many of the labels they calibrate on.
    pub divisions: BTreeMap<usize, MethodRows>,
    pub model: String,
    /// The untuned base's predictions of its rows.
    pub untuned: UntunedAnswers,
}

/// The rows that a method has.
pub(super) struct MethodRows {
    pub cells: Dataset,
    /// The tune rows stand where test does, so that no trial sees a test row.
    pub trials: Dataset,
}

impl<'a> TaskData<'a> {
    /// Reads the rows of a task.
    ///
    /// # Errors
    /// Whatever is wrong with its data, and if there are no tune rows to choose settings on, or fewer
    /// labels than asked for.
    pub fn load(config: &CompareConfig, entry: &'a TaskEntry) -> Result<Self, CompareError> {
        let mut table = config.run.clone();
        merge(&mut table, &entry.settings);
        let run = resolved(table, 0, || entry.name.clone())?;
        let task = Task::from_config(&run.data)?;
        if task.is_text() {
            check_texts(config, entry)?;
        }
        let mut dataset = data::load(&run.data, &task)?;
        if config.tuning.is_some() && dataset.tune.is_empty() {
            return Err(CompareError::NothingToTuneOn {
                task: entry.name.clone(),
            });
        }
        let model = run.model.path.ok_or_else(|| {
            let expected = "a folder, a `.gguf` file or a hub name, in `[run.model]`";
            RunError::from(SettingError::new("model.path", "absent", expected))
        })?;
        if let Some(labels) = entry.labels {
            take_labels(&mut dataset, &task, labels, &run.data, entry)?;
        }
        let mut divisions = BTreeMap::new();
        for method in &config.methods {
            let count = CompareConfig::calibrate_rows(entry, method);
            if let Entry::Vacant(place) = divisions.entry(count) {
                place.insert(MethodRows::new(&dataset, &task, count, run.data.seed)?);
            }
        }
        Ok(Self {
            entry,
            task,
            dataset,
            divisions,
            model,
            untuned: UntunedAnswers::default(),
        })
    }

    /// The rows of a method.
    pub fn rows(&self, method: &MethodEntry) -> &MethodRows {
        &self.divisions[&CompareConfig::calibrate_rows(self.entry, method)]
    }
}

/// Checks that nothing is asked of a task with texts that needs answers to choose from.
fn check_texts(config: &CompareConfig, entry: &TaskEntry) -> Result<(), CompareError> {
    let elsewhere = config.predictions.iter();
    let asked = [
        ("other_set", !entry.other_sets.is_empty()),
        (
            "predictions",
            elsewhere.into_iter().any(|one| one.task == entry.name),
        ),
    ];
    match asked.into_iter().find(|(_, is_asked)| *is_asked) {
        None => Ok(()),
        Some((what, _)) => Err(CompareError::Setting {
            what: format!("`{what}` of task `{}`", entry.name),
            found: "given for texts".into(),
            expected: "none: it is for questions with choices".into(),
        }),
    }
}

/// Leaves so many rows in train, and none in calibrate: what a method calibrates on are labels, too.
fn take_labels(
    dataset: &mut Dataset,
    task: &Task,
    labels: usize,
    config: &DataConfig,
    entry: &TaskEntry,
) -> Result<(), CompareError> {
    let found = dataset.train.len();
    if labels > found {
        return Err(CompareError::Setting {
            what: format!("`labels` of task `{}`", entry.name),
            found: labels.to_string(),
            expected: format!("at most the {found} rows that its train has"),
        });
    }
    let [taken, _] = divide(task, &dataset.train, labels, config.seed)?;
    dataset.train = taken;
    dataset.calibrate = Vec::new();
    Ok(())
}

impl MethodRows {
    /// Those of a method that calibrates on `count` of the labels; with 0 on the task's own rows.
    fn new(dataset: &Dataset, task: &Task, count: usize, seed: u64) -> Result<Self, CompareError> {
        let mut cells = dataset.clone();
        if count > 0 {
            [cells.calibrate, cells.train] = divide(task, &dataset.train, count, seed)?;
        }
        let trials = Dataset {
            test: cells.tune.clone(),
            calibrate: Vec::new(),
            ..cells.clone()
        };
        Ok(Self { cells, trials })
    }
}

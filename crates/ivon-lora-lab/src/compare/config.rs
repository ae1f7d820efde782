//! The file of a comparison: methods, tasks, seeds, how each method is tuned, and predictions that
//! were made elsewhere.
//!
//! Settings are tables of a run's own file, so that whatever a run can be told a comparison can be
//! told, of methods that this file has never heard of as well.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use toml::Table;

use super::range::Range;

/// A comparison as its file says it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompareConfig {
    /// The folder of everything that is made.
    pub out: PathBuf,
    /// Each method is trained once with each of these on each task.
    pub seeds: Vec<u64>,
    /// How many runs are made at once, as far as memory allows.
    #[serde(default = "one")]
    pub jobs: usize,
    /// Whether every row of a method has a second one with the temperature that was chosen on
    /// *calibrate*.
    #[serde(default = "yes")]
    pub temperature: bool,
    /// What the runs have in common: the tables of a run's file.
    #[serde(default)]
    pub run: Table,
    /// The columns of the table.
    #[serde(rename = "task")]
    pub tasks: Vec<TaskEntry>,
    /// The rows of the table.
    #[serde(rename = "method")]
    pub methods: Vec<MethodEntry>,
    /// How settings are chosen; none for the settings as they stand.
    #[serde(default)]
    pub tuning: Option<Tuning>,
    /// Predictions that were made elsewhere.
    #[serde(default)]
    pub predictions: Vec<ExternalPredictions>,
}

/// One task: a name, and the tables of a run's file that differ from `[run]`, `data` among them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskEntry {
    /// Stands over its columns; part of folder names.
    pub name: String,
    /// Seeds of its own in place of those of the whole comparison.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seeds: Option<Vec<u64>>,
    /// `data`, `train`, … as in a run's file.
    #[serde(flatten)]
    pub settings: Table,
}

/// One method: a name, and the tables of a run's file that differ, `optimizer` among them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MethodEntry {
    /// Stands before its rows; part of folder names.
    pub name: String,
    /// Ranges by setting, such as `learning_rate` or `train.steps`; a name without a point is the
    /// optimizer's.
    #[serde(default)]
    pub tune: std::collections::BTreeMap<String, Range>,
    /// Another method, whose chosen settings this one takes over in place of trials of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tuned_as: Option<String>,
    /// Another method, trained with AdamW: this one takes its adapter of the same seed, and only
    /// does what it does after training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trained_by: Option<String>,
    /// `optimizer`, `train`, … as in a run's file.
    #[serde(flatten)]
    pub settings: Table,
}

/// How settings are chosen: by the lowest NLL on *tune*.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tuning {
    /// Trials of each method on each task; the same for all.
    pub trials: u32,
    /// Names the search, and is the seed of every trial's run.
    #[serde(default)]
    pub seed: u64,
    /// Tables of a run's file that differ in trials, such as fewer steps.
    #[serde(default)]
    pub run: Table,
}

/// A file of predictions on the test rows of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExternalPredictions {
    /// The row that it belongs to.
    pub method: String,
    /// The task's name.
    pub task: String,
    /// The seed that it was made with.
    pub seed: u64,
    /// The file.
    pub path: PathBuf,
}

fn one() -> usize {
    1
}

fn yes() -> bool {
    true
}

impl CompareConfig {
    /// The seeds that each method is trained with on a task.
    pub fn seeds_of<'a>(&'a self, task: &'a TaskEntry) -> &'a [u64] {
        task.seeds.as_deref().unwrap_or(&self.seeds)
    }

    /// The threads of `[run.model]`, where runs are made one after the other on the program's own;
    /// several at once have theirs each.
    pub fn threads(&self) -> Option<u32> {
        let threads = self.run.get("model")?.get("threads")?.as_integer()?;
        u32::try_from(threads).ok().filter(|_| self.jobs <= 1)
    }
}

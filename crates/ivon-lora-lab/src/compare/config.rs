//! The file of a comparison: methods, tasks, seeds, how each method is tuned, and predictions that were
//! made elsewhere.
//!
//! Settings are tables of a run's file, so that a comparison takes every setting that a run takes, also
//! those of methods that are unknown here.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use toml::Table;

use super::range::Range;

/// The settings of a comparison.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompareConfig {
    /// The folder of all runs and results.
    pub out: PathBuf,
    /// The seeds with each of which every method is trained on every task.
    pub seeds: Vec<u64>,
    /// How many runs are made at once, as far as memory allows.
    #[serde(default = "one")]
    pub jobs: usize,
    /// Whether each row of a method is followed by one at the temperature that was chosen on
    /// *calibrate*.
    #[serde(default = "yes")]
    pub temperature: bool,
    /// The row of the table from which the differences of all others are shown, with paired intervals:
    /// `AdamW, T on calibrate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub against: Option<String>,
    /// What the runs have in common: the tables of a run's file.
    #[serde(default)]
    pub run: Table,
    /// The columns of the table.
    #[serde(rename = "task")]
    pub tasks: Vec<TaskEntry>,
    /// The rows of the table.
    #[serde(rename = "method")]
    pub methods: Vec<MethodEntry>,
    /// How settings are chosen; if absent, they are used as they are.
    #[serde(default)]
    pub tuning: Option<Tuning>,
    /// Predictions that were made elsewhere.
    #[serde(default)]
    pub predictions: Vec<ExternalPredictions>,
    /// After how long without a sign of life the claim of another process on a run no longer counts.
    #[serde(skip, default = "stale_after")]
    pub stale_after: Duration,
}

/// A task: a name, and the tables of a run's file that differ from `[run]`, including `data`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskEntry {
    /// The heading of its columns; part of folder names.
    pub name: String,
    /// Seeds of its own, in place of those of the whole comparison.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seeds: Option<Vec<u64>>,
    /// How many labelled rows of train each method has in all, those that it calibrates on among
    /// them; all of train where absent, and the task's own calibrate rows beside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<usize>,
    /// Tables of single methods that differ on this task, by the method's name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub methods: BTreeMap<String, Table>,
    /// Sets that the task is not about, which each cell is asked of when it is finished.
    #[serde(default, rename = "other_set", skip_serializing_if = "Vec::is_empty")]
    pub other_sets: Vec<OtherSetEntry>,
    /// `data`, `train`, … as in a run's file.
    #[serde(flatten)]
    pub settings: Table,
}

/// A set that a task is not about: how well a cell's uncertainty tells its rows from the task's test
/// rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OtherSetEntry {
    /// Stands over its columns.
    pub name: String,
    /// A folder of data files, or a file.
    pub path: PathBuf,
    /// Fields of the task, each with the column of the set that it is filled from; the rows need no
    /// labels then. Without any they are rows of the task.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, String>,
    /// The most rows: the first of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// A method: a name, and the tables of a run's file that differ, including `optimizer`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MethodEntry {
    /// The name of its rows; part of folder names.
    pub name: String,
    /// Ranges by setting, such as `learning_rate` or `train.steps`; a name without a dot belongs to the
    /// optimizer.
    #[serde(default)]
    pub tune: BTreeMap<String, Range>,
    /// Another method, whose chosen settings this one uses in place of trials of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tuned_as: Option<String>,
    /// Whether it has no trials, because what is compared is its settings as they are.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub untuned: bool,
    /// Another method, trained with AdamW: this one takes its adapter of the same seed, and is only
    /// fitted to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trained_by: Option<String>,
    /// The share of a task's `labels` that this method does not train on but calibrates on:
    /// temperature, prior precision, scale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibrate_share: Option<f64>,
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
    /// The seed of the search, and of every trial's run.
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

/// Longer than an NFS client may keep what it knows of a file, which is a minute at most by default.
fn stale_after() -> Duration {
    Duration::from_secs(180)
}

fn yes() -> bool {
    true
}

impl CompareConfig {
    /// The seeds that each method is trained with on a task.
    pub fn seeds_of<'a>(&'a self, task: &'a TaskEntry) -> &'a [u64] {
        task.seeds.as_deref().unwrap_or(&self.seeds)
    }

    /// How many of a task's labels a method calibrates on.
    pub(super) fn calibrate_rows(task: &TaskEntry, method: &MethodEntry) -> usize {
        let share = method.calibrate_share.unwrap_or(0.0);
        (task.labels.unwrap_or(0) as f64 * share).round() as usize
    }

    /// The threads of `[run.model]` if runs are made one after the other, on the threads of the
    /// program; several at once have threads of their own.
    pub fn threads(&self) -> Option<u32> {
        let threads = self.run.get("model")?.get("threads")?.as_integer()?;
        u32::try_from(threads).ok().filter(|_| self.jobs <= 1)
    }
}

//! The runs of a comparison, one line each, for a scheduler that makes them on machines of its own.

use std::fmt;

use serde::Serialize;

use super::CompareError;
use super::cell::is_finished;
use super::config::CompareConfig;
use super::costs::{RunCost, RunCosts};
use super::planned_run::{PlannedRun, RunKind};
use super::task::TaskData;

/// A run of a comparison, and what it will take in a process of its own.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ListedRun {
    /// The name by which it is asked for: `cells/sst2/ivon/21`, which is also the path of its folder.
    pub id: String,
    /// The method.
    pub method: String,
    /// The task.
    pub task: String,
    /// Its seed; that of the search for a trial.
    pub seed: u64,
    /// The number of a trial, from 0; none for a cell.
    pub trial: Option<u32>,
    /// The ids of the runs that must be finished before it begins.
    pub after: Vec<String>,
    /// How many runs follow each other at most until it begins: 0 for a trial, 1 for a cell, 2 for a
    /// cell that takes another's adapter.
    pub wave: usize,
    /// How long it will take on this machine, to within about a third.
    pub minutes: f64,
    /// Bytes of memory, to within about a third.
    pub bytes: f64,
    /// Whether it is finished.
    pub is_finished: bool,
}

impl fmt::Display for ListedRun {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, minutes, .. } = self;
        let gigabytes = self.bytes / 1e9;
        write!(formatter, "{id}  {minutes:.1} min  {gigabytes:.2} GB")?;
        if self.is_finished {
            write!(formatter, "  finished")?;
        }
        match &self.after[..] {
            [] => Ok(()),
            [one] => write!(formatter, "  after {one}"),
            [first, .., last] => write!(
                formatter,
                "  after {} runs, from {first} to {last}",
                self.after.len()
            ),
        }
    }
}

/// All runs of a comparison, each after those that it waits for.
///
/// # Errors
/// Whatever is wrong with a task's rows or its model.
pub fn list(config: &CompareConfig) -> Result<Vec<ListedRun>, CompareError> {
    let mut listed = Vec::new();
    for entry in &config.tasks {
        let costs = RunCosts::of(config, &TaskData::load(config, entry)?)?;
        for run in PlannedRun::all_of(config, entry) {
            listed.push(ListedRun::new(config, &run, costs.of_run(config, &run)?)?);
        }
    }
    Ok(listed)
}

impl ListedRun {
    fn new(
        config: &CompareConfig,
        run: &PlannedRun<'_>,
        cost: RunCost,
    ) -> Result<Self, CompareError> {
        let tuning_seed = config.tuning.as_ref().map_or(0, |tuning| tuning.seed);
        let (seed, trial) = match run.kind {
            RunKind::Trial(trial) => (tuning_seed, Some(trial)),
            RunKind::Cell(seed) => (seed, None),
        };
        let after = run.after(config)?;
        Ok(Self {
            id: run.id(),
            method: run.method.name.clone(),
            task: run.task.name.clone(),
            seed,
            trial,
            after: after.iter().map(PlannedRun::id).collect(),
            wave: run.wave(),
            minutes: cost.seconds() / 60.0,
            bytes: cost.estimate.bytes(),
            is_finished: is_finished(&run.folder(&config.out)),
        })
    }
}

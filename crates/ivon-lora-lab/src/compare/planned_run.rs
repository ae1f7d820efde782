//! A run of a comparison before it is made: a trial or a cell, and the runs that come before it.

use std::path::{Path, PathBuf};

use super::CompareError;
use super::config::{CompareConfig, MethodEntry, TaskEntry};
use super::layout::{cell_id, claims_folder, trial_id};
use super::search::trials;
use super::settings::cell_name;

/// A trial or a cell of a comparison.
#[derive(Clone, Copy, Debug)]
pub(super) struct PlannedRun<'a> {
    pub task: &'a TaskEntry,
    pub method: &'a MethodEntry,
    pub kind: RunKind,
}

/// What a run is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RunKind {
    /// Trying settings: its number, from 0.
    Trial(u32),
    /// The table: its seed.
    Cell(u64),
}

impl<'a> PlannedRun<'a> {
    /// All runs of a task, each after those that it waits for: the trials, then for each seed the cells
    /// that train and those that take what these trained.
    pub fn all_of(config: &'a CompareConfig, task: &'a TaskEntry) -> Vec<Self> {
        let mut all = Vec::new();
        for method in &config.methods {
            let kinds = (0..trials(config, method)).map(RunKind::Trial);
            all.extend(kinds.map(|kind| Self { task, method, kind }));
        }
        for &seed in config.seeds_of(task) {
            let kind = RunKind::Cell(seed);
            let cells = config
                .methods
                .iter()
                .map(|method| Self { task, method, kind });
            let (training, fitted): (Vec<_>, Vec<_>) =
                cells.partition(|run| run.method.trained_by.is_none());
            all.extend(training.into_iter().chain(fitted));
        }
        all
    }

    /// The run of this id.
    ///
    /// # Errors
    /// If there is none.
    pub fn named(config: &'a CompareConfig, id: &str) -> Result<Self, CompareError> {
        let mut all = config
            .tasks
            .iter()
            .flat_map(|task| Self::all_of(config, task));
        all.find(|run| run.id() == id)
            .ok_or_else(|| CompareError::UnknownRun { id: id.into() })
    }

    /// Its id, which is the path of its folder below that of the comparison.
    pub fn id(&self) -> String {
        let (task, method) = (&self.task.name, &self.method.name);
        match self.kind {
            RunKind::Trial(trial) => trial_id(task, method, trial),
            RunKind::Cell(seed) => cell_id(task, method, seed),
        }
    }

    /// `sst2, IVON, seed 21`.
    pub fn name(&self) -> String {
        match self.kind {
            RunKind::Trial(trial) => {
                format!("{}, {}, trial {trial}", self.task.name, self.method.name)
            }
            RunKind::Cell(seed) => cell_name(self.task, self.method, Some(seed)),
        }
    }

    /// Its folder.
    pub fn folder(&self, out: &Path) -> PathBuf {
        out.join(self.id())
    }

    /// The folder of the claims on it.
    pub fn claims(&self, out: &Path) -> PathBuf {
        claims_folder(out, &self.id())
    }

    /// The runs that it waits for: the trials that choose its settings, and the cell whose adapter it
    /// takes.
    ///
    /// # Errors
    /// If the method that it is `trained_by` is none of the file.
    pub fn after(&self, config: &'a CompareConfig) -> Result<Vec<Self>, CompareError> {
        let RunKind::Cell(_) = self.kind else {
            return Ok(Vec::new());
        };
        let trainer = config.trainer(self.method)?;
        let mut after = self.trials_of(config, trainer.unwrap_or(self.method));
        after.extend(trainer.map(|method| Self { method, ..*self }));
        Ok(after)
    }

    /// The trials that choose the settings of a method that trains.
    fn trials_of(&self, config: &'a CompareConfig, method: &'a MethodEntry) -> Vec<Self> {
        let name = method.tuned_as.as_ref().unwrap_or(&method.name);
        let tuned = config.methods.iter().find(|one| one.name == *name);
        let Some(method) = tuned.filter(|_| !method.untuned) else {
            return Vec::new();
        };
        let kinds = (0..trials(config, method)).map(RunKind::Trial);
        kinds
            .map(|kind| Self {
                method,
                kind,
                ..*self
            })
            .collect()
    }

    /// How many runs come before it in a row: a trial has none, a cell its trials, a cell that takes
    /// an adapter the cell that trains it as well.
    pub fn wave(&self) -> usize {
        match self.kind {
            RunKind::Trial(_) => 0,
            RunKind::Cell(_) => 1 + usize::from(self.method.trained_by.is_some()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::file::tests::FILE;

    #[test]
    fn each_run_stands_after_those_that_it_waits_for() {
        let more = "[[method]]\nname = 'Laplace'\ntrained_by = 'AdamW'\n[method.optimizer]\nname = 'laplace'\n";
        let config: CompareConfig =
            toml::from_str(&FILE.replacen("[[method]]", &format!("{more}[[method]]"), 1)).unwrap();
        config.validate().unwrap();
        let all = PlannedRun::all_of(&config, &config.tasks[0]);
        let ids: Vec<String> = all.iter().map(PlannedRun::id).collect();
        assert_eq!(ids.len(), 2 * 4 + 3 * 2);
        assert_eq!(ids[0], "trials/sst2/adamw/000");
        for (place, run) in all.iter().enumerate() {
            for before in run.after(&config).unwrap() {
                let found = ids.iter().position(|id| *id == before.id()).unwrap();
                assert!(found < place && before.wave() < run.wave());
            }
        }
        let of = |id: &str| PlannedRun::named(&config, id).unwrap();
        let fitted = of("cells/boolq/laplace/2");
        assert_eq!(fitted.name(), "boolq, Laplace, seed 2");
        let after: Vec<String> = fitted
            .after(&config)
            .unwrap()
            .iter()
            .map(PlannedRun::id)
            .collect();
        assert_eq!(after[0], "trials/boolq/adamw/000");
        assert_eq!(after[4..], ["cells/boolq/adamw/2"]);
        let unknown = PlannedRun::named(&config, "cells/boolq/adam/2").unwrap_err();
        assert_eq!(
            unknown.to_string(),
            "`cells/boolq/adam/2` is no run of this comparison"
        );
    }
}

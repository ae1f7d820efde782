//! What each run of a task will take, from its settings and its rows in tokens.

use std::collections::BTreeMap;

use super::CompareError;
use super::config::CompareConfig;
use super::planned_run::{PlannedRun, RunKind};
use super::search::trial_config;
use super::task::TaskData;
use ivon_lora::data::{self, Encoded, Example};
use ivon_lora::model::Checkpoint;
use ivon_lora::run::{Estimate, RunConfig};

/// What a run will take.
#[derive(Clone, Copy, Debug)]
pub(super) struct RunCost {
    pub estimate: Estimate,
    /// Seconds of asking a finished cell of sets that its task is not about.
    pub other_sets_seconds: f64,
}

impl RunCost {
    /// Seconds in all, if the run is alone in its process.
    pub fn seconds(&self) -> f64 {
        let Estimate {
            training_seconds,
            fitting_seconds,
            evaluation_seconds,
            base_seconds,
            ..
        } = self.estimate;
        training_seconds
            + fitting_seconds
            + evaluation_seconds
            + base_seconds
            + self.other_sets_seconds
    }
}

/// What the cost of a task's runs depends on besides their settings.
pub(super) struct RunCosts {
    checkpoint: Checkpoint,
    /// By how many of the labels a method calibrates on.
    divisions: BTreeMap<usize, EncodedRows>,
    tune: Vec<Encoded>,
    test: Vec<Encoded>,
    /// Those of each set that a cell is asked of.
    other_sets: Vec<Vec<Encoded>>,
}

/// The rows in which methods differ, in tokens.
struct EncodedRows {
    train: Vec<Encoded>,
    calibrate: Vec<Encoded>,
}

impl RunCosts {
    /// Reads and encodes the rows of a task.
    ///
    /// # Errors
    /// Whatever is wrong with the rows or the model.
    pub fn of(config: &CompareConfig, loaded: &TaskData<'_>) -> Result<Self, CompareError> {
        let entry = loaded.entry;
        let checkpoint = Checkpoint::open(&loaded.model)?;
        let tokenizer = checkpoint.tokenizer()?;
        let first = config.cell(entry, &config.methods[0], config.seeds_of(entry)[0])?;
        let options = first.data.encode_options(&loaded.task);
        let encode = |examples: &[Example]| -> Result<Vec<Encoded>, CompareError> {
            match examples.is_empty() {
                true => Ok(Vec::new()),
                false => Ok(data::encode_all(examples, &tokenizer, options)?.examples),
            }
        };
        let mut divisions = BTreeMap::new();
        for (count, rows) in &loaded.divisions {
            let train = encode(&rows.cells.train)?;
            let calibrate = encode(&rows.cells.calibrate)?;
            divisions.insert(*count, EncodedRows { train, calibrate });
        }
        let reader = loaded.task.reader()?;
        let mut other_sets = Vec::new();
        for entry in &entry.other_sets {
            other_sets.push(encode(&entry.examples(&reader)?)?);
        }
        Ok(Self {
            divisions,
            other_sets,
            tune: encode(&loaded.dataset.tune)?,
            test: encode(&loaded.dataset.test)?,
            checkpoint,
        })
    }

    /// What a run will take; a cell has the settings of before any are chosen by trials.
    ///
    /// # Errors
    /// If its settings are not a run's.
    pub fn of_run(
        &self,
        config: &CompareConfig,
        run: &PlannedRun<'_>,
    ) -> Result<RunCost, CompareError> {
        let PlannedRun { task, method, kind } = *run;
        let rows = CompareConfig::calibrate_rows(task, method);
        Ok(match kind {
            RunKind::Trial(trial) => RunCost {
                estimate: self.trial(&trial_config(config, task, method, trial)?, rows),
                other_sets_seconds: 0.0,
            },
            RunKind::Cell(seed) => {
                let cell = config.cell(task, method, seed)?;
                RunCost {
                    estimate: self.cell(&cell, rows),
                    other_sets_seconds: self.other_sets(&cell),
                }
            }
        })
    }

    fn trial(&self, config: &RunConfig, rows: usize) -> Estimate {
        self.estimate(config, &self.divisions[&rows].train, &[], &self.tune)
    }

    fn cell(&self, config: &RunConfig, rows: usize) -> Estimate {
        let EncodedRows { train, calibrate } = &self.divisions[&rows];
        self.estimate(config, train, calibrate, &self.test)
    }

    /// Seconds of asking a finished cell of other sets.
    fn other_sets(&self, config: &RunConfig) -> f64 {
        let nothing = &[][..];
        let seconds = |set: &Vec<Encoded>| {
            let (length, sets) = (config.train.length(1), [nothing, nothing, set]);
            Estimate::of(config, &self.checkpoint, length, nothing, sets).evaluation_seconds
        };
        self.other_sets.iter().map(seconds).sum()
    }

    fn estimate(
        &self,
        config: &RunConfig,
        train: &[Encoded],
        calibrate: &[Encoded],
        test: &[Encoded],
    ) -> Estimate {
        let length = config.train.length(train.len());
        let sets = [&self.tune[..], calibrate, test];
        Estimate::of(config, &self.checkpoint, length, train, sets)
    }
}

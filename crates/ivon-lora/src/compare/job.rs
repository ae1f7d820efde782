//! Runs that are to be made, some of them fitted to what others trained → what became of each.

use std::path::{Path, PathBuf};

use super::CompareError;
use super::cell::{is_finished, make};
use super::plan::LoadedTask;
use crate::run::{RunConfig, RunEvent};

/// A trial or a cell that is to be made.
pub(super) struct Job<'a> {
    /// `sst2, IVON, seed 21`.
    pub name: String,
    /// Where it is made.
    pub folder: PathBuf,
    /// Its settings, or what is wrong with them.
    pub config: Result<RunConfig, CompareError>,
    /// Its rows.
    pub task: &'a LoadedTask<'a>,
    /// Whether it is scored on tune, and sees no test row.
    pub is_trial: bool,
    /// The place of the job, before it in the list, whose adapter it is fitted to.
    pub after: Option<usize>,
}

/// What became of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is finished.
    Made,
    /// It is not, for this reason.
    Failed(String),
    /// Whoever watched said stop.
    Stopped,
}

/// Makes jobs, each after the one that it waits for; what is finished is not made again. A failure is told of, and the rest goes on.
pub(super) fn make_all(jobs: &[Job<'_>], watch: &mut dyn FnMut(RunEvent<'_>) -> bool) -> Vec<Outcome> {
    let mut outcomes: Vec<Outcome> = Vec::with_capacity(jobs.len());
    for job in jobs {
        let outcome = match outcomes.last() {
            Some(Outcome::Stopped) => Outcome::Stopped,
            _ => job.make(jobs, &outcomes, watch),
        };
        if let Outcome::Failed(reason) = &outcome {
            watch(RunEvent::Warning(format!("{} failed: {reason}", job.name)));
        }
        outcomes.push(outcome);
    }
    outcomes
}

impl Job<'_> {
    /// Makes it, if what it waits for is made.
    fn make(&self, jobs: &[Job<'_>], outcomes: &[Outcome], watch: &mut dyn FnMut(RunEvent<'_>) -> bool) -> Outcome {
        let config = match &self.config {
            Ok(config) => config,
            Err(error) => return Outcome::Failed(error.to_string()),
        };
        let before = self.after.and_then(|place| Some((jobs.get(place)?, outcomes.get(place)?)));
        if let Some((job, Outcome::Failed(reason))) = before {
            return Outcome::Failed(format!("{}, whose adapter it takes, failed: {reason}", job.name));
        }
        if !is_finished(&self.folder) {
            watch(RunEvent::Note(self.name.clone()));
        }
        let trained: Option<&Path> = before.map(|(job, _)| job.folder.as_path());
        match make(&self.folder, config, self.task, self.is_trial, trained, watch) {
            Ok(true) => Outcome::Made,
            Ok(false) => Outcome::Stopped,
            Err(error) => Outcome::Failed(error.to_string()),
        }
    }
}

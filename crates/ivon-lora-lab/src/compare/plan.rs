//! The time and memory that a comparison will take.

use std::fmt;
use std::path::Path;

use super::CompareError;
use super::cell::is_finished;
use super::config::{CompareConfig, TaskEntry};
use super::costs::RunCosts;
use super::detection::read_other_sets;
use super::planned_run::{PlannedRun, RunKind};
use super::task::TaskData;
use ivon_lora::run::{Estimate, available_memory};

/// What is left to do, and an estimate of how long it takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Plan {
    /// Trials in all.
    pub trials: usize,
    /// Cells in all.
    pub cells: usize,
    /// Trials and cells that are finished.
    pub finished: usize,
    /// Seconds that the rest is expected to take, to within about a third.
    pub seconds: f64,
    /// Bytes of memory of the largest run.
    pub bytes: f64,
    /// Bytes of a GPU's own memory that the largest run would need there.
    pub device_bytes: f64,
    /// How many runs are made at once.
    pub at_once: usize,
    /// Bytes of free memory, if they do not suffice for as many runs at once as were asked for.
    pub too_few: Option<f64>,
}

impl fmt::Display for Plan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hours = self.seconds / 3600.0;
        let time = if hours < 1.0 {
            format!("{:.0} min", self.seconds / 60.0)
        } else {
            format!("{hours:.1} h")
        };
        write!(
            formatter,
            "{} trials and {} cells, {} of them finished; about {time} for the rest, and {:.2} GB of memory",
            self.trials,
            self.cells,
            self.finished,
            self.bytes / 1e9
        )?;
        match (self.at_once, self.too_few) {
            (at_once, Some(free)) => {
                write!(
                    formatter,
                    " for each run: {at_once} at once and no more, since {:.1} GB are free",
                    free / 1e9
                )
            }
            (0 | 1, None) => Ok(()),
            (at_once, None) => write!(formatter, " for each of {at_once} runs at once"),
        }?;
        match self.device_bytes {
            0.0 => Ok(()),
            bytes => write!(
                formatter,
                "; a GPU, which keeps the base as f32, needs about {:.0} GB of its own (an estimate that no GPU has confirmed)",
                (bytes / 1e9).ceil()
            ),
        }
    }
}

/// Estimates what a comparison will take.
///
/// # Errors
/// Whatever is wrong with a task's rows or its model.
pub fn plan(config: &CompareConfig) -> Result<Plan, CompareError> {
    let mut plan = Plan::default();
    for entry in &config.tasks {
        plan.add_task(config, entry)?;
    }
    (plan.at_once, plan.too_few) = at_once(config.jobs, plan.bytes, available_memory());
    Ok(plan)
}

impl Plan {
    /// Adds the trials and cells of a task.
    fn add_task(&mut self, config: &CompareConfig, entry: &TaskEntry) -> Result<(), CompareError> {
        let loaded = TaskData::load(config, entry)?;
        let costs = RunCosts::of(config, &loaded)?;
        // The base is evaluated once on tune, by the trials, and once on test.
        let mut base_seconds = [0.0; 2];
        for run in PlannedRun::all_of(config, entry) {
            let is_cell = matches!(run.kind, RunKind::Cell(_));
            let base_seconds = &mut base_seconds[usize::from(is_cell)];
            self.trials += usize::from(!is_cell);
            self.cells += usize::from(is_cell);
            let cost = costs.of_run(config, &run)?;
            let folder = run.folder(&config.out);
            self.add_run(cost.estimate, &folder, base_seconds);
            if is_cell
                && read_other_sets(&folder, &entry.other_sets).is_ok_and(|found| found.is_none())
            {
                self.seconds += cost.other_sets_seconds;
            }
        }
        self.seconds += base_seconds.iter().sum::<f64>();
        Ok(())
    }

    /// Adds what a run takes, unless it is finished.
    fn add_run(&mut self, estimate: Estimate, folder: &Path, base_seconds: &mut f64) {
        if is_finished(folder) {
            self.finished += 1;
            return;
        }
        self.seconds +=
            estimate.training_seconds + estimate.fitting_seconds + estimate.evaluation_seconds;
        *base_seconds = estimate.base_seconds;
        self.bytes = self.bytes.max(estimate.bytes());
        self.device_bytes = self.device_bytes.max(estimate.device_bytes);
    }
}

/// How many runs of `bytes` each are made at once, at most `wanted`; if memory allows only fewer, with
/// the free bytes.
fn at_once(wanted: usize, bytes: f64, available: Option<f64>) -> (usize, Option<f64>) {
    match available.map(|available| (available, (available / bytes) as usize)) {
        Some((available, fit)) if fit < wanted && wanted > 1 => (fit.max(1), Some(available)),
        _ => (wanted.max(1), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_runs_are_made_at_once_as_memory_allows() {
        assert_eq!(at_once(4, 1e9, Some(9e9)), (4, None));
        assert_eq!(at_once(4, 2e9, Some(5e9)), (2, Some(5e9)));
        assert_eq!(at_once(4, 9e9, Some(5e9)), (1, Some(5e9)));
        assert_eq!(at_once(1, 9e9, Some(5e9)), (1, None));
        assert_eq!(at_once(4, 2e9, None), (4, None));
        // Everything is finished.
        assert_eq!(at_once(4, 0.0, Some(5e9)), (4, None));
        let plan = Plan {
            trials: 2,
            cells: 4,
            bytes: 2e9,
            at_once: 2,
            too_few: Some(5e9),
            ..Plan::default()
        };
        assert!(plan.to_string().ends_with(
            "and 2.00 GB of memory for each run: 2 at once and no more, since 5.0 GB are free"
        ));
        assert!(
            Plan {
                too_few: None,
                ..plan
            }
            .to_string()
            .ends_with("and 2.00 GB of memory for each of 2 runs at once")
        );
        assert!(
            Plan {
                too_few: None,
                at_once: 1,
                ..plan
            }
            .to_string()
            .ends_with("and 2.00 GB of memory")
        );
    }
}

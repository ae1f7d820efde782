//! Makes the runs of a comparison: all of them, or one.

use super::cell::is_current;
use super::chosen::{Trial, cell_config, choose, read_trials};
use super::comparison::{ComparisonResults, FailedCell};
use super::config::CompareConfig;
use super::gather::Gathered;
use super::plan::plan;
use super::planned_run::{PlannedRun, RunKind};
use super::queue::{Job, Outcome, make_all};
use super::search::trial_config;
use super::task::TaskData;
use super::{CompareError, failure};
use ivon_lora::files;
use ivon_lora::watch::Event;

/// Makes all runs that are not finished, and the table of all. `watch` hears what happens and says
/// whether to go on.
///
/// # Errors
/// Whatever is wrong with a task's rows, or with a file of the comparison. A failed run is not an error
/// but a [`FailedCell`].
pub fn compare(
    config: &CompareConfig,
    watch: &mut dyn FnMut(Event<'_>) -> bool,
) -> Result<ComparisonResults, CompareError> {
    files::create_folder(&config.out)?;
    let tasks = config
        .tasks
        .iter()
        .map(|entry| TaskData::load(config, entry))
        .collect::<Result<Vec<_>, _>>()?;
    // Once for all runs of a task.
    tasks.iter().for_each(|task| announce(task, watch));
    // The plan takes a while and is needed only for several runs at once.
    let at_once = match config.jobs {
        0 | 1 => 1,
        _ => plan(config)?.at_once,
    };
    let mut run = ComparisonRun {
        config,
        watch,
        at_once,
        gathered: Gathered::new(config),
        is_interrupted: false,
    };
    for task in &tasks {
        run.tune(task);
        run.gathered.write_trials()?;
        run.cells(task);
    }
    let results = tasks.iter().map(|task| run.gathered.results(task));
    let results = results.collect::<Result<Vec<_>, _>>()?;
    Ok(run.gathered.into_results(results, run.is_interrupted))
}

/// The outcome of a single run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunOutcome {
    /// It is finished, by this process or before.
    Finished,
    /// It failed, for this reason.
    Failed(String),
    /// Runs that must come before it are not finished: their ids.
    Waits(Vec<String>),
    /// Another process is making it.
    Elsewhere(String),
    /// The watcher said stop.
    Stopped,
}

/// Makes the run of this id unless it is finished, waits for others, or is made elsewhere.
///
/// # Errors
/// If there is no such run, and whatever is wrong with its task's rows.
pub fn make_run(
    config: &CompareConfig,
    id: &str,
    watch: &mut dyn FnMut(Event<'_>) -> bool,
) -> Result<RunOutcome, CompareError> {
    let run = PlannedRun::named(config, id)?;
    files::create_folder(&config.out)?;
    let task = TaskData::load(config, run.task)?;
    announce(&task, watch);
    let after = run.after(config)?;
    let trials = read_trials(config, &task, &after);
    let (tried, cells): (Vec<_>, Vec<_>) = after
        .iter()
        .partition(|before| matches!(before.kind, RunKind::Trial(_)));
    if trials.len() < tried.len() {
        let is_missing = |run: &&&PlannedRun<'_>| {
            let is_it = |trial: &Trial| run.kind == RunKind::Trial(trial.trial);
            !trials.iter().any(is_it)
        };
        let missing = tried.iter().filter(is_missing).map(|run| run.id());
        return Ok(RunOutcome::Waits(missing.collect()));
    }
    let job = Job::of(config, &task, &run, &trials, None);
    let before = cells.first().map(|cell| {
        let job = Job::of(config, &task, cell, &trials, None);
        let outcome = outcome_before(&job);
        (job, cell.id(), outcome)
    });
    let outcome = match &before {
        Some((_, id, None)) => return Ok(RunOutcome::Waits(vec![id.clone()])),
        Some((before, _, Some(outcome))) => job.make(Some((before, outcome.clone())), watch),
        None => job.make(None, watch),
    };
    Ok(match outcome {
        Outcome::Made => RunOutcome::Finished,
        Outcome::Failed(reason) => RunOutcome::Failed(reason),
        Outcome::Elsewhere(reason) => RunOutcome::Elsewhere(reason),
        Outcome::Stopped => RunOutcome::Stopped,
    })
}

/// How a run that another one waits for has ended; none if it has not.
fn outcome_before(job: &Job<'_>) -> Option<Outcome> {
    match &job.config {
        Err(error) => Some(Outcome::Failed(error.to_string())),
        Ok(config) if is_current(&job.folder, config, job.dataset) => Some(Outcome::Made),
        Ok(config) => failure::read(&job.claims, config).map(Outcome::Failed),
    }
}

/// Passes on what there is to say of a task's rows.
fn announce(task: &TaskData<'_>, watch: &mut dyn FnMut(Event<'_>) -> bool) {
    let (name, report) = (&task.entry.name, &task.dataset.report);
    for note in &report.notes {
        watch(Event::Note(format!("{name}: {note}")));
    }
    for warning in &report.warnings {
        watch(Event::Warning(format!("{name}: {warning}").into()));
    }
}

impl<'a> Job<'a> {
    /// The job that makes a run, with the settings that these trials have chosen.
    fn of(
        config: &CompareConfig,
        task: &'a TaskData<'a>,
        run: &PlannedRun<'_>,
        trials: &[Trial],
        after: Option<usize>,
    ) -> Self {
        let rows = task.rows(run.method);
        let entry = task.entry;
        Self {
            name: run.name(),
            folder: run.folder(&config.out),
            claims: run.claims(&config.out),
            stale_after: config.stale_after,
            config: match run.kind {
                RunKind::Trial(trial) => trial_config(config, entry, run.method, trial),
                RunKind::Cell(seed) => cell_config(config, trials, (entry, run.method, seed)),
            },
            task,
            dataset: match run.kind {
                RunKind::Trial(_) => &rows.trials,
                RunKind::Cell(_) => &rows.cells,
            },
            other_sets: match run.kind {
                RunKind::Trial(_) => &[],
                RunKind::Cell(_) => &entry.other_sets,
            },
            after,
        }
    }
}

/// A comparison under way.
struct ComparisonRun<'a> {
    config: &'a CompareConfig,
    watch: &'a mut dyn FnMut(Event<'_>) -> bool,
    /// How many runs are made at once.
    at_once: usize,
    gathered: Gathered<'a>,
    is_interrupted: bool,
}

impl ComparisonRun<'_> {
    /// Makes the trials of all methods on a task, and marks the best of each.
    fn tune(&mut self, task: &TaskData<'_>) {
        let config = self.config;
        let runs = PlannedRun::all_of(config, task.entry);
        let number = |run: PlannedRun<'_>| match run.kind {
            RunKind::Trial(number) => Some(number),
            RunKind::Cell(_) => None,
        };
        let runs = runs.into_iter();
        let (entries, jobs): (Vec<_>, Vec<_>) = runs
            .filter_map(|run| {
                let trial = Trial::new(config, &task.entry.name, run.method, number(run)?);
                Some((trial, Job::of(config, task, &run, &[], None)))
            })
            .unzip();
        let first = self.gathered.trials.len();
        let outcomes = self.make_all(&jobs);
        for ((entry, job), outcome) in entries.into_iter().zip(&jobs).zip(outcomes) {
            let entry = match outcome {
                Outcome::Made => entry.finished(&job.folder),
                Outcome::Failed(reason) => entry.failed(reason),
                // It may turn out to be the best: nothing is chosen without it.
                Outcome::Elsewhere(reason) => {
                    let name = job.name.clone();
                    self.gathered.failed.push(FailedCell { name, reason });
                    continue;
                }
                Outcome::Stopped => continue,
            };
            self.gathered.trials.push(entry);
        }
        for choice in choose(config, &mut self.gathered.trials[first..]) {
            (self.watch)(Event::Note(choice));
        }
    }

    /// Makes the cells of all methods on a task with all seeds; for each seed, those that train come
    /// first.
    fn cells(&mut self, task: &TaskData<'_>) {
        let config = self.config;
        let runs = PlannedRun::all_of(config, task.entry).into_iter();
        let cells: Vec<_> = runs
            .filter(|run| matches!(run.kind, RunKind::Cell(_)))
            .collect();
        let job = |cell: &PlannedRun<'_>| {
            let trainer = |other: &PlannedRun<'_>| {
                other.kind == cell.kind
                    && Some(&other.method.name) == cell.method.trained_by.as_ref()
            };
            let after = cells.iter().position(trainer);
            Job::of(config, task, cell, &self.gathered.trials, after)
        };
        let jobs: Vec<Job<'_>> = cells.iter().map(job).collect();
        let outcomes = self.make_all(&jobs);
        for (job, outcome) in jobs.into_iter().zip(outcomes) {
            if let Outcome::Failed(reason) | Outcome::Elsewhere(reason) = outcome {
                let name = job.name;
                self.gathered.failed.push(FailedCell { name, reason });
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
}

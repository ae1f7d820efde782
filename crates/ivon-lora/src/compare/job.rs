//! Runs that are to be made, some of them fitted to what others trained → what became of each; one after the other or several at once.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use super::CompareError;
use super::cell::{is_finished, make};
use super::plan::LoadedTask;
use crate::run::{RunConfig, RunEvent};

/// How often whoever watches is asked whether to go on while several runs are made.
const BEAT: Duration = Duration::from_secs(1);

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
    /// The place of the job, before it in the list, whose adapter it is fitted to; that one waits for none itself.
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

/// Makes jobs, `at_once` at a time, each after the one that it waits for; what is finished is not made again. A failure is told of, and
/// the rest goes on.
pub(super) fn make_all(jobs: &[Job<'_>], at_once: usize, watch: &mut dyn FnMut(RunEvent<'_>) -> bool) -> Vec<Outcome> {
    let mut work = Work { jobs, outcomes: vec![Outcome::Stopped; jobs.len()], watch };
    if at_once <= 1 {
        work.one_by_one();
    } else {
        let (waiting, free): (Vec<_>, Vec<_>) = (0..jobs.len()).partition(|&place| jobs[place].after.is_some());
        let _ = work.several(&free, at_once) && work.several(&waiting, at_once);
    }
    work.outcomes
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

    /// As [`make`](Self::make), on so many threads of its own; the settings of the run may name another number.
    fn make_on(
        &self,
        threads: usize,
        jobs: &[Job<'_>],
        outcomes: &[Outcome],
        watch: &mut (dyn FnMut(RunEvent<'_>) -> bool + Send),
    ) -> Outcome {
        let threads = self.config.as_ref().ok().and_then(|config| config.model.threads).unwrap_or(threads);
        match rayon::ThreadPoolBuilder::new().num_threads(threads).build() {
            Ok(pool) => pool.install(|| self.make(jobs, outcomes, watch)),
            Err(error) => Outcome::Failed(format!("could not start {threads} threads: {error}")),
        }
    }
}

/// Jobs under way.
struct Work<'a> {
    jobs: &'a [Job<'a>],
    /// One for each job; those that were not begun count as stopped.
    outcomes: Vec<Outcome>,
    watch: &'a mut dyn FnMut(RunEvent<'_>) -> bool,
}

/// What a thread that makes runs tells the one that watches.
enum Told {
    /// The name of a run that begins.
    Begun(String),
    /// What became of the job at a place.
    Ended(usize, Outcome),
}

impl Work<'_> {
    fn one_by_one(&mut self) {
        for (place, job) in self.jobs.iter().enumerate() {
            let outcome = job.make(self.jobs, &self.outcomes, self.watch);
            let is_stopped = outcome == Outcome::Stopped;
            self.settle(place, outcome);
            if is_stopped {
                return;
            }
        }
    }

    /// Makes those at these places, none of which waits for another of them; gives whether to go on.
    fn several(&mut self, places: &[usize], at_once: usize) -> bool {
        let threads = (rayon::current_num_threads() / at_once).max(1);
        let (jobs, before) = (self.jobs, self.outcomes.clone());
        let (next, is_stopped) = (AtomicUsize::new(0), AtomicBool::new(false));
        let (told, heard) = channel();
        let make = |told: Sender<Told>| {
            let mut hear = |event: RunEvent<'_>| {
                if let RunEvent::Note(name) = event {
                    // Nobody listens any more only where the thread that watches has panicked.
                    let _ = told.send(Told::Begun(name));
                }
                !is_stopped.load(Ordering::Relaxed)
            };
            while let Some(&place) = places.get(next.fetch_add(1, Ordering::Relaxed)).filter(|_| !is_stopped.load(Ordering::Relaxed)) {
                let outcome = jobs[place].make_on(threads, jobs, &before, &mut hear);
                let _ = told.send(Told::Ended(place, outcome));
            }
        };
        thread::scope(|scope| {
            for told in vec![told; at_once.min(places.len())] {
                let make = &make;
                scope.spawn(move || make(told));
            }
            self.listen(&heard, places.len(), &is_stopped);
        });
        !is_stopped.into_inner()
    }

    /// Tells whoever watches of all that is heard, until the last thread has gone.
    fn listen(&mut self, heard: &Receiver<Told>, total: usize, is_stopped: &AtomicBool) {
        let mut done = 0;
        loop {
            let mut go_on = match heard.recv_timeout(BEAT) {
                Ok(Told::Begun(name)) => (self.watch)(RunEvent::Note(name)),
                Ok(Told::Ended(place, outcome)) => {
                    done += 1;
                    self.settle(place, outcome)
                }
                Err(RecvTimeoutError::Timeout) => true,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            go_on &= (self.watch)(RunEvent::Progress { what: "runs", done, total });
            if !go_on {
                is_stopped.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Keeps what became of a job, and tells of a failure; gives whether to go on.
    fn settle(&mut self, place: usize, outcome: Outcome) -> bool {
        let go_on = match &outcome {
            Outcome::Failed(reason) => (self.watch)(RunEvent::Warning(format!("{} failed: {reason}", self.jobs[place].name))),
            Outcome::Made | Outcome::Stopped => true,
        };
        self.outcomes[place] = outcome;
        go_on
    }
}

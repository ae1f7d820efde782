//! Makes runs, one after the other or several at once; some of them are fitted to what others have
//! trained.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::cell::{CellRun, is_finished};
use super::claim::{Attempt, Claim};
use super::config::OtherSetEntry;
use super::task::TaskData;
use super::{CompareError, failure};
use ivon_lora::data::Dataset;
use ivon_lora::run::{RunConfig, RunError, give_back_memory};
use ivon_lora::watch::{Event, Stage};

/// How often the watcher is asked whether to go on while several runs are being made.
const BEAT: Duration = Duration::from_secs(1);

/// A trial or a cell to be made.
pub(super) struct Job<'a> {
    /// `sst2, IVON, seed 21`.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
    /// The folder of the claims on it.
    pub claims: PathBuf,
    /// After how long without a sign of life the claim of another process no longer counts.
    pub stale_after: Duration,
    /// Its settings, or what is wrong with them.
    pub config: Result<RunConfig, CompareError>,
    /// Its task.
    pub task: &'a TaskData<'a>,
    /// Its rows.
    pub dataset: &'a Dataset,
    /// Sets that it is asked about when it is finished.
    pub other_sets: &'a [OtherSetEntry],
    /// The place of an earlier job in the list, whose adapter it is fitted to; that job waits for no
    /// other.
    pub after: Option<usize>,
}

/// The outcome of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is finished.
    Made,
    /// It failed, for this reason.
    Failed(String),
    /// Another process is making it, or the job that it waits for.
    Elsewhere(String),
    /// The watcher said stop.
    Stopped,
}

/// Makes jobs, `at_once` at a time, each after the one that it waits for; finished ones are not made
/// again. Failures are reported, and the rest goes on.
pub(super) fn make_all(
    jobs: &[Job<'_>],
    at_once: usize,
    watch: &mut dyn FnMut(Event<'_>) -> bool,
) -> Vec<Outcome> {
    let mut list = JobList {
        jobs,
        outcomes: vec![Outcome::Stopped; jobs.len()],
        watch,
    };
    if at_once <= 1 {
        list.one_by_one();
    } else {
        list.several(at_once);
    }
    list.outcomes
}

impl Job<'_> {
    /// Makes it, unless the job `before` it was not made.
    pub fn make(
        &self,
        before: Option<(&Job<'_>, Outcome)>,
        watch: &mut dyn FnMut(Event<'_>) -> bool,
    ) -> Outcome {
        let config = match &self.config {
            Ok(config) => config,
            Err(error) => return Outcome::Failed(error.to_string()),
        };
        if let Some(outcome) = before.as_ref().and_then(without_adapter) {
            return outcome;
        }
        let trained: Option<&Path> = before.as_ref().map(|(job, _)| job.folder.as_path());
        let run = CellRun {
            folder: &self.folder,
            config,
            task: self.task,
            dataset: self.dataset,
            other_sets: self.other_sets,
            trained,
        };
        let outcome = match run.is_complete() {
            true => outcome_of(run.make(None, watch)),
            false => self.make_claimed(&run, watch),
        };
        match &outcome {
            // It only serves others, who try it themselves without it.
            Outcome::Failed(reason) => drop(failure::keep(&self.claims, config, reason)),
            Outcome::Made => failure::forget(&self.claims),
            Outcome::Elsewhere(_) | Outcome::Stopped => {}
        }
        outcome
    }

    /// Makes the run if no other process holds a claim on it.
    fn make_claimed(&self, run: &CellRun<'_>, watch: &mut dyn FnMut(Event<'_>) -> bool) -> Outcome {
        let claim = match Claim::take(&self.claims, self.stale_after) {
            Ok(Attempt::Claimed(claim)) => claim,
            Ok(Attempt::Held(holder)) => {
                return Outcome::Elsewhere(format!("{holder} is making it"));
            }
            Err(error) => return Outcome::Failed(error.to_string()),
        };
        if !is_finished(&self.folder) {
            watch(Event::Note(self.name.clone()));
        }
        let made = run.make(Some(&claim), &mut |event| watch(event) && !claim.is_lost());
        match outcome_of(made) {
            Outcome::Stopped if claim.is_lost() => {
                Outcome::Elsewhere("another process has taken it over".into())
            }
            outcome => outcome,
        }
    }

    /// As [`make`](Self::make), on this many threads of its own, unless the settings of the run name
    /// another number.
    fn make_on(
        &self,
        threads: usize,
        before: Option<(&Job<'_>, Outcome)>,
        watch: &mut (dyn FnMut(Event<'_>) -> bool + Send),
    ) -> Outcome {
        let threads = self
            .config
            .as_ref()
            .ok()
            .and_then(|config| config.model.threads)
            .unwrap_or(threads);
        match rayon::ThreadPoolBuilder::new().num_threads(threads).build() {
            Ok(pool) => pool.install(|| self.make(before, watch)),
            Err(error) => Outcome::Failed(format!("could not start {threads} threads: {error}")),
        }
    }
}

/// The outcome of a run.
fn outcome_of(made: Result<bool, CompareError>) -> Outcome {
    match made {
        Ok(true) => Outcome::Made,
        Ok(false) => Outcome::Stopped,
        Err(error) if error.is_stop() => Outcome::Stopped,
        Err(CompareError::Run(error)) if matches!(*error, RunError::FolderInUse { .. }) => {
            Outcome::Elsewhere(error.to_string())
        }
        Err(error) => Outcome::Failed(error.to_string()),
    }
}

/// The outcome of a job if the job whose adapter it takes was not made.
fn without_adapter((job, outcome): &(&Job<'_>, Outcome)) -> Option<Outcome> {
    match outcome {
        Outcome::Failed(reason) => Some(Outcome::Failed(format!(
            "{}, whose adapter it takes, failed: {reason}",
            job.name
        ))),
        Outcome::Elsewhere(reason) => Some(Outcome::Elsewhere(reason.clone())),
        Outcome::Made | Outcome::Stopped => None,
    }
}

/// A queue from which several threads take jobs: in the order of the list, each once the job that it
/// waits for is over.
struct Queue<'a> {
    jobs: &'a [Job<'a>],
    places: Mutex<Vec<JobState>>,
    /// A job is over, or all are to stop.
    changed: Condvar,
    is_stopped: AtomicBool,
}

/// The state of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
enum JobState {
    Waiting,
    UnderWay,
    Over(Outcome),
}

impl<'a> Queue<'a> {
    fn new(jobs: &'a [Job<'a>]) -> Self {
        let places = Mutex::new(vec![JobState::Waiting; jobs.len()]);
        Self {
            jobs,
            places,
            changed: Condvar::new(),
            is_stopped: AtomicBool::new(false),
        }
    }

    fn go_on(&self) -> bool {
        !self.is_stopped.load(Ordering::Relaxed)
    }

    /// The next job, with the one that it waited for and its outcome. Blocks while a job may become
    /// ready; none if there is no more.
    fn next(&self) -> Option<(usize, Option<(&'a Job<'a>, Outcome)>)> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        while self.go_on() && places.contains(&JobState::Waiting) {
            let before = |place: usize| match self.jobs[place]
                .after
                .map(|before| (before, &places[before]))
            {
                None => Some(None),
                Some((before, JobState::Over(outcome))) => {
                    Some(Some((&self.jobs[before], outcome.clone())))
                }
                Some(_) => None,
            };
            let ready = (0..places.len())
                .filter(|&place| places[place] == JobState::Waiting)
                .find_map(|place| Some((place, before(place)?)));
            if let Some((place, before)) = ready {
                places[place] = JobState::UnderWay;
                return Some((place, before));
            }
            // With a timeout, because a stop only sets a flag.
            places = self
                .changed
                .wait_timeout(places, BEAT)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        None
    }

    /// A job is over.
    fn end(&self, place: usize, outcome: Outcome) {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)[place] = JobState::Over(outcome);
        self.changed.notify_all();
    }
}

/// Stops the other threads if this one panics: jobs that wait for its job would never begin.
struct StopsOthers<'q, 'a>(&'q Queue<'a>);

impl Drop for StopsOthers<'_, '_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.is_stopped.store(true, Ordering::Relaxed);
        }
    }
}

/// Jobs under way.
struct JobList<'a> {
    jobs: &'a [Job<'a>],
    /// One for each job; jobs that were not begun count as stopped.
    outcomes: Vec<Outcome>,
    watch: &'a mut dyn FnMut(Event<'_>) -> bool,
}

/// A message from a thread that makes runs to the one that watches.
enum Message {
    /// The name of a run that begins.
    Begun(String),
    /// The outcome of the job at a place.
    Ended(usize, Outcome),
}

impl JobList<'_> {
    fn one_by_one(&mut self) {
        for (place, job) in self.jobs.iter().enumerate() {
            let before = job
                .after
                .map(|before| (&self.jobs[before], self.outcomes[before].clone()));
            let outcome = job.make(before, self.watch);
            give_back_memory();
            let is_stopped = outcome == Outcome::Stopped;
            self.settle(place, outcome);
            if is_stopped {
                return;
            }
        }
    }

    /// Makes all of them, this many at once.
    fn several(&mut self, at_once: usize) {
        let threads = (rayon::current_num_threads() / at_once).max(1);
        let queue = Queue::new(self.jobs);
        let (told, heard) = channel();
        let make = |told: Sender<Message>| {
            let _stops = StopsOthers(&queue);
            let mut hear = |event: Event<'_>| {
                if let Event::Note(name) = event {
                    // It fails only if the thread that watches has panicked.
                    let _ = told.send(Message::Begun(name));
                }
                queue.go_on()
            };
            while let Some((place, before)) = queue.next() {
                let outcome = self.jobs[place].make_on(threads, before, &mut hear);
                give_back_memory();
                queue.end(place, outcome.clone());
                let _ = told.send(Message::Ended(place, outcome));
            }
        };
        let (jobs, make) = (self.jobs.len(), &make);
        thread::scope(|scope| {
            for told in vec![told; at_once.min(jobs)] {
                scope.spawn(move || make(told));
            }
            self.listen(&heard, &queue.is_stopped);
        });
    }

    /// Passes on all messages to the watcher, until the last thread has ended.
    fn listen(&mut self, heard: &Receiver<Message>, is_stopped: &AtomicBool) {
        let (mut done, total) = (0, self.jobs.len());
        loop {
            let mut go_on = match heard.recv_timeout(BEAT) {
                Ok(Message::Begun(name)) => (self.watch)(Event::Note(name)),
                Ok(Message::Ended(place, outcome)) => {
                    done += 1;
                    self.settle(place, outcome)
                }
                Err(RecvTimeoutError::Timeout) => true,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            go_on &= (self.watch)(Event::Progress {
                what: Stage::Runs,
                done,
                total,
            });
            if !go_on {
                is_stopped.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Keeps the outcome of a job and reports a failure; returns whether to go on.
    fn settle(&mut self, place: usize, outcome: Outcome) -> bool {
        let go_on = match &outcome {
            Outcome::Failed(reason) => (self.watch)(Event::Warning(
                format!("{} failed: {reason}", self.jobs[place].name).into(),
            )),
            Outcome::Elsewhere(reason) => (self.watch)(Event::Warning(
                format!("{} is left out: {reason}", self.jobs[place].name).into(),
            )),
            Outcome::Made | Outcome::Stopped => true,
        };
        self.outcomes[place] = outcome;
        go_on
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::TaskEntry;
    use ivon_lora::data::{DataConfig, Task};
    use ivon_lora::run::UntunedAnswers;

    /// What is asked of a queue of four, of which the second and third wait for the first.
    fn with_queue(ask: impl FnOnce(&Queue<'_>)) {
        let entry = TaskEntry {
            name: "t".into(),
            seeds: None,
            labels: None,
            other_sets: vec![],
            methods: Default::default(),
            settings: Default::default(),
        };
        let dataset = Dataset {
            train: vec![],
            tune: vec![],
            calibrate: vec![],
            test: vec![],
            report: Default::default(),
        };
        let config = DataConfig {
            task: Some("sst2".into()),
            ..DataConfig::default()
        };
        let task = TaskData {
            entry: &entry,
            task: Task::from_config(&config).unwrap(),
            dataset: dataset.clone(),
            divisions: Default::default(),
            model: String::new(),
            untuned: UntunedAnswers::default(),
        };
        let job = |after| Job {
            name: "job".into(),
            folder: "none".into(),
            claims: "none".into(),
            stale_after: BEAT,
            config: Ok(RunConfig::default()),
            task: &task,
            dataset: &dataset,
            other_sets: &[],
            after,
        };
        ask(&Queue::new(&[
            job(None),
            job(Some(0)),
            job(Some(0)),
            job(None),
        ]));
    }

    #[test]
    fn a_job_that_waits_is_left_out_until_the_one_before_it_is_over() {
        with_queue(|queue| {
            let next = || {
                queue
                    .next()
                    .map(|(place, before)| (place, before.map(|(_, outcome)| outcome)))
            };
            assert_eq!(next(), Some((0, None)));
            assert_eq!(next(), Some((3, None)));
            queue.end(0, Outcome::Failed("why".into()));
            assert_eq!(next(), Some((1, Some(Outcome::Failed("why".into())))));
            assert_eq!(next(), Some((2, Some(Outcome::Failed("why".into())))));
            assert_eq!(next(), None);
        });
    }

    #[test]
    fn after_a_stop_no_job_is_begun() {
        with_queue(|queue| {
            assert!(queue.next().is_some());
            queue.is_stopped.store(true, Ordering::Relaxed);
            assert!(queue.next().is_none());
        });
    }
}

//! The thread that predicts with one adapter: requests that wait are answered in one pass.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use ivon_lora::answer::{AnsweredRows, Answerer, RowRequest};
use tokio::sync::{mpsc, oneshot};

use crate::error::Refusal;
use crate::limits::Limits;
use crate::metrics::Metrics;

/// A request, and where its answer goes.
struct Job {
    rows: usize,
    request: RowRequest,
    reply: oneshot::Sender<Result<AnsweredRows, Refusal>>,
}

/// A queue to the thread.
#[derive(Clone)]
pub struct Predicting {
    jobs: mpsc::Sender<Job>,
    waiting: usize,
}

impl Predicting {
    /// Starts the thread. It ends when nobody can ask it any more.
    ///
    /// # Errors
    /// If the operating system refuses a thread.
    pub fn start(
        answerer: Answerer,
        limits: Limits,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::channel(limits.waiting);
        let work = move || answer_all(&answerer, queue, limits.together, &metrics);
        thread::Builder::new()
            .name("predicting".into())
            .spawn(work)?;
        Ok(Self {
            jobs,
            waiting: limits.waiting,
        })
    }

    /// Answers a request of so many rows.
    ///
    /// # Errors
    /// If too many wait, the rows are wrong, or the computation failed.
    pub async fn answer(&self, rows: usize, request: RowRequest) -> Result<AnsweredRows, Refusal> {
        let (reply, answer) = oneshot::channel();
        let job = Job {
            rows,
            request,
            reply,
        };
        self.jobs.try_send(job).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Refusal::busy(self.waiting),
            mpsc::error::TrySendError::Closed(_) => Refusal::failed(),
        })?;
        answer.await.unwrap_or_else(|_| Err(Refusal::failed()))
    }
}

/// Answers requests until nobody asks any more; `together` is the number of rows from which on no
/// other request joins a pass.
fn answer_all(
    answerer: &Answerer,
    mut queue: mpsc::Receiver<Job>,
    together: usize,
    metrics: &Metrics,
) {
    while let Some(job) = queue.blocking_recv() {
        let mut rows = job.rows;
        let mut jobs = vec![job];
        while rows < together
            && let Ok(job) = queue.try_recv()
        {
            rows += job.rows;
            jobs.push(job);
        }
        // Who has gone away needs no answer.
        jobs.retain(|job| !job.reply.is_closed());
        metrics.together.observe(jobs.len() as f64);
        let (requests, replies): (Vec<_>, Vec<_>) =
            jobs.into_iter().map(|job| (job.request, job.reply)).unzip();
        let pass = || answerer.answer_together(requests, &mut |_| true);
        // A mistake in the program ends these requests, and no others.
        let Ok(answered) = catch_unwind(AssertUnwindSafe(pass)) else {
            continue;
        };
        for (reply, answered) in replies.into_iter().zip(answered) {
            if let Ok(answered) = &answered {
                metrics.rows.inc_by(answered.rows.len() as u64);
                metrics.warnings.inc_by(answered.warnings.len() as u64);
            }
            let _ = reply.send(answered.map_err(Refusal::from));
        }
    }
}

//! Schedule, step, loop, checkpoint. The loop names no optimizer.

mod records;
mod error;
mod config;
mod schedule;
mod optimizer;
mod objective;
mod checkpoint;
mod run;

pub use checkpoint::{Checkpoints, Progress, SavedStep};
pub use config::{Length, TrainConfig, Watch};
pub use error::TrainError;
pub use objective::BatchObjective;
pub use optimizer::{Evidence, Objective, Optimizer, Update};
pub use records::{
    Evaluation, EvaluationRecord, Record, RecordError, SampledScores, StepRecord, read_records,
};
pub use run::{CHECKPOINTS_FOLDER, Event, METRICS_FILE, Outcome, Trained, Training, train};
pub use schedule::Schedule;

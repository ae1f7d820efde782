//! Schedule, step, loop, checkpoint. The loop names no optimizer.

mod records;
mod event;
mod error;
mod config;
mod schedule;
mod optimizer;
mod goal;
mod objective;
mod choice_goal;
mod checkpoint;
mod metrics_file;
mod steps;

pub use checkpoint::{Checkpoints, Progress, SavedStep};
pub use choice_goal::ChoiceGoal;
pub use config::{Length, Score, TrainConfig};
pub use error::TrainError;
pub use event::{RunEvent, Stage, Watcher};
pub use goal::Goal;
pub use metrics_file::METRICS_FILE;
use metrics_file::MetricsFile;
pub use objective::BatchObjective;
pub use optimizer::{Evidence, Objective, Optimizer, Update};
pub use records::{
    Evaluation, EvaluationRecord, Record, RecordError, SampledScores, StepRecord, read_records,
};
pub use schedule::Schedule;
pub use steps::{CHECKPOINTS_FOLDER, Event, Outcome, Trained, Training, train};

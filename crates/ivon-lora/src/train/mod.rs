//! Training: what is learned (`Goal`), how it is optimised (`Optimizer`), schedule, loop and
//! checkpoints. The loop knows no particular goal or optimizer.

mod error;
mod schedule;
mod class_weights;
mod config;
mod optimizer;
mod divided;
mod goal;
mod examples;
mod bound;
mod step_pass;
mod objective;
mod choice_goal;
mod text_objective;
mod text_goal;
mod checkpoint;
mod metrics_file;
mod steps;

pub use bound::expected_loss_bound;
pub use checkpoint::{Checkpoints, Position, SavedStep};
pub use choice_goal::ChoiceGoal;
pub use class_weights::{ClassWeights, LossWeights, WeightRule};
pub use config::{Length, Score, TrainConfig};
pub use error::TrainError;
pub use examples::GoalExamples;
pub use goal::Goal;
pub use metrics_file::METRICS_FILE;
use metrics_file::MetricsFile;
pub use objective::BatchObjective;
pub use optimizer::{BoundEvidence, Evidence, Objective, Optimizer, OwnPart, Through, Update};
pub use schedule::Schedule;
pub use steps::{CHECKPOINTS_FOLDER, Outcome, Training, TrainingEnd, training_loop};
pub use text_goal::TextGoal;
pub use text_objective::TextObjective;

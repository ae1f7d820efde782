//! A whole run: settings → data, model, adapter → training → evaluation → the files of the run.

mod error;
mod config;
mod catalogue;
mod cost;
mod memory;
mod estimate;
mod advice;
mod untuned;
mod calibrate;
mod folder;
mod rows;
mod data;
mod classes;
mod finish;
mod finish_texts;
mod ranks;
mod train;

pub use catalogue::{Setting, SettingTable, TABLES, settings};
pub use config::{EvaluationConfig, ModelConfig, Provenance, RunConfig};
pub use cost::Cost;
pub use data::TrainingData;
pub use error::RunError;
pub use estimate::{Estimate, duration};
use folder::SPLITS_FILE;
pub use folder::{ADAPTER_FOLDER, COST_FILE, RUN_FILE, Start, read_run};
pub use memory::{available_memory, give_back_memory};
pub use rows::{changed_files, check_rows, rows_of_run};
pub use train::{TrainedRun, train, train_on_data, train_on_ranks};
pub use untuned::UntunedAnswers;

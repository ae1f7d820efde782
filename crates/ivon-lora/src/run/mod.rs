//! A whole run: settings → data, model, adapter → training → evaluation → the files it leaves.

mod error;
mod config;
mod event;
mod base;
mod memory;
mod estimate;
mod advice;
mod evaluation;
mod lines;
mod calibrate;
mod folder;
mod named;
mod rows;
mod known;
mod classes;
mod finish;
mod train;
mod apply;
mod predict;

pub use apply::{EvaluateRequest, evaluate};
pub(crate) use apply::{Opened, rows, rows_filled};
pub(crate) use base::KnownBase;
pub use base::{Base, device_named};
pub use config::{EvaluationConfig, ModelConfig, Provenance, RunConfig};
pub use error::RunError;
pub use estimate::Estimate;
pub(crate) use estimate::duration;
pub(crate) use evaluation::labels;
pub use evaluation::{AtTemperature, Cost, EvaluationReport, Prediction, Temperatures};
pub use event::{RunEvent, Stage};
pub use folder::read_predictions;
pub use folder::{
    ADAPTER_FOLDER, COST_FILE, EVALUATION_FILE, PREDICTIONS_FILE, RUN_FILE, SPLITS_FILE,
};
pub(crate) use folder::{Start, read_run, write_json};
pub(crate) use known::warn_of_trained;
pub use lines::{LineFormat, PredictedRow, write_lines};
pub(crate) use memory::{available_memory, give_back_memory};
pub use predict::{Input, PredictRequest, predict};
pub(crate) use rows::{changed_files, check_rows, rows_of_run};
pub use train::{TrainedRun, train};
pub(crate) use train::{Watch, train_on};

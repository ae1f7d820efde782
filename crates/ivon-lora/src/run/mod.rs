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
mod record;
mod subject;
mod scale;
mod prune;
mod shift;
mod finish;
mod train;
mod apply;
mod predict;

pub use apply::{EvaluateRequest, evaluate};
pub(crate) use base::KnownBase;
pub use base::{Base, device_named};
pub use config::{EvaluationConfig, ModelConfig, Provenance, RunConfig};
pub use error::RunError;
pub use estimate::Estimate;
pub use evaluation::{AtTemperature, Cost, EvaluationReport, Prediction, Temperatures};
pub use event::{RunEvent, Stage};
pub use folder::{
    ADAPTER_FOLDER, COST_FILE, EVALUATION_FILE, PREDICTIONS_FILE, RUN_FILE, SPLITS_FILE,
};
pub(crate) use folder::{Start, read_run};
pub use lines::{LineFormat, PredictedRow, write_lines};
pub(crate) use memory::{available_memory, give_back_memory};
pub use named::{locate_adapter, named_base};
pub use predict::{Input, PredictRequest, predict};
pub use prune::{PruneRequest, prune};
pub use record::{RunRecord, read_predictions, run_settings};
pub(crate) use rows::check_rows;
pub use scale::{ScaleRequest, scale};
pub use shift::{OtherSet, ShiftRequest, shift};
pub use subject::SubjectRequest;
pub(crate) use train::train_on;
pub use train::{TrainedRun, train};

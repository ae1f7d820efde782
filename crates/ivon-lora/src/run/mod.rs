//! A whole run: settings → data, model, adapter → training → evaluation → the files it leaves.

mod config;

pub use config::{EvaluationConfig, ModelConfig, RunConfig};

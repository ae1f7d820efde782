//! `init`: a commented configuration file.

use ivon_lora::data::Task;
use ivon_lora::files;
use ivon_lora::method::Method;

use super::refuse_existing;
use crate::args::InitArgs;
use crate::exit::{CliError, Exit, Failure};
use crate::init::{Inputs, commented};
use crate::render::print;
use crate::suggest::did_you_mean;

/// Writes the file.
///
/// # Errors
/// If task or optimizer are unknown, or the file exists already or cannot be written.
pub fn run(args: &InitArgs) -> Result<(), Failure> {
    if let Some(task) = &args.task {
        Task::named(task).map_err(|error| CliError {
            exit: Exit::Usage,
            ..error.into()
        })?;
    }
    let optimizer = Method::named(&args.optimizer).ok_or_else(|| {
        let message = format!(
            "`--optimizer` is `{}`, expected one of `{}`",
            args.optimizer,
            Method::NAMES.join("`, `")
        );
        CliError::usage(message, did_you_mean(&args.optimizer, Method::NAMES))
    })?;
    let named = Inputs {
        model: args.model.clone(),
        data: args
            .data
            .as_ref()
            .map(|path| path.to_string_lossy().into_owned()),
        task: args.task.clone(),
    };
    let text = commented(&optimizer, &named).map_err(|error| CliError {
        message: error.to_string(),
        hint: None,
        exit: Exit::Failure,
    })?;
    match &args.out {
        None => print(&text),
        Some(path) => {
            refuse_existing(path)?;
            Ok(files::write_bytes(path, text.as_bytes())?)
        }
    }
}

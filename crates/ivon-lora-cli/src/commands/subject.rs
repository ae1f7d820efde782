//! What `scale`, `prune` and `shift` have in common: an adapter, its base model and its rows.

use ivon_lora::files::check_exists;
use ivon_lora::run::RUN_FILE;
use ivon_lora_lab::study::SubjectRequest;

use super::evaluate::{answer_options, limit, split};
use crate::args::{PredictionArgs, SubjectArgs, TaskFlags};
use crate::exit::CliError;

/// The adapter, its base model and its rows.
///
/// # Errors
/// If the path does not exist, if task, scoring, scale or split are invalid, or if model or data
/// are not named anywhere.
pub fn request(
    subject: &SubjectArgs,
    task: &TaskFlags,
    prediction: &PredictionArgs,
) -> Result<SubjectRequest, CliError> {
    // Otherwise the error would be about the missing model.
    check_exists(&subject.path)?;
    let is_run = subject.path.join(RUN_FILE).exists();
    for (flag, is_there) in [
        ("--model", subject.model.is_some()),
        ("--data", subject.data.is_some()),
    ] {
        if !is_run && !is_there {
            let hint = Some(format!(
                "`{}` is no run, which would say it: name it with `{flag}`",
                subject.path.display()
            ));
            return Err(CliError::usage(
                format!("`{flag}` is absent, and nothing else names it"),
                hint,
            ));
        }
    }
    let options = answer_options(task, prediction)?;
    Ok(SubjectRequest {
        path: subject.path.clone(),
        model: subject.model.clone(),
        data: subject.data.clone(),
        split: split(prediction)?,
        limit: limit(prediction)?,
        options,
    })
}

/// The number of points of a curve.
///
/// # Errors
/// If fewer than two or more than `most`.
pub fn points(points: u32, most: u32) -> Result<usize, CliError> {
    if (2..=most).contains(&points) {
        return Ok(points as usize);
    }
    Err(CliError::usage(
        format!("`--points` is `{points}`, expected a whole number from 2 to {most}"),
        None,
    ))
}

//! `evaluate`: an adapter's scores on a data set.

use ivon_lora::data::{ChatSetting, DataConfig, LabelReading, Role, Task};
use ivon_lora::run::{self, EvaluateRequest};

use super::{base, base_for, fetch, fetch_adapter, prepare, stopped};
use crate::args::{AdapterArgs, EvaluateArgs, HowArgs, TaskArgs};
use crate::exit::{CliError, Exit, Failure};
use crate::render::Screen;
use crate::settings;
use crate::signals::Signals;
use crate::suggest::did_you_mean;

/// Evaluates.
///
/// # Errors
/// Whatever is wrong with base, adapter, data or a file, and a stop by a signal.
pub fn run(args: EvaluateArgs, signals: &Signals) -> Result<(), Failure> {
    let role = args.role.as_deref().map(role).transpose()?;
    let mut request = EvaluateRequest {
        data: args.data,
        role,
        out: args.out,
        ..request(&args.adapter, &args.task, &args.how)?
    };
    prepare(&args.how.device, request.base.threads)?;
    let mut screen = Screen::new(args.screen);
    request.adapter = fetch_adapter(&request.adapter, &mut screen)?;
    request.model = base_for(args.adapter.model, &request.adapter)?;
    fetch(&request.model, &mut screen)?;
    let report = run::evaluate(&request, &mut |event| {
        screen.show(&event) && signals.go_on()
    });
    screen.close();
    let report = report.map_err(|error| stopped(error, signals))?;
    screen.result("evaluated", &report.to_string(), &report)
}

/// What `evaluate` and `predict` ask for alike.
///
/// # Errors
/// If task, scoring, scale or split cannot be.
pub fn request(
    adapter: &AdapterArgs,
    task: &TaskArgs,
    how: &HowArgs,
) -> Result<EvaluateRequest, CliError> {
    Ok(EvaluateRequest {
        adapter: adapter.adapter.clone(),
        ..shared_request(task, how)?
    })
}

/// What every command asks for that predicts with an adapter, its paths left open.
///
/// # Errors
/// As [`request`].
pub fn shared_request(task: &TaskArgs, how: &HowArgs) -> Result<EvaluateRequest, CliError> {
    if let Some(scale) = how
        .scale
        .filter(|scale| !(scale.is_finite() && *scale >= 0.0))
    {
        return Err(CliError::usage(
            format!("`--scale` is `{scale}`, expected a finite number, at least 0"),
            None,
        ));
    }
    if how.eval_limit == Some(0) {
        return Err(CliError::usage(
            "`--eval-limit` is `0`, expected at least 1",
            None,
        ));
    }
    Ok(EvaluateRequest {
        split: how.split.as_deref().map(split).transpose()?,
        task: named(task)?,
        chat_template: task
            .chat_template
            .as_deref()
            .map(|given| match given.parse::<bool>() {
                Ok(own) => ChatSetting::Own(own),
                Err(_) => ChatSetting::File(given.into()),
            }),
        samples: how.samples.map(|samples| samples as usize),
        scale: how.scale,
        eval_limit: how.eval_limit.map(|limit| limit as usize),
        base: base(how),
        id_field: how.id_field.clone(),
        label_reading: how
            .label_reading
            .as_deref()
            .map(label_reading)
            .transpose()?,
        include_text: how.include_text.unwrap_or(false),
        ..EvaluateRequest::default()
    })
}

/// How labels are read, by its name.
fn label_reading(word: &str) -> Result<LabelReading, CliError> {
    serde_json::from_value(word.into()).map_err(|_| {
        let message = format!("`--label-reading` is `{word}`, expected one of `index`, `word`");
        CliError::usage(message, did_you_mean(word, ["index", "word"]))
    })
}

/// A role by its name.
fn role(name: &str) -> Result<Role, CliError> {
    let names = Role::ALL.map(Role::name);
    let found = Role::ALL.into_iter().find(|role| role.name() == name);
    let message = || {
        format!(
            "`--role` is `{name}`, expected one of `{}`",
            names.join("`, `")
        )
    };
    found.ok_or_else(|| CliError::usage(message(), did_you_mean(name, names)))
}

/// A split by its name.
fn split(name: &str) -> Result<String, CliError> {
    let names = ivon_lora::data::Split::ALL.map(ivon_lora::data::Split::name);
    if names.contains(&name) {
        return Ok(name.into());
    }
    let message = format!(
        "`--split` is `{name}`, expected one of `{}`",
        names.join("`, `")
    );
    Err(CliError::usage(message, did_you_mean(name, names)))
}

/// The task that the flags name, if they name one.
fn named(args: &TaskArgs) -> Result<Option<Task>, CliError> {
    let scoring = match args.scoring.as_deref() {
        None => Default::default(),
        Some(word) => serde_json::from_value(word.into()).map_err(|_| {
            let kind = settings::find("data", "scoring")
                .map_or_else(String::new, |setting| setting.kind.name());
            CliError::usage(
                format!("`--scoring` is `{word}`, expected {kind}"),
                did_you_mean(word, ["token", "answer"]),
            )
        })?,
    };
    if args.task.is_none() && args.prompt.is_none() {
        return match args.answers.is_some() || args.label_field.is_some() || args.scoring.is_some()
        {
            true => Err(CliError::usage(
                "`--answers`, `--label-field` and `--scoring` need a task",
                Some("name one with `--task` or `--prompt`".into()),
            )),
            false => Ok(None),
        };
    }
    let config = DataConfig {
        task: args.task.clone(),
        prompt: args.prompt.clone(),
        answers: args.answers.clone(),
        label_field: args.label_field.clone(),
        scoring,
        ..DataConfig::default()
    };
    Task::from_config(&config)
        .map(Some)
        .map_err(|error| CliError {
            exit: Exit::Usage,
            ..error.into()
        })
}

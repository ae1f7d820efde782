//! `evaluate`: an adapter's scores on a data set.

use std::path::Path;

use ivon_lora::answer::{
    AnswerError, AnswerOptions, Answerer, BaseOptions, ExampleSet, Judgement, LabelledRows,
    RunReport, WrittenOptions,
};
use ivon_lora::data::{DataConfig, LabelReading, Task};
use ivon_lora::files;
use ivon_lora::watch::{Event, Watch};

use super::writing::{agreement, compute, similarity, wrong_flag};
use super::{Place, check_scale, prepare_for, role_named, stopped};
use crate::args::{EvaluateArgs, PredictionArgs, TaskFlags};
use crate::exit::{CliError, Exit, Failure};
use crate::render::Screen;
use crate::resolve;
use crate::signals::Signals;
use crate::suggest::did_you_mean;

/// Scores an adapter on a data set.
///
/// # Errors
/// If base model, adapter, data or a file are wrong, and on a stop by a signal.
pub fn run(args: EvaluateArgs, signals: &Signals) -> Result<(), Failure> {
    let role = args.role.as_deref().map(role_named).transpose()?;
    let options = answer_options(&args.task, &args.prediction)?;
    let written = written_options(&args)?;
    let rows = LabelledRows {
        path: args.data,
        split: split(&args.prediction)?,
        role,
        limit: limit(&args.prediction)?,
    };
    prepare_for(&args.prediction)?;
    let mut screen = Screen::new(args.screen);
    let place = Place::of(args.adapter, &mut screen)?;
    let output = Output {
        folder: args.out.as_deref(),
        include_text: args.prediction.include_text.unwrap_or(false),
        written: written.as_ref(),
    };
    let report = score(&place, &options, &rows, output, &mut |event| {
        screen.show(&event) && signals.go_on()
    });
    screen.close();
    let report = report.map_err(|error| stopped(error, signals))?;
    screen.result("evaluated", &report.to_string(), &report)
}

/// What is made of the rows, and where it is written, if anywhere.
#[derive(Clone, Copy)]
struct Output<'a> {
    folder: Option<&'a Path>,
    include_text: bool,
    /// How answers are written to prompts, if they are.
    written: Option<&'a WrittenOptions>,
}

/// How answers are written, if they are to be.
///
/// # Errors
/// If a flag is out of range.
fn written_options(args: &EvaluateArgs) -> Result<Option<WrittenOptions>, CliError> {
    let flags = &args.answers;
    let options = WrittenOptions {
        max_tokens: flags.max_tokens as usize,
        samples: args.prediction.samples.map(|samples| samples as usize),
        temperature: flags.temperature,
        agreement: agreement(&flags.agreement, (!flags.write).then_some("write"))?,
        judgement: Judgement {
            quality: similarity("quality", &flags.quality)?,
            right_from: flags.right_from,
        },
        ..WrittenOptions::default()
    };
    options.validate().map_err(wrong_flag)?;
    Ok(flags.write.then_some(options))
}

/// Scores the rows and writes the results.
fn score(
    place: &Place,
    options: &AnswerOptions,
    rows: &LabelledRows,
    output: Output<'_>,
    watch: Watch<'_>,
) -> Result<RunReport, AnswerError> {
    let mut answerer = Answerer::open(&place.base, &place.adapter, options, watch)?;
    if output.written.is_some() {
        if !answerer.task().is_text() {
            return Err(AnswerError::WritesNothing);
        }
        // Tokens and answers are scored under the same draws.
        answerer = answerer.with_prepared_draws()?;
    }
    let set = answerer.labelled(rows, watch)?;
    if let Some(folder) = output.folder {
        files::create_folder(folder)?;
        files::check_can_write(&folder.join(ivon_lora::answer::EVALUATION_FILE))?;
    }
    if answerer.task().is_text() {
        return score_texts(&answerer, &set, output, watch);
    }
    let evaluation = answerer.evaluate(set, watch)?;
    if let Some(folder) = output.folder {
        for path in evaluation.write(folder, output.include_text)? {
            watch(Event::Saved(&path));
        }
    }
    Ok(RunReport::Choices(Box::new(evaluation.report)))
}

/// Scores texts, and the answers to their prompts if these are to be written.
fn score_texts(
    answerer: &Answerer,
    set: &ExampleSet,
    output: Output<'_>,
    watch: Watch<'_>,
) -> Result<RunReport, AnswerError> {
    let mut evaluation = answerer.evaluate_texts(set, watch)?;
    let written = output.written;
    let written = written.map(|options| answerer.evaluate_written(set, options, watch));
    let written = written.transpose()?;
    evaluation.report.answers = written.as_ref().map(|written| written.report.clone());
    if let Some(folder) = output.folder {
        let mut paths = evaluation.write(folder)?.to_vec();
        if let Some(written) = &written {
            paths.push(written.write(folder)?);
        }
        for path in paths {
            watch(Event::Saved(&path));
        }
    }
    Ok(RunReport::Texts(Box::new(evaluation.report)))
}

/// The options shared by all commands that predict with an adapter.
///
/// # Errors
/// If task, scoring, template or scale are invalid.
pub fn answer_options(
    task: &TaskFlags,
    prediction: &PredictionArgs,
) -> Result<AnswerOptions, CliError> {
    check_scale(prediction.scale)?;
    let described = resolve::task(task)?;
    Ok(AnswerOptions {
        base: BaseOptions {
            device: prediction.device.clone(),
            compute: compute(&prediction.compute)?,
            ..BaseOptions::default()
        },
        task: named(task, &described)?,
        chat_template: task.has("chat-template").then_some(described.chat_template),
        label_reading: prediction
            .label_reading
            .as_deref()
            .map(label_reading)
            .transpose()?,
        id_field: prediction.id_field.clone(),
        samples: prediction.samples.map(|samples| samples as usize),
        scale: prediction.scale,
        decide: false,
    })
}

/// The maximum number of examples.
///
/// # Errors
/// If it is 0.
pub fn limit(prediction: &PredictionArgs) -> Result<Option<usize>, CliError> {
    match prediction.eval_limit {
        Some(0) => Err(CliError::usage(
            "`--eval-limit` is `0`, expected at least 1",
            None,
        )),
        limit => Ok(limit.map(|limit| limit as usize)),
    }
}

/// The reading of labels with this name.
fn label_reading(word: &str) -> Result<LabelReading, CliError> {
    serde_json::from_value(word.into()).map_err(|_| {
        let message = format!("`--label-reading` is `{word}`, expected one of `index`, `word`");
        CliError::usage(message, did_you_mean(word, ["index", "word"]))
    })
}

/// The split named by `--split`.
///
/// # Errors
/// If there is no such split.
pub fn split(prediction: &PredictionArgs) -> Result<Option<String>, CliError> {
    let Some(name) = prediction.split.as_deref() else {
        return Ok(None);
    };
    let names = ivon_lora::data::Split::ALL.map(ivon_lora::data::Split::name);
    if names.contains(&name) {
        return Ok(Some(name.into()));
    }
    let message = format!(
        "`--split` is `{name}`, expected one of `{}`",
        names.join("`, `")
    );
    Err(CliError::usage(message, did_you_mean(name, names)))
}

/// The task named by the flags, if any.
fn named(flags: &TaskFlags, described: &DataConfig) -> Result<Option<Task>, CliError> {
    if described.task.is_none() && described.prompt.is_none() {
        let needing = ["answers", "label-field", "scoring"];
        return match needing.iter().any(|flag| flags.has(flag)) {
            true => Err(CliError::usage(
                "`--answers`, `--label-field` and `--scoring` need a task",
                Some("name one with `--task` or `--prompt`".into()),
            )),
            false => Ok(None),
        };
    }
    Task::from_config(described)
        .map(Some)
        .map_err(|error| CliError {
            exit: Exit::Usage,
            ..error.into()
        })
}

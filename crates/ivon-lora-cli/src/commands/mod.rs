//! One file for each command.

mod report;
mod training;
mod toy;
mod train;
mod writing;
mod evaluate;
mod predict;
mod chat;
mod serve;
mod generate;
mod merge;
mod export;
mod sample;
mod inspect;
mod compare;
mod subject;
mod scale;
mod decide;
mod prune;
mod shift;
mod rank;
mod preview;
mod init;
mod completions;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use ivon_lora::answer::{AnswerError, device_named};
use ivon_lora::bundle::{locate_adapter, named_base};
use ivon_lora::data::{DataConfig, Role, Task, find_files, read_first_rows};
use ivon_lora::model::{Checkpoint, HubSettings, ModelHeaders, Purpose};
use ivon_lora::run::{ModelConfig, RunError};
use ivon_lora_lab::compare::CompareError;
use ivon_lora_lab::study::StudyError;

use crate::args::{AdapterArgs, Command, DataCommand, PredictionArgs};
use crate::exit::{CliError, Exit, Failure};
use crate::render::Screen;
use crate::signals::Signals;
use crate::suggest::did_you_mean;

/// Runs a command.
///
/// # Errors
/// Whatever stops a command early.
pub fn run(command: Command, signals: &Signals) -> Result<(), Failure> {
    match command {
        Command::Train(args) => train::run(&args, signals),
        Command::Evaluate(args) => evaluate::run(args, signals),
        Command::Predict(args) => predict::run(args, signals),
        Command::Generate(args) => generate::run(*args, signals),
        Command::Chat(args) => chat::run(&args, signals),
        Command::Serve(args) => serve::run(&args, signals),
        Command::Merge(args) => merge::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Sample(args) => sample::run(&args),
        Command::Inspect(what) => inspect::run(&what),
        Command::Compare(args) => compare::run(args, signals),
        Command::Scale(args) => scale::run(args, signals),
        Command::Decide(args) => decide::run(*args, signals),
        Command::Prune(args) => prune::run(args, signals),
        Command::Shift(args) => shift::run(args, signals),
        Command::Rank(args) => rank::run(args, signals),
        Command::Report(args) => report::run(&args),
        Command::Data(DataCommand::Preview(args)) => preview::run(&args),
        Command::Init(args) => init::run(&args),
        Command::Completions(args) => completions::run(&args),
    }
}

/// Opens a model and shows the notes on its files; downloads show their progress.
fn open(model: &str, purpose: Purpose, screen: &mut Screen) -> Result<Checkpoint, CliError> {
    let hub = HubSettings::from_env();
    let checkpoint = Checkpoint::open_for(model, purpose, &hub, &mut |event| screen.show(&event))?;
    checkpoint
        .notes()
        .iter()
        .for_each(|note| screen.note(note.as_str()));
    Ok(checkpoint)
}

/// Opens a model for inspection and shows the notes on its files; no weights are downloaded from
/// the hub.
fn open_headers(model: &str, screen: &mut Screen) -> Result<ModelHeaders, CliError> {
    let headers = ModelHeaders::open(model, &HubSettings::from_env(), &mut |event| {
        screen.show(&event)
    })?;
    headers
        .checkpoint()
        .notes()
        .iter()
        .for_each(|note| screen.note(note.as_str()));
    Ok(headers)
}

/// The folder of an adapter, which may be named by its run or its hub name; an adapter on the hub
/// is downloaded first.
fn fetch_adapter(named: &Path, screen: &mut Screen) -> Result<PathBuf, CliError> {
    Ok(locate_adapter(named, &mut |event| screen.show(&event))?)
}

/// The base model for an adapter: the one given, else the one the adapter names.
fn base_for(model: Option<String>, adapter: &Path) -> Result<String, CliError> {
    match model.map(Some).map_or_else(|| named_base(adapter), Ok)? {
        Some(model) => Ok(model),
        None => {
            let message = format!(
                "`--model` is absent, and `{}` names no base",
                adapter.display()
            );
            Err(CliError::usage(
                message,
                Some("name the model that the adapter was trained on with `--model`".into()),
            ))
        }
    }
}

/// Checks a factor of the posterior's variance.
fn check_scale(scale: Option<f64>) -> Result<(), CliError> {
    match scale.filter(|scale| !(scale.is_finite() && *scale >= 0.0)) {
        None => Ok(()),
        Some(scale) => {
            let message = format!("`--scale` is `{scale}`, expected a finite number, at least 0");
            Err(CliError::usage(message, None))
        }
    }
}

/// Prepares the machine: checks that the device is in this build, and gives rayon's pool the
/// requested number of threads.
fn prepare(device: &str, threads: Option<usize>) -> Result<(), CliError> {
    if !ModelConfig::DEVICES.contains(&device) {
        let known = ModelConfig::DEVICES
            .iter()
            .map(|name| format!("`{name}`"))
            .collect::<Vec<_>>()
            .join(", ");
        let hint = did_you_mean(device, ModelConfig::DEVICES.iter().copied());
        return Err(CliError::usage(
            format!("`--device` is `{device}`, expected one of {known}"),
            hint,
        ));
    }
    device_named(device)?;
    match threads {
        Some(0) => Err(CliError::usage(
            "`--threads` is `0`, expected at least 1",
            None,
        )),
        None => Ok(()),
        Some(threads) => rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build_global()
            .map_err(|error| CliError {
                message: format!("could not start {threads} threads: {error}"),
                hint: None,
                exit: Exit::Failure,
            }),
    }
}

/// Like [`prepare`], for the commands that predict with an adapter.
fn prepare_for(prediction: &PredictionArgs) -> Result<(), CliError> {
    let threads = prediction.threads.map(|threads| threads as usize);
    prepare(&prediction.device, threads)
}

/// The base model and the adapter to open.
struct Place {
    /// The base model: a folder, a GGUF file or a hub name.
    base: String,
    /// The adapter's folder.
    adapter: PathBuf,
}

impl Place {
    /// Locates both, and downloads the adapter if it is on the hub.
    fn of(args: AdapterArgs, screen: &mut Screen) -> Result<Self, CliError> {
        let adapter = fetch_adapter(&args.adapter, screen)?;
        let base = base_for(args.model, &adapter)?;
        Ok(Self { base, adapter })
    }
}

/// The error of a task that can be stopped.
trait Stoppable: Into<Failure> {
    /// Whether it is the stop that the listener requested.
    fn is_stop(&self) -> bool;
}

macro_rules! stoppable {
    ($($error:ty),+) => {$(
        impl Stoppable for $error {
            fn is_stop(&self) -> bool {
                self.is_stop()
            }
        }
    )+};
}

stoppable!(AnswerError, RunError, StudyError, CompareError);

/// Converts an error of the library; an error caused by a signal is a stop.
fn stopped(error: impl Stoppable, signals: &Signals) -> Failure {
    match error.is_stop() {
        true => stop(signals),
        false => error.into(),
    }
}

/// The stop requested by a signal, or by the reader of our output.
fn stop(signals: &Signals) -> Failure {
    signals.exit().map_or(Failure::BrokenPipe, Failure::Stopped)
}

/// Infers the task from the data if none is named; returns a note that says so.
///
/// # Errors
/// If there are no data at the path.
fn detect_task(data: &mut DataConfig) -> Result<Option<String>, CliError> {
    let files = find_files(&data.path, "")?;
    if data.task.is_some() || data.prompt.is_some() {
        return Ok(None);
    }
    let first = files.iter().flat_map(|split| &split.paths).next();
    let row = first
        .map(|path| read_first_rows(path, 1))
        .transpose()?
        .and_then(|rows| rows.into_iter().next());
    let Some(task) = Task::detect(&data.path, row.as_ref()) else {
        return Ok(None);
    };
    data.task = Some(task.into());
    Ok(Some(format!(
        "task: {task}, told by the data; name another with --task"
    )))
}

/// The role named by `--role`.
fn role_named(name: &str) -> Result<Role, CliError> {
    let names = Role::ALL.map(Role::name);
    let message = || {
        format!(
            "`--role` is `{name}`, expected one of `{}`",
            names.join("`, `")
        )
    };
    let mut roles = Role::ALL.into_iter();
    roles
        .find(|role| role.name() == name)
        .ok_or_else(|| CliError::usage(message(), did_you_mean(name, names)))
}

/// Refuses to write to an existing path.
fn refuse_existing(path: &Path) -> Result<(), CliError> {
    if path.symlink_metadata().is_err() {
        return Ok(());
    }
    let hint = Some("remove it, or name another with `--out`".into());
    Err(CliError {
        message: format!("`{}` already exists", path.display()),
        hint,
        exit: Exit::File,
    })
}

/// Whether standard input is a terminal.
fn is_typed() -> bool {
    std::io::stdin().is_terminal()
}

//! `train`: passes a resolved run to the library, shows its events, and prints its scores.

use std::path::PathBuf;
use std::time::Duration;

use ivon_lora::run::{self, RunConfig, TrainedRun};

use super::training::{carry_out, dry_run, value};
use super::{detect_task, prepare, toy};
use crate::args::{ScreenArgs, TrainArgs};
use crate::exit::{CliError, Failure};
use crate::ranks::{RunRanks, abort};
use crate::render::Screen;
use crate::resolve::{self, ResolvedRun};
use crate::signals::Signals;

/// Trains an adapter.
///
/// # Errors
/// If settings, data, model or a file are wrong, and on a stop by a signal.
pub fn run(args: &TrainArgs, signals: &Signals) -> Result<(), Failure> {
    let ResolvedRun {
        mut config,
        mut notes,
    } = resolve::train(args)?;
    let is_toy = config.model.path.is_none() && config.data.path.as_os_str().is_empty();
    if !is_toy {
        named(&config)?;
        notes.extend(detect_task(&mut config.data)?);
        config.out.get_or_insert_with(|| {
            default_out(&config.data.task, config.optimizer.name(), config.seed)
        });
    }
    if args.dry_run && !is_toy {
        return dry_run(&config);
    }
    let ranks = RunRanks::started(signals)?;
    if is_toy {
        check_alone(&ranks)?;
        return toy::run(args, signals);
    }
    prepare(&config.model.device, config.model.threads)?;
    let mut screen = Screen::new(match ranks.speaks() {
        true => args.screen,
        false => ScreenArgs {
            quiet: true,
            json: false,
        },
    });
    notes.into_iter().for_each(|note| screen.note(note));
    let trained = carry_out(&config, args.resume, &*ranks, &mut screen, signals);
    let trained = trained.map_err(|failure| ended_for_all(&ranks, failure))?;
    match ranks.speaks() {
        true => screen.result("trained", &text(&trained), &value(&trained)),
        false => Ok(()),
    }
}

/// The built-in example is too small to be divided.
fn check_alone(ranks: &RunRanks) -> Result<(), CliError> {
    match ranks.size() {
        1 => Ok(()),
        size => Err(CliError::usage(
            format!("the built-in example is trained by one process, but {size} were started"),
            Some("name `--model` and `--data`".into()),
        )),
    }
}

/// How long another rank leaves it to the first one to say what has failed, if all know of it.
const LEFT_TO_THE_FIRST: Duration = Duration::from_secs(1);

/// The failure of a rank, after which no other one may wait for it: said, and all processes ended.
fn ended_for_all(ranks: &RunRanks, failure: Failure) -> Failure {
    if let (true, Failure::Error(error)) = (ranks.size() > 1, &failure) {
        if !ranks.speaks() {
            std::thread::sleep(LEFT_TO_THE_FIRST);
        }
        error.show();
        abort(error.exit);
    }
    failure
}

/// What is printed after a run.
fn text(trained: &TrainedRun) -> String {
    let text = trained
        .report
        .as_ref()
        .map_or_else(String::new, |report| format!("{report}\n"));
    let kept = if trained.kept_step == trained.steps {
        String::new()
    } else {
        format!(", the weights of step {} are kept", trained.kept_step)
    };
    format!(
        "{text}\n{} steps{kept}; the adapter is in {}",
        trained.steps,
        trained.folder.join(run::ADAPTER_FOLDER).display()
    )
}

/// Checks that both model and data are named.
fn named(config: &RunConfig) -> Result<(), CliError> {
    let (missing, flag, what) = match (&config.model.path, config.data.path.as_os_str().is_empty())
    {
        (None, _) => (
            "model",
            "--model",
            "a Hugging Face folder, a .gguf file, or a hub name such as HuggingFaceTB/SmolLM2-135M",
        ),
        (_, true) => (
            "data",
            "--data",
            "a folder with train and test files, or one file",
        ),
        _ => return Ok(()),
    };
    let hint = format!(
        "name {what} with `{flag}`; without model and data the built-in example is trained"
    );
    Err(CliError::usage(
        format!("no {missing} is named"),
        Some(hint),
    ))
}

/// `runs/sst2-ivon-0`.
fn default_out(task: &Option<String>, optimizer: &str, seed: u64) -> PathBuf {
    PathBuf::from("runs").join(format!(
        "{}-{optimizer}-{seed}",
        task.as_deref().unwrap_or("custom")
    ))
}

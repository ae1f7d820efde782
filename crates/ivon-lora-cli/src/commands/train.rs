//! `train`: passes a resolved run to the library, shows its events, and prints its scores.

use std::path::PathBuf;

use ivon_lora::run::{self, RunConfig, TrainedRun};

use super::training::{carry_out, dry_run, value};
use super::{detect_task, prepare, toy};
use crate::args::TrainArgs;
use crate::exit::{CliError, Failure};
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
    if is_toy {
        return toy::run(args, signals);
    }
    if args.dry_run {
        return dry_run(&config);
    }
    prepare(&config.model.device, config.model.threads)?;
    let mut screen = Screen::new(args.screen);
    notes.into_iter().for_each(|note| screen.note(note));
    let trained = carry_out(&config, args.resume, &mut screen, signals)?;
    screen.result("trained", &text(&trained), &value(&trained))
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

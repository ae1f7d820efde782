//! Trains a resolved run, shows its events, and writes its page.

use ivon_lora::files;
use ivon_lora::ranks::Ranks;
use ivon_lora::run::{self, RunConfig, TrainedRun};
use ivon_lora::train::Outcome;
use ivon_lora::watch::Event;
use ivon_lora_lab::report::RunRecord;
use serde_json::{Value, json};

use super::{report, stop, stopped};
use crate::exit::{CliError, Exit, Failure};
use crate::names::Flags;
use crate::render::{Screen, print};
use crate::signals::Signals;

/// Prints the resolved run.
pub fn dry_run(config: &RunConfig) -> Result<(), Failure> {
    let text = toml::to_string_pretty(config).map_err(|error| CliError {
        message: error.to_string(),
        hint: None,
        exit: Exit::Failure,
    })?;
    print(&text)
}

/// Trains and shows events as they happen.
///
/// # Errors
/// If data, model or a file are wrong, and on a stop by a signal.
pub fn carry_out(
    config: &RunConfig,
    resume: bool,
    ranks: &dyn Ranks,
    screen: &mut Screen,
    signals: &Signals,
) -> Result<TrainedRun, Failure> {
    let trained = run::train_on_ranks(config, resume, ranks, &mut |event| {
        screen.show(&event) && signals.go_on()
    });
    screen.close();
    let trained = trained.map_err(|error| stopped(error, signals))?;
    if trained.outcome == Outcome::Interrupted {
        screen.note(format!(
            "stopped after step {} and saved: go on with `--resume --out {}`",
            trained.steps,
            trained.folder.display()
        ));
        return Err(stop(signals));
    }
    if ranks.rank() > 0 {
        return Ok(trained);
    }
    let page = trained.folder.join(report::FILE);
    files::write_bytes(
        &page,
        RunRecord::read(&trained.folder)?
            .page()?
            .html(&Flags)
            .as_bytes(),
    )?;
    screen.show(&Event::Saved(&page));
    Ok(trained)
}

/// The result of a run, for `--json`.
pub fn value(trained: &TrainedRun) -> Value {
    json!({
        "folder": trained.folder.display().to_string(),
        "outcome": if trained.outcome == Outcome::StoppedEarly { "stopped_early" } else { "finished" },
        "steps": trained.steps,
        "kept_step": trained.kept_step,
        "evaluation": trained.report,
    })
}

//! `shift`: a run's scores and uncertainties on data it was not trained for.

use ivon_lora_lab::study::{self, OtherSet, ShiftRequest};

use super::{prepare_for, stopped, subject};
use crate::args::ShiftArgs;
use crate::exit::{CliError, Failure};
use crate::render::Screen;
use crate::signals::Signals;
use crate::suggest::did_you_mean;

/// Evaluates the run on its held-out rows and on other data sets.
///
/// # Errors
/// If flags, base model, adapter, rows or a file are wrong, and on a stop by a signal.
pub fn run(args: ShiftArgs, signals: &Signals) -> Result<(), Failure> {
    let to = sets(&args.to, &args.fields)?;
    let subject = subject::request(&args.subject, &args.task, &args.prediction)?;
    prepare_for(&args.prediction)?;
    let mut screen = Screen::new(args.screen);
    let request = ShiftRequest {
        subject,
        to,
        out: args.out,
    };
    let report = study::shift(&request, &mut |event| {
        screen.show(&event) && signals.go_on()
    });
    screen.close();
    let report = report.map_err(|error| stopped(error, signals))?;
    let text = format!(
        "{}\ntold from the held-out rows by\n{}\nAUROC: how often a row of the set is less certain than a held-out one; 0.5 says nothing",
        report.scores().to_text(),
        report.detection().to_text()
    );
    screen.result("shifted", &text, &report)
}

/// The other data sets, with the columns that fill their fields.
fn sets(to: &[String], fields: &[String]) -> Result<Vec<OtherSet>, CliError> {
    let mut sets: Vec<OtherSet> = Vec::new();
    for given in to {
        let set = other_set(given)?;
        if sets.iter().any(|other| other.name == set.name) {
            return Err(wrong("to", given, "another name for each set"));
        }
        sets.push(set);
    }
    for given in fields {
        let (name, field, column) = field_column(given)?;
        let names: Vec<&str> = sets.iter().map(|set| set.name.as_str()).collect();
        let Some(index) = names.iter().position(|known| *known == name) else {
            let message = format!(
                "`--fields` names the set `{name}`, expected one that `--to` names: `{}`",
                names.join("`, `")
            );
            return Err(CliError::usage(message, did_you_mean(name, names)));
        };
        sets[index].fields.push((field.into(), column.into()));
    }
    Ok(sets)
}

/// `NAME=PATH`.
fn other_set(given: &str) -> Result<OtherSet, CliError> {
    let parts = given.split_once('=');
    let (name, path) = parts
        .filter(|(name, path)| !name.is_empty() && !path.is_empty())
        .ok_or_else(|| wrong("to", given, "NAME=PATH, such as `passages=data/boolq`"))?;
    Ok(OtherSet {
        name: name.into(),
        path: path.into(),
        fields: Vec::new(),
    })
}

/// `NAME:FIELD=COLUMN`.
fn field_column(given: &str) -> Result<(&str, &str, &str), CliError> {
    let parts = given.split_once('=').and_then(|(left, column)| {
        let (name, field) = left.rsplit_once(':')?;
        Some((name, field, column))
    });
    let expected = "NAME:FIELD=COLUMN, such as `passages:text=passage`";
    parts
        .filter(|(_, field, column)| !field.is_empty() && !column.is_empty())
        .ok_or_else(|| wrong("fields", given, expected))
}

fn wrong(flag: &str, found: &str, expected: &str) -> CliError {
    CliError::usage(
        format!("`--{flag}` is `{found}`, expected {expected}"),
        None,
    )
}

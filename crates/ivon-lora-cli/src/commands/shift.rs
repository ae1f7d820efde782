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
    let subject = subject::request(&args.subject, &args.task, &args.how)?;
    prepare_for(&args.how)?;
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
    let wrong = |flag: &str, found: &str, expected: &str| {
        CliError::usage(
            format!("`--{flag}` is `{found}`, expected {expected}"),
            None,
        )
    };
    let mut sets: Vec<OtherSet> = Vec::new();
    for given in to {
        let parts = given
            .split_once('=')
            .filter(|(name, path)| !name.is_empty() && !path.is_empty());
        let (name, path) =
            parts.ok_or_else(|| wrong("to", given, "NAME=PATH, such as `passages=data/boolq`"))?;
        if sets.iter().any(|set| set.name == name) {
            return Err(wrong("to", given, "another name for each set"));
        }
        sets.push(OtherSet {
            name: name.into(),
            path: path.into(),
            fields: Vec::new(),
        });
    }
    for given in fields {
        let parts = given
            .split_once('=')
            .and_then(|(left, column)| Some((left.rsplit_once(':')?, column)));
        let parts = parts.filter(|((_, field), column)| !field.is_empty() && !column.is_empty());
        let ((name, field), column) = parts.ok_or_else(|| {
            wrong(
                "fields",
                given,
                "NAME:FIELD=COLUMN, such as `passages:text=passage`",
            )
        })?;
        let names: Vec<String> = sets.iter().map(|set| set.name.clone()).collect();
        let Some(set) = sets.iter_mut().find(|set| set.name == name) else {
            let message = format!(
                "`--fields` names the set `{name}`, expected one that `--to` names: `{}`",
                names.join("`, `")
            );
            return Err(CliError::usage(
                message,
                did_you_mean(name, names.iter().map(String::as_str)),
            ));
        };
        set.fields.push((field.into(), column.into()));
    }
    Ok(sets)
}

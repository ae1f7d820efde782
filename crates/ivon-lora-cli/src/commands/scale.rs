//! `scale`: scores against τ as tables and plots, and the best τ.

use ivon_lora::files;
use ivon_lora_lab::report::ScaleReport;
use ivon_lora_lab::study::{self, ScaleRequest};

use super::report::write_plots;
use super::subject;
use super::{prepare_for, stopped};
use crate::args::ScaleArgs;
use crate::exit::{CliError, Failure};
use crate::names;
use crate::render::Screen;
use crate::signals::Signals;

/// The maximum number of values of τ: each costs a pass over all rows for every draw.
const MOST: u32 = 1000;

/// Scores the adapter at each τ.
///
/// # Errors
/// If flags, base model, adapter, rows or a file are wrong, and on a stop by a signal.
pub fn run(args: ScaleArgs, signals: &Signals) -> Result<(), Failure> {
    check_end(args.end)?;
    let points = subject::points(args.points, MOST)?;
    let subject = subject::request(&args.subject, &args.task, &args.prediction)?;
    prepare_for(&args.prediction)?;
    if let Some(folder) = &args.svg {
        files::create_folder(folder)?;
    }
    let mut screen = Screen::new(args.screen);
    let request = ScaleRequest {
        subject,
        end: args.end,
        points,
        write: args.write,
    };
    let report = study::scale(&request, &mut |event| {
        screen.show(&event) && signals.go_on()
    });
    screen.close();
    let report = report.map_err(|error| stopped(error, signals))?;
    if let Some(folder) = args.svg {
        write_plots(folder, &report.figures())?;
    }
    screen.result("scaled", &text(&report), &report)
}

/// A table for each score, and a sentence on the chosen τ.
fn text(report: &ScaleReport) -> String {
    let tables = report.tables();
    let tables = tables
        .iter()
        .map(|(name, table)| format!("{name} on {}\n{}\n", report.split, table.to_text()));
    tables.collect::<String>() + &names::written(&report.sentence())
}

/// Checks the largest τ.
fn check_end(end: f64) -> Result<(), CliError> {
    if end.is_finite() && end > 0.0 {
        return Ok(());
    }
    Err(CliError::usage(
        format!("`--end` is `{end}`, expected a finite number above 0"),
        None,
    ))
}

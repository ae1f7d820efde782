//! `prune`: scores against the share of weights set to zero, and one pruned adapter as a folder.

use ivon_lora::files;
use ivon_lora_lab::study::{self, PruneRequest};

use super::report::write_plots;
use super::subject;
use super::{prepare_for, refuse_existing, stopped};
use crate::args::PruneArgs;
use crate::exit::{CliError, Failure};
use crate::render::Screen;
use crate::signals::Signals;

/// The maximum number of shares.
const MOST: u32 = 1001;

/// Scores the adapter at each share.
///
/// # Errors
/// If flags, base model, adapter, rows or a file are wrong, and on a stop by a signal.
pub fn run(args: PruneArgs, signals: &Signals) -> Result<(), Failure> {
    args.share.map(check_share).transpose()?;
    let points = subject::points(args.points, MOST)?;
    let write = args.share.zip(args.out);
    if let Some((_, out)) = &write {
        refuse_existing(out)?;
    }
    let subject = subject::request(&args.subject, &args.task, &args.prediction)?;
    prepare_for(&args.prediction)?;
    if let Some(folder) = &args.svg {
        files::create_folder(folder)?;
    }
    let mut screen = Screen::new(args.screen);
    let request = PruneRequest {
        subject,
        points,
        write,
    };
    let report = study::prune(&request, &mut |event| {
        screen.show(&event) && signals.go_on()
    });
    screen.close();
    let report = report.map_err(|error| stopped(error, signals))?;
    if let Some(folder) = args.svg {
        write_plots(folder, &report.figures())?;
    }
    let text = format!(
        "{} ({} examples), {} weights\n{}",
        report.split,
        report.n,
        report.weights,
        report.table().to_text()
    );
    screen.result("pruned", &text, &report)
}

/// Checks a share of weights.
fn check_share(share: f64) -> Result<(), CliError> {
    if (0.0..=1.0).contains(&share) {
        return Ok(());
    }
    Err(CliError::usage(
        format!("`--share` is `{share}`, expected a number from 0 to 1"),
        None,
    ))
}

//! `inspect`: what is in a model, an adapter, a data set or a run, as text or as JSON.

mod adapter;
mod data;
mod composition;
mod model;
mod run;

use std::fmt::Write;

use serde::Serialize;

use crate::args::InspectCommand;
use crate::exit::Failure;
use crate::render::{print, write_pretty};

/// Prints what is in a model, an adapter, a data set or a run.
///
/// # Errors
/// If it cannot be read.
pub fn run(what: &InspectCommand) -> Result<(), Failure> {
    match what {
        InspectCommand::Model(args) => show(args.json, model::inspect(&args.model)?),
        InspectCommand::Adapter(args) => show(args.json, adapter::inspect(&args.path)?),
        InspectCommand::Data(args) => show(args.json, data::inspect(&args.path)?),
        InspectCommand::Run(args) => show(args.json, run::inspect(&args.path)?),
    }
}

/// An overview: JSON for programs, text for people.
trait Overview: Serialize {
    fn text(&self) -> String;
}

fn show(json: bool, overview: impl Overview) -> Result<(), Failure> {
    if json {
        write_pretty(&overview)
    } else {
        print(&overview.text())
    }
}

/// Names and values, one pair per line, with aligned values.
fn pairs(pairs: &[(&str, String)]) -> String {
    let width = pairs
        .iter()
        .map(|(name, _)| name.chars().count())
        .max()
        .unwrap_or(0);
    pairs.iter().fold(String::new(), |mut text, (name, value)| {
        let _ = writeln!(text, "{name:<width$}  {value}");
        text
    })
}

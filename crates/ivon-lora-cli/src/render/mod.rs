//! Shows the events of a run: a progress bar on a terminal, plain lines elsewhere, JSON lines for
//! programs, or nothing.
//!
//! Results go to standard output, everything else to standard error.

mod json;
mod pace;
mod text;
mod bar;
mod lines;

use std::io::{self, IsTerminal, Write};
use std::path::Path;

use ivon_lora::watch::{Event, Stage};
use serde::Serialize;
use serde_json::Value;

use crate::args::ScreenArgs;
use crate::exit::Failure;
use bar::Bar;
use lines::Lines;

pub use text::{bytes, count};

/// Where a run's events are shown.
#[derive(Debug)]
pub struct Screen {
    mode: Mode,
    /// Whether the reader of our output has closed the pipe.
    reader_gone: bool,
}

#[derive(Debug)]
enum Mode {
    Quiet,
    Json,
    Lines(Lines),
    Bar(Bar),
}

impl Screen {
    /// The screen that suits the flags and the terminal.
    pub fn new(args: ScreenArgs) -> Self {
        let mode = match (args.json, args.quiet) {
            (true, _) => Mode::Json,
            (false, true) => Mode::Quiet,
            _ if io::stderr().is_terminal() => Mode::Bar(Bar::default()),
            _ => Mode::Lines(Lines::default()),
        };
        Self {
            mode,
            reader_gone: false,
        }
    }

    /// For a command that writes its own JSON lines to standard output: `--json` then only silences
    /// everything else.
    pub fn beside_lines(args: ScreenArgs) -> Self {
        Self::new(ScreenArgs {
            quiet: args.quiet || args.json,
            json: false,
        })
    }

    /// Shows an event; returns whether the reader is still there.
    pub fn show(&mut self, event: &Event<'_>) -> bool {
        match *event {
            Event::Received {
                received, total, ..
            } => {
                return self.show(&Event::Progress {
                    what: Stage::Downloading,
                    done: received as usize,
                    total: total.max(received) as usize,
                });
            }
            Event::Member(number, of) => {
                return self.show(&Event::Note(format!("member {number} of {of}")));
            }
            _ => {}
        }
        match &mut self.mode {
            Mode::Quiet => {}
            Mode::Json => self.reader_gone |= write_line(&json::event(event)).is_err(),
            Mode::Lines(lines) => lines.show(event),
            Mode::Bar(bar) => bar.show(event),
        }
        !self.reader_gone
    }

    /// Shows a sentence.
    pub fn note(&mut self, text: impl Into<String>) {
        self.show(&Event::Note(text.into()));
    }

    /// Removes the bar.
    pub fn close(&mut self) {
        if let Mode::Bar(bar) = &mut self.mode {
            bar.clear();
        }
    }

    /// Prints the result: `text` for people, or `value` as a JSON object with the field `event`.
    ///
    /// # Errors
    /// If standard output cannot be written.
    pub fn result(
        &mut self,
        event: &str,
        text: &str,
        value: &impl Serialize,
    ) -> Result<(), Failure> {
        self.close();
        if self.reader_gone {
            return Err(Failure::BrokenPipe);
        }
        match self.mode {
            Mode::Json => write_line(&json::tagged(event, value)),
            _ => print(text),
        }
    }
}

/// Whether a saved path is a checkpoint; there are too many of them to report.
fn is_checkpoint(path: &Path) -> bool {
    path.parent()
        .and_then(Path::file_name)
        .is_some_and(|folder| folder == "checkpoints")
}

/// Writes a text and a line break to standard output.
///
/// # Errors
/// If it cannot be written.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.trim_end_matches('\n').as_bytes())?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

/// Writes a value as one line of JSON to standard output.
///
/// # Errors
/// If it cannot be written.
pub fn write_line(value: &Value) -> Result<(), Failure> {
    print(&value.to_string())
}

/// Writes a value as indented JSON to standard output.
///
/// # Errors
/// If it cannot be written.
pub fn write_pretty(value: &impl Serialize) -> Result<(), Failure> {
    print(&serde_json::to_string_pretty(value).map_err(io::Error::from)?)
}

/// Writes a line to standard error. If nobody is there to read it, that is no reason to stop.
fn say(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

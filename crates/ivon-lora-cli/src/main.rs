//! The command `ivon-lora`: flags and a configuration file → one resolved run → the library.

mod colour;
mod names;
mod exit;
mod memory;
mod signals;
mod suggest;
mod settings;
mod file;
mod init;
mod args;
mod usage;
mod resolve;
mod render;
mod ranks;
mod commands;
#[cfg(test)]
mod tests;

use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use clap::Parser;

use args::Args;
use exit::{CliError, Exit, Failure};
use memory::Memory;
use signals::Signals;

#[global_allocator]
static MEMORY: Memory = Memory;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => match usage::error(&error) {
            Some(wrong) => return report(&wrong),
            None => {
                // `--help` or `--version`; the reader may close the pipe early.
                let _ = error.print();
                return ExitCode::SUCCESS;
            }
        },
    };
    match without_panic(|| run(args)) {
        Ok(()) | Err(Failure::BrokenPipe) => ExitCode::SUCCESS,
        Err(Failure::Stopped(exit)) => code(exit),
        Err(Failure::Error(error)) => report(&error),
    }
}

fn run(args: Args) -> Result<(), Failure> {
    let signals = Signals::listen().map_err(|error| CliError {
        message: format!("could not listen to signals: {error}"),
        hint: None,
        exit: Exit::Failure,
    })?;
    commands::run(args.command, &signals)
}

fn code(exit: Exit) -> ExitCode {
    ExitCode::from(exit as u8)
}

fn report(error: &CliError) -> ExitCode {
    error.show();
    code(error.exit)
}

/// Reports a panic as a bug, naming the library it occurred in; RUST_BACKTRACE shows the backtrace.
/// Some libraries panic on malformed files and are caught at the call, so nothing is printed until
/// it is clear that nobody caught the panic.
fn without_panic(work: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    if std::env::var_os("RUST_BACKTRACE").is_some() {
        return work();
    }
    let last = Arc::new(Mutex::new(String::new()));
    let seen = Arc::clone(&last);
    panic::set_hook(Box::new(move |info| {
        let library = info.location().and_then(|place| library(place.file()));
        let place = library.map_or_else(
            || "internal error".into(),
            |library| format!("internal error in the library `{library}`"),
        );
        *seen.lock().unwrap_or_else(PoisonError::into_inner) =
            format!("{place}: {}", info.to_string().replace('\n', " "));
    }));
    panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        let message = last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let hint = Some("this is a mistake in the program: please report it, with the output under RUST_BACKTRACE=1".into());
        Err(CliError { message, hint, exit: Exit::Failure }.into())
    })
}

/// The library that a source file belongs to, from its path in cargo's registry:
/// `…/registry/src/INDEX/NAME-VERSION/…`.
fn library(file: &str) -> Option<&str> {
    let parts: Vec<&str> = file.split(['/', '\\']).collect();
    let source = parts
        .windows(2)
        .position(|pair| pair == ["registry", "src"])?;
    parts.get(source + 3).copied()
}

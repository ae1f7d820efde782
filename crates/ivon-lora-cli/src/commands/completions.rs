//! `completions`: a completion script for a shell.

use clap::CommandFactory;

use crate::args::{Args, CompletionsArgs};
use crate::exit::Failure;
use crate::render::print;

/// Writes the script to standard output.
///
/// # Errors
/// If it cannot be written.
pub fn run(args: &CompletionsArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), "ivon-lora", &mut script);
    print(&String::from_utf8_lossy(&script))
}

//! Our training and evaluation beside the PyTorch stack (`../shared/reference/finetune.py`), in turn.
//!
//! Each measurement is a process of its own, so that peak memory is that of one side alone. The program runs
//! itself as `bench ours …` for our side. It prints a table of medians and ratios and writes the raw numbers.

mod compare;
mod ours;

use clap::{Parser, Subcommand};

/// Measures.
#[derive(Parser)]
#[command(about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Both sides in turn, several passes.
    Compare(compare::Options),
    /// Our side once; prints JSON.
    Ours(ours::Options),
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    match Arguments::parse().command {
        Command::Compare(options) => compare::run(&options),
        Command::Ours(options) => ours::run(&options),
    }
}

//! Programs beside the product: measurements of time and memory, and the makers of the toy.
//!
//! Each measurement is a process of its own, so that peak memory is that of one side alone: `bench compare` runs
//! itself as `bench ours …` for our side and the PyTorch stack (`../shared/reference/finetune.py`) for theirs.

mod compare;
mod ours;
mod toy;

use clap::{Parser, Subcommand};

/// Whatever goes wrong ends the program with a sentence.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

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
    /// The toy with IVON and AdamW through the library, beside what is knowable.
    Toy(toy::run::Options),
    /// The settings of the toy run, chosen on tune.
    TuneToy(toy::tune::Options),
    /// The model of the toy, trained from nothing.
    PretrainToy(toy::pretrain::Options),
}

/// Does what the command line asks for.
///
/// # Errors
/// Whatever goes wrong.
pub fn run() -> Result<(), Failure> {
    match Arguments::parse().command {
        Command::Compare(options) => compare::run(&options),
        Command::Ours(options) => ours::run(&options),
        Command::Toy(options) => toy::run::run(&options),
        Command::TuneToy(options) => toy::tune::run(&options),
        Command::PretrainToy(options) => toy::pretrain::run(&options),
    }
}

//! Programs beside the product: measurements of time and memory, and the makers of the toy.
//!
//! Each measurement is a process of its own, so that peak memory is that of one side alone:
//! `bench compare` runs itself as `bench ours …` for our side and the PyTorch stack
//! (`../shared/reference/finetune.py`) for theirs.

mod agree;
mod compare;
mod flops;
mod machine;
mod measure;
mod ours;
mod plot;
mod report;
mod scaling;
pub mod shapes;
mod toy;
mod write_model;

pub use measure::setup;

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
    Ours(ours::OursOptions),
    /// How time and memory grow with batch, length, model, steps and draws.
    Scaling(scaling::Options),
    /// One point of `scaling`, in this process; prints JSON.
    #[command(hide = true)]
    ScalingPoint(scaling::point::Options),
    /// Whether a device computes what PyTorch computed for the golden models.
    Agree(agree::Options),
    /// A GGUF file of a known shape with random weights.
    WriteModel(write_model::Options),
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
        Command::Scaling(options) => scaling::run(&options),
        Command::ScalingPoint(options) => scaling::point::run(&options),
        Command::Agree(options) => agree::run(&options),
        Command::WriteModel(options) => write_model::run(&options),
        Command::Toy(options) => toy::run::run(&options),
        Command::TuneToy(options) => toy::tune::run(&options),
        Command::PretrainToy(options) => toy::pretrain::run(&options),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_commands_do_not_contradict_each_other() {
        Arguments::command().debug_assert();
    }
}

//! Programs that accompany the product: measurements of time and memory, and the tools that make
//! the toy.
//!
//! Each measurement runs in a process of its own, so that peak memory is that of one side alone:
//! `bench compare` runs itself as `bench ours …` for our side, and the PyTorch stack
//! (`../shared/reference/finetune.py`) for theirs.

mod agree;
mod compare;
mod decide;
mod decode;
mod flops;
mod integers;
mod machine;
mod measure;
mod ours;
mod plot;
mod products;
mod report;
mod scaling;
pub mod shapes;
mod text;
mod toy;
mod write_folder;
mod write_model;

pub use measure::setup;

use clap::{Parser, Subcommand};

/// Any error; it ends the program with its message.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Parser)]
#[command(about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run both sides alternately, several passes
    Compare(compare::Options),
    /// Run our side once and print JSON
    Ours(ours::OursOptions),
    /// Measure decoding step by step: tokens per second, and against reading the weights
    Decode(decode::Options),
    /// Try rules to answer or defer on real predictions, split again and again
    Decide(decide::Options),
    /// Measure the products with frozen matrices in f32 and in 8-bit integers
    Products(products::Options),
    /// Compare logits and gradients in 8-bit integers with those in f32
    Integers(integers::Options),
    /// Measure how time and memory grow with batch, length, model, steps and draws
    Scaling(scaling::Options),
    /// Measure one point of `scaling` in this process and print JSON
    #[command(hide = true)]
    ScalingPoint(scaling::point::Options),
    /// Measure a training step on text, and its cross-entropy beside the bare products
    TextStep(text::Options),
    /// Check that a device computes what PyTorch computed for the golden models
    Agree(agree::Options),
    /// Write a GGUF file of a known shape with random weights
    WriteModel(write_model::Options),
    /// Train the toy with IVON and AdamW through the library, and compare with the best possible
    /// scores
    Toy(toy::run::Options),
    /// Choose the settings of the toy run on tune
    TuneToy(toy::tune::Options),
    /// Train the model of the toy from scratch
    PretrainToy(toy::pretrain::Options),
}

/// Runs the command given on the command line.
///
/// # Errors
/// Any error of the command.
pub fn run() -> Result<(), Failure> {
    match Arguments::parse().command {
        Command::Compare(options) => compare::run(&options),
        Command::Ours(options) => ours::run(&options),
        Command::Decode(options) => decode::run(&options),
        Command::Decide(options) => decide::run(&options),
        Command::Integers(options) => integers::run(&options),
        Command::Products(options) => products::run(&options),
        Command::Scaling(options) => scaling::run(&options),
        Command::ScalingPoint(options) => scaling::point::run(&options),
        Command::TextStep(options) => text::run(&options),
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

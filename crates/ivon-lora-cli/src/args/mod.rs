//! The command line as typed: one struct per command, nothing resolved.

mod settings;
mod answering;
mod subject;
mod train;
mod writing;
mod evaluate;
mod predict;
mod generate;
mod chat;
mod serve;
mod merge;
mod export;
mod sample;
mod inspect;
mod compare;
mod scale;
mod decide;
mod prune;
mod shift;
mod rank;
mod report;
mod data;
mod init;
mod completions;

use clap::{Parser, Subcommand};

pub use answering::{AdapterArgs, PredictionArgs};
pub use chat::ChatArgs;
pub use compare::CompareArgs;
pub use completions::CompletionsArgs;
pub use data::{DataCommand, PreviewArgs};
pub use decide::DecideArgs;
pub use evaluate::EvaluateArgs;
pub use export::{ExportArgs, ExportFormat};
pub use generate::GenerateArgs;
pub use init::InitArgs;
pub use inspect::InspectCommand;
pub use merge::MergeArgs;
pub use predict::PredictArgs;
pub use prune::PruneArgs;
pub use rank::RankArgs;
pub use report::ReportArgs;
pub use sample::SampleArgs;
pub use scale::ScaleArgs;
pub use serve::ServeArgs;
pub use settings::{FlagValue, Group, SettingFlags};
pub use shift::ShiftArgs;
pub use subject::SubjectArgs;
pub use train::TrainArgs;
pub use writing::{AgreementArgs, BaseArgs, WritingArgs};

/// The flags of the data settings.
pub type DataFlags = SettingFlags<settings::Data>;
/// The flags that describe the task of an adapter that names none.
pub type TaskFlags = SettingFlags<settings::Task>;

/// Fine-tune a language model with IVON, keep its posterior, and know when not to trust an answer.
#[derive(Debug, Parser)]
#[command(name = "ivon-lora", version, max_term_width = 100, after_help = AFTER)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

const AFTER: &str = "\
Exit codes: 0 done, 1 failure, 2 wrong flags or configuration, 3 data, 4 model or adapter,
5 training, 6 files, 75 waits for other processes, 130 stopped by Ctrl-C and saved, 143 stopped by SIGTERM and saved.

Results go to standard output, everything else to standard error. NO_COLOR turns colours off.
For hub names, HF_HOME, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE are respected.";

/// The commands; each is described at its struct.
#[derive(Debug, Subcommand)]
pub enum Command {
    Train(Box<TrainArgs>),
    Evaluate(EvaluateArgs),
    Predict(PredictArgs),
    Generate(Box<GenerateArgs>),
    Chat(Box<ChatArgs>),
    Serve(Box<ServeArgs>),
    Merge(MergeArgs),
    Export(ExportArgs),
    Sample(SampleArgs),
    /// Show what is in a model, an adapter, a data set or a run
    #[command(subcommand)]
    Inspect(InspectCommand),
    Compare(CompareArgs),
    Scale(ScaleArgs),
    Decide(Box<DecideArgs>),
    Prune(PruneArgs),
    Shift(ShiftArgs),
    Rank(RankArgs),
    Report(ReportArgs),
    /// Show a data set as the model will see it
    #[command(subcommand)]
    Data(DataCommand),
    /// Write a configuration file with every key, its default and a description
    Init(InitArgs),
    /// Write a shell completion script
    Completions(CompletionsArgs),
}

/// How much is printed, and in what form.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct ScreenArgs {
    /// Print only the result and errors
    #[arg(long, help_heading = "Output")]
    pub quiet: bool,
    /// Write one JSON object per line to standard output, and nothing else
    #[arg(long, help_heading = "Output")]
    pub json: bool,
}

//! How the program ends: an exit code for each kind of failure, and a message and a hint for
//! people.

use std::fmt;
use std::io::{self, Write};

use ivon_lora::answer::AnswerError;
use ivon_lora::bundle::BundleError;
use ivon_lora::data::DataError;
use ivon_lora::files::FileError;
use ivon_lora::generate::GenerateError;
use ivon_lora::lora::LoraError;
use ivon_lora::model::ModelError;
use ivon_lora::posterior::PosteriorError;
use ivon_lora::run::RunError;
use ivon_lora::train::TrainError;
use ivon_lora::watch::RecordError;
use ivon_lora_lab::compare::CompareError;
use ivon_lora_lab::study::StudyError;
use ivon_lora_serve::ServeError;

use crate::{colour, names};

/// The exit code of the program; docs/commands.md has the same list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Any failure without a code of its own.
    Failure = 1,
    /// Flags or the configuration file are wrong.
    Usage = 2,
    /// The data are missing, malformed or empty.
    Data = 3,
    /// The model or the adapter is missing, malformed or not supported.
    Model = 4,
    /// Training failed, for example with a loss that is not finite.
    Training = 5,
    /// A file or folder could not be written, for example on a full disk, or is in use.
    File = 6,
    /// Nothing is wrong, but the work has to wait for other processes.
    NotNow = 75,
    /// Stopped by Ctrl-C; the progress so far is saved.
    Interrupted = 130,
    /// Stopped by SIGTERM; the progress so far is saved.
    Terminated = 143,
}

/// Why a command did not run to its end.
#[derive(Debug)]
pub enum Failure {
    /// An error to be reported.
    Error(CliError),
    /// The reader of our output closed the pipe: a silent, successful end.
    BrokenPipe,
    /// A signal stopped the work, and the progress is saved.
    Stopped(Exit),
}

/// An error message for people.
#[derive(Debug, PartialEq, Eq)]
pub struct CliError {
    /// What, which, expected and found.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The exit code for scripts.
    pub exit: Exit,
}

impl CliError {
    /// An error in the flags or the configuration file.
    pub fn usage(message: impl Into<String>, hint: impl Into<Option<String>>) -> Self {
        Self {
            message: message.into(),
            hint: hint.into(),
            exit: Exit::Usage,
        }
    }

    /// Writes it to standard error.
    pub fn show(&self) {
        let text = colour::error(&self.to_string());
        let _ = writeln!(io::stderr().lock(), "{text}");
    }
}

impl fmt::Display for CliError {
    /// `error: …`, an empty line and `hint: …`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "error: {}", self.message)?;
        match &self.hint {
            Some(hint) => write!(formatter, "\n\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl From<CliError> for Failure {
    fn from(error: CliError) -> Self {
        Self::Error(error)
    }
}

/// Failures when writing to standard output.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::BrokenPipe;
        }
        Self::Error(CliError {
            message: format!("could not write to standard output: {error}"),
            hint: None,
            exit: Exit::File,
        })
    }
}

/// Converts the error of a library's room, with the exit code of its kind.
macro_rules! from_library {
    ($($error:ty => $exit:expr),+ $(,)?) => {$(
        impl From<$error> for CliError {
            fn from(error: $error) -> Self {
                let exit: fn(&$error) -> Exit = $exit;
                Self { message: error.to_string(), hint: error.hint().as_ref().map(names::written), exit: exit(&error) }
            }
        }

        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::Error(error.into())
            }
        }
    )+};
}

from_library! {
    DataError => of_data,
    ModelError => |_| Exit::Model,
    LoraError => of_adapter,
    PosteriorError => |_| Exit::Model,
    BundleError => of_bundle,
    AnswerError => of_answer,
    FileError => |_| Exit::File,
    RecordError => |_| Exit::File,
    TrainError => of_training,
    CompareError => |error| match error {
        CompareError::Run(error) => of_run(error),
        CompareError::Answer(error) => of_answer(error),
        CompareError::Data(error) => of_data(error),
        CompareError::Model(_) => Exit::Model,
        CompareError::NothingToTuneOn { .. }
        | CompareError::Predictions { .. }
        | CompareError::Results { .. } => Exit::Data,
        CompareError::Metrics(_) => Exit::Training,
        CompareError::File(_) => Exit::File,
        _ => Exit::Usage,
    },
    RunError => of_run,
    StudyError => of_study,
    ServeError => |error| match error {
        ServeError::Answer(error) => of_answer(error),
        ServeError::Setting(_) | ServeError::SameName { .. } => Exit::Usage,
        ServeError::Listen { .. } | ServeError::Io(_) => Exit::Failure,
    },
}

fn of_run(error: &RunError) -> Exit {
    match error {
        RunError::Data(error) => of_data(error),
        RunError::OtherData { .. } | RunError::OtherRoles { .. } => Exit::Data,
        RunError::Tokenizer(_) => Exit::Data,
        RunError::Model(_) | RunError::Posterior(_) => Exit::Model,
        RunError::Bundle(error) => of_bundle(error),
        RunError::Answer(error) => of_answer(error),
        RunError::Lora(error) => of_adapter(error),
        RunError::Train(error) => of_training(error),
        RunError::Setting { .. }
        | RunError::NoSteps { .. }
        | RunError::Magnitudes { .. }
        | RunError::Tables { .. }
        | RunError::OtherSettings { .. } => Exit::Usage,
        RunError::Records(_)
        | RunError::File(_)
        | RunError::FolderHoldsRun { .. }
        | RunError::FolderInUse { .. } => Exit::File,
        RunError::Malformed { .. } => Exit::File,
        RunError::Predict(_) | RunError::Metrics(_) => Exit::Training,
        RunError::RanksDiffer { .. } => Exit::Usage,
        RunError::Ranks(_) | RunError::Memory { .. } => Exit::Failure,
    }
}

fn of_answer(error: &AnswerError) -> Exit {
    match error {
        AnswerError::Data(error) => of_data(error),
        AnswerError::Tokenizer(_)
        | AnswerError::UnknownRole { .. }
        | AnswerError::NoLabel { .. }
        | AnswerError::NoReferences { .. }
        | AnswerError::NoRows { .. } => Exit::Data,
        AnswerError::Model(_) | AnswerError::Posterior(_) => Exit::Model,
        AnswerError::Bundle(error) => of_bundle(error),
        AnswerError::Setting { .. }
        | AnswerError::Device { .. }
        | AnswerError::IntegersOn { .. }
        | AnswerError::WritesNothing
        | AnswerError::Generate(GenerateError::Setting(_)) => Exit::Usage,
        AnswerError::Generate(GenerateError::NotFinite { .. }) => Exit::Training,
        AnswerError::Generate(_) => Exit::Data,
        AnswerError::File(_) | AnswerError::Malformed { .. } => Exit::File,
        AnswerError::Predict(_) | AnswerError::Metrics(_) => Exit::Training,
    }
}

fn of_study(error: &StudyError) -> Exit {
    match error {
        StudyError::Data(error) => of_data(error),
        StudyError::NothingToDecideOn
        | StudyError::NothingToChooseOn
        | StudyError::TooLittleToChooseOn { .. } => Exit::Data,
        StudyError::Posterior(_) | StudyError::Texts | StudyError::NoPosterior { .. } => {
            Exit::Model
        }
        StudyError::Lora(error) => of_adapter(error),
        StudyError::Bundle(error) => of_bundle(error),
        StudyError::Answer(error) => of_answer(error),
        StudyError::Run(error) => of_run(error),
        StudyError::Setting { .. } | StudyError::Decide(_) => Exit::Usage,
        StudyError::File(_) => Exit::File,
        StudyError::Predict(_) | StudyError::Metrics(_) => Exit::Training,
    }
}

/// Either the request or the data are wrong.
fn of_data(error: &DataError) -> Exit {
    match error {
        DataError::UnknownTask { .. } | DataError::NoTask | DataError::TaskHasItsPrompt { .. } => {
            Exit::Usage
        }
        DataError::MalformedTemplate { .. }
        | DataError::Answers { .. }
        | DataError::Setting { .. } => Exit::Usage,
        _ => Exit::Data,
    }
}

fn of_training(error: &TrainError) -> Exit {
    match error {
        TrainError::Setting { .. }
        | TrainError::LongWarmup { .. }
        | TrainError::Optimizer { .. } => Exit::Usage,
        TrainError::NothingToResume { .. }
        | TrainError::Checkpoint { .. }
        | TrainError::File(_)
        | TrainError::Records(_) => Exit::File,
        TrainError::Lora(error) => of_adapter(error),
        TrainError::NoLabel { .. } => Exit::Data,
        _ => Exit::Training,
    }
}

fn of_adapter(error: &LoraError) -> Exit {
    match error {
        LoraError::File(error) if is_write(error) => Exit::File,
        LoraError::Option { .. }
        | LoraError::Pattern { .. }
        | LoraError::NothingMatches { .. }
        | LoraError::NoSuchLayer { .. } => Exit::Usage,
        _ => Exit::Model,
    }
}

fn of_bundle(error: &BundleError) -> Exit {
    match error {
        BundleError::File(error) if is_write(error) => Exit::File,
        BundleError::Lora(error) => of_adapter(error),
        _ => Exit::Model,
    }
}

/// Whether a write failed, as opposed to a read.
fn is_write(error: &FileError) -> bool {
    matches!(error, FileError::Io { action, .. } if *action != "read")
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use ivon_lora::settings::SettingError;

    use super::*;

    #[test]
    fn an_error_is_a_line_an_empty_line_and_a_hint() {
        let error = CliError::usage("unknown task `bolq`", Some("did you mean `boolq`?".into()));
        assert_eq!(
            error.to_string(),
            "error: unknown task `bolq`\n\nhint: did you mean `boolq`?"
        );
        assert_eq!(CliError::usage("no", None).to_string(), "error: no");
    }

    #[test]
    fn each_kind_of_error_has_its_number() {
        let io = |action| FileError::Io {
            action,
            path: PathBuf::from("x"),
            source: io::Error::from(io::ErrorKind::StorageFull),
        };
        assert_eq!(CliError::from(DataError::NoTask).exit, Exit::Usage);
        assert_eq!(
            CliError::from(DataError::EmptySet { what: "x".into() }).exit,
            Exit::Data
        );
        assert_eq!(
            CliError::from(ModelError::NotFound { name: "x".into() }).exit,
            Exit::Model
        );
        assert_eq!(
            CliError::from(LoraError::File(io("write"))).exit,
            Exit::File
        );
        assert_eq!(
            CliError::from(LoraError::File(io("read"))).exit,
            Exit::Model
        );
        assert_eq!(
            CliError::from(TrainError::NonFiniteLoss {
                step: 1,
                loss: f64::NAN,
                good: None
            })
            .exit,
            Exit::Training
        );
        assert_eq!(
            CliError::from(TrainError::Setting(SettingError::value(
                "epochs", "0", "more"
            )))
            .exit,
            Exit::Usage
        );
        assert!(
            CliError::from(io("write"))
                .hint
                .unwrap()
                .contains("free some space")
        );
    }

    #[test]
    fn a_broken_pipe_is_no_error() {
        assert!(matches!(
            Failure::from(io::Error::from(io::ErrorKind::BrokenPipe)),
            Failure::BrokenPipe
        ));
    }
}

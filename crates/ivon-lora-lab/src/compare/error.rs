//! What can be wrong with a comparison.

use std::path::PathBuf;

use crate::study::StudyError;
use ivon_lora::answer::AnswerError;
use ivon_lora::data::DataError;
use ivon_lora::files::FileError;
use ivon_lora::metrics::MetricsError;
use ivon_lora::model::ModelError;
use ivon_lora::run::RunError;
use ivon_lora::sentence::{Sentence, command, sentence, setting};

/// A comparison failed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum CompareError {
    /// The file is not a comparison.
    #[error("`{}` is no comparison: {reason}", path.display())]
    Malformed { path: PathBuf, reason: String },
    /// A setting of the file is wrong.
    #[error("{what} is {found}, expected {expected}")]
    Setting {
        what: String,
        found: String,
        expected: String,
    },
    /// The tables of a cell are not those of a run.
    #[error("the settings of {name} are not those of a run: {reason}")]
    CellSettings { name: String, reason: String },
    /// A cell's settings are out of range.
    #[error("the cell {name}: {source}")]
    Cell {
        name: String,
        #[source]
        source: Box<RunError>,
    },
    /// Predictions made elsewhere do not fit the task's test rows.
    #[error("`{}` cannot be used: {reason}", path.display())]
    Predictions { path: PathBuf, reason: String },
    /// A file holds no results of a comparison.
    #[error("`{}` holds no results of a comparison: {reason}", path.display())]
    Results { path: PathBuf, reason: String },
    /// The comparison has no run of this id.
    #[error("`{id}` is no run of this comparison")]
    UnknownRun { id: String },
    /// There is nothing to choose settings on.
    #[error("the task `{task}` has no tune rows to choose settings on")]
    NothingToTuneOn { task: String },
    #[error(transparent)]
    Run(Box<RunError>),
    /// A finished cell could not be asked of another set.
    #[error(transparent)]
    Study(Box<StudyError>),
    #[error(transparent)]
    Answer(#[from] AnswerError),
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    #[error(transparent)]
    File(#[from] FileError),
}

impl From<RunError> for CompareError {
    fn from(error: RunError) -> Self {
        Self::Run(Box::new(error))
    }
}

impl From<StudyError> for CompareError {
    fn from(error: StudyError) -> Self {
        Self::Study(Box::new(error))
    }
}

impl CompareError {
    /// Whether the watcher said stop.
    pub fn is_stop(&self) -> bool {
        match self {
            Self::Run(error) => error.is_stop(),
            Self::Study(error) => error.is_stop(),
            Self::Answer(error) => error.is_stop(),
            _ => false,
        }
    }

    /// What the user can do about it, in one sentence.
    pub fn hint(&self) -> Option<Sentence> {
        match self {
            Self::Malformed { .. } | Self::Setting { .. } | Self::CellSettings { .. } => {
                Some("docs/comparison.md has a whole file with every key".into())
            }
            Self::Cell { source, .. } => source.hint(),
            Self::Predictions { .. } => {
                Some("docs/comparison.md says what a line of predictions holds".into())
            }
            Self::Results { .. } => Some(sentence!(
                "`{}` packs the results of a comparison into such a file",
                command("compare")
            )),
            Self::UnknownRun { .. } => Some(sentence!(
                "`{}` with `{}` lists them",
                command("compare"),
                setting("list")
            )),
            Self::NothingToTuneOn { .. } => {
                Some("add a file named tune, or set `tune_share` in its `[task.data]`".into())
            }
            Self::Run(error) => error.hint(),
            Self::Study(error) => error.hint(),
            Self::Answer(error) => error.hint(),
            Self::Data(error) => error.hint(),
            Self::Model(error) => error.hint(),
            Self::Metrics(error) => error.hint(),
            Self::File(error) => error.hint(),
        }
    }
}

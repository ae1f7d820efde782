//! What can end a study of an adapter.

use std::path::PathBuf;

use ivon_lora::answer::AnswerError;
use ivon_lora::bundle::BundleError;
use ivon_lora::data::DataError;
use ivon_lora::decide::DecideError;
use ivon_lora::files::FileError;
use ivon_lora::lora::LoraError;
use ivon_lora::metrics::MetricsError;
use ivon_lora::posterior::PosteriorError;
use ivon_lora::predict::PredictError;
use ivon_lora::run::RunError;
use ivon_lora::sentence::{Sentence, command, sentence, setting, setting_to};
use ivon_lora::settings::SettingError;

/// A study failed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum StudyError {
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Lora(#[from] LoraError),
    #[error(transparent)]
    Posterior(#[from] PosteriorError),
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// No rule can be searched for.
    #[error(transparent)]
    Decide(#[from] DecideError),
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error(transparent)]
    Predict(#[from] PredictError),
    #[error(transparent)]
    Answer(#[from] AnswerError),
    /// The adapter's run cannot be read.
    #[error(transparent)]
    Run(Box<RunError>),
    #[error(transparent)]
    File(#[from] FileError),
    /// A setting is missing or out of range.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// A posterior is needed, and the adapter is a point estimate.
    #[error("`{}` is a point estimate, expected a posterior to draw from", adapter.display())]
    NoPosterior { adapter: PathBuf },
    /// The adapter was trained on texts, which have no choices.
    #[error("the adapter writes texts, expected one that answers questions with choices")]
    Texts,
    /// There are no rows to choose a scale on besides the scored ones.
    #[error("there are no rows to choose the scale on but those that are scored")]
    NothingToChooseOn,
    /// There are no rows for a rule besides the scored ones.
    #[error("there are no rows that a rule could rest on but those that are scored")]
    NothingToDecideOn,
    /// There are too few rows to choose a scale by.
    #[error("no scale is chosen on {split}, and none is written: {reason}")]
    TooLittleToChooseOn { split: String, reason: String },
}

impl From<RunError> for StudyError {
    fn from(error: RunError) -> Self {
        Self::Run(Box::new(error))
    }
}

impl StudyError {
    /// Whether the watcher said stop.
    pub fn is_stop(&self) -> bool {
        match self {
            Self::Answer(error) => error.is_stop(),
            Self::Run(error) => error.is_stop(),
            Self::Predict(PredictError::Stopped { .. }) => true,
            _ => false,
        }
    }

    /// What the user can do about it, in one sentence.
    pub fn hint(&self) -> Option<Sentence> {
        match self {
            Self::Data(error) => error.hint(),
            Self::Lora(error) => error.hint(),
            Self::Posterior(error) => error.hint(),
            Self::Metrics(error) => error.hint(),
            Self::Decide(error) => error.hint(),
            Self::Bundle(error) => error.hint(),
            Self::Predict(error) => error.hint(),
            Self::Answer(error) => error.hint(),
            Self::Run(error) => error.hint(),
            Self::File(error) => error.hint(),
            Self::Setting { .. } => Some(sentence!(
                "`{}` writes a file with every setting and its default",
                command("init")
            )),
            Self::NoPosterior { .. } => Some(sentence!(
                "train with an optimizer that learns one, such as `{}`",
                setting_to("optimizer", "ivon")
            )),
            Self::Texts => Some(sentence!(
                "`{}` with `{}` scores the tokens of other texts",
                command("evaluate"),
                setting("data")
            )),
            Self::NothingToChooseOn | Self::NothingToDecideOn => Some(
                "name a folder with a file named calibrate, or a run, whose own \
                     rows were set aside for it"
                    .into(),
            ),
            Self::TooLittleToChooseOn { .. } => Some(sentence!(
                "name a folder with more rows in a file named calibrate with `{}`, \
                     or a scale of your own with `{}`",
                setting("data"),
                setting("scale")
            )),
        }
    }
}

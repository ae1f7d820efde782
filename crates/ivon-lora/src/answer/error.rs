//! What can go wrong in answering.

use std::path::PathBuf;

use crate::bundle::BundleError;
use crate::data::{DataError, Role, TokenizerError};
use crate::files::FileError;
use crate::generate::GenerateError;
use crate::metrics::MetricsError;
use crate::model::ModelError;
use crate::posterior::PosteriorError;
use crate::predict::PredictError;
use crate::sentence::{Sentence, command, sentence, setting, setting_to};
use crate::settings::SettingError;

/// Questions could not be answered.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum AnswerError {
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Posterior(#[from] PosteriorError),
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error(transparent)]
    Predict(#[from] PredictError),
    #[error(transparent)]
    Generate(#[from] GenerateError),
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A setting is missing or out of range.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// The device is not in this build, or unknown.
    #[error("this build has no device `{device}`, it has {known}")]
    Device { device: String, known: String },
    /// The device has no products of integers.
    #[error(
        "products of 8-bit integers are computed on the CPU only, and the device is `{device}`"
    )]
    IntegersOn { device: String },
    /// It is not known which rows played a role.
    #[error("no row of `{}` is known to be of the role {role}: {reason}", path.display())]
    UnknownRole {
        role: Role,
        path: PathBuf,
        reason: String,
    },
    /// Rows to score have no label.
    #[error("example `{id}` has no label to score against")]
    NoLabel { id: String },
    /// Answers are picked, not written.
    #[error(
        "the task has choices, whose answers are picked, not written; expected a task of texts"
    )]
    WritesNothing,
    /// Nothing says what right answers would be.
    #[error(
        "no row of `{set}` has a prompt with a right answer to it, expected a completion, references or an assistant's last message"
    )]
    NoReferences { set: String },
    /// A set is empty.
    #[error("the set `{set}` in `{}` has no row that can be asked, expected at least one", path.display())]
    NoRows { set: String, path: PathBuf },
    /// A file that this program writes cannot be read back.
    #[error("`{}` cannot be used: {reason}", path.display())]
    Malformed { path: PathBuf, reason: String },
}

impl AnswerError {
    /// Whether the watcher said stop.
    pub fn is_stop(&self) -> bool {
        matches!(
            self,
            Self::Predict(PredictError::Stopped { .. })
                | Self::Model(ModelError::Stopped { .. })
                | Self::Generate(GenerateError::Stopped)
        )
    }

    /// What the user can do about it, in one sentence.
    pub fn hint(&self) -> Option<Sentence> {
        match self {
            Self::Data(error) => error.hint(),
            Self::Model(error) => error.hint(),
            Self::Posterior(error) => error.hint(),
            Self::Bundle(error) => error.hint(),
            Self::Predict(error) => error.hint(),
            Self::Generate(error) => error.hint(),
            Self::Metrics(error) => error.hint(),
            Self::File(error) => error.hint(),
            Self::Tokenizer(_) => None,
            Self::Setting { .. } => Some(sentence!(
                "`{}` writes a file with every setting and its default",
                command("init")
            )),
            Self::Device { device, .. } => Some(match device.as_str() {
                "cuda" | "rocm" | "metal" | "vulkan" | "wgpu" => format!(
                    "build it in: `cargo install --path crates/ivon-lora-cli --features \
                         {device}`"
                )
                .into(),
                _ => sentence!("use `{}`", setting_to("device", "cpu")),
            }),
            Self::IntegersOn { .. } => Some(sentence!("use `{}`", setting_to("compute", "f32"))),
            Self::UnknownRole { .. } => Some(sentence!(
                "name a file of rows that it was not trained on with `{}`",
                setting("data")
            )),
            Self::NoLabel { .. } => Some(sentence!(
                "use `{}` for rows without labels",
                command("predict")
            )),
            Self::WritesNothing => Some(sentence!(
                "leave out `{}`: the answers that are picked are scored without it",
                setting("write")
            )),
            Self::NoReferences { .. } => Some(sentence!(
                "`{}` writes answers that are not to be scored",
                command("generate")
            )),
            Self::NoRows { .. } => Some(sentence!(
                "`{}` says what is in a folder",
                command("inspect data")
            )),
            Self::Malformed { .. } => Some("was it edited? every run writes its own".into()),
        }
    }
}

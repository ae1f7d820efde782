//! What can go wrong in writing text.

use crate::data::TokenizerError;
use crate::sentence::{Sentence, sentence, setting};
use crate::settings::SettingError;

/// A text could not be written.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// The tokenizer failed.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A setting is out of range.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// There is nothing to continue.
    #[error("a prompt without a token cannot be continued")]
    NoTokens,
    /// The prompt leaves no room.
    #[error("the prompt has {tokens} tokens, but the model is made for {most} with what it writes")]
    TooLong {
        /// Those of the prompt.
        tokens: usize,
        /// Those of the longest sequence.
        most: usize,
    },
    /// Logits are not numbers.
    #[error("the logits after {written} written tokens are not finite")]
    NotFinite {
        /// Tokens written before.
        written: usize,
    },
    /// The listener said stop.
    #[error("writing was stopped")]
    Stopped,
}

impl GenerateError {
    /// What the user can do about it, in one sentence.
    pub fn hint(&self) -> Option<Sentence> {
        match self {
            Self::TooLong { .. } => Some("shorten the prompt".into()),
            Self::NotFinite { .. } => Some(sentence!(
                "is the adapter's scale too large? `{}` multiplies its variance",
                setting("scale")
            )),
            Self::NoTokens => {
                Some("this tokenizer adds no token of its own: give it a text".into())
            }
            Self::Tokenizer(_) | Self::Setting(_) | Self::Stopped => None,
        }
    }
}

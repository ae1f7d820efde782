//! A row of text before the tokenizer: what is read, and what of it is trained on.

use serde::{Deserialize, Serialize};

use super::message::Message;

/// What the loss is on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossOn {
    /// What the assistant says, or the completion.
    #[default]
    Assistant,
    /// All tokens.
    All,
}

impl LossOn {
    /// Whether it is the default.
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The weight in the loss of what is not the assistant's.
    pub fn weight_of_others(self) -> f32 {
        match self {
            Self::Assistant => 0.0,
            Self::All => 1.0,
        }
    }
}

/// A row of text.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// Its content.
    pub content: Content,
    /// What the loss is on.
    pub loss_on: LossOn,
}

/// The content of a row of text.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// A conversation, for the chat template.
    Chat(Vec<Message>),
    /// What follows the example's prompt: the completion that is trained on and whose likelihood is
    /// scored, and further references. Empty for a prompt to be answered.
    Completion(Vec<String>),
    /// The example's prompt is the text.
    Text,
}

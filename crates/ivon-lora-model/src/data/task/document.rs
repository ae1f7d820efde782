//! A row of text before the tokenizer: what is read, and what of it is trained on.

use serde::{Deserialize, Serialize};

use super::message::Message;
use crate::data::speaker::Speaker;

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
    /// Right answers to the prompt: that of the content, if it has one, and further ones. None of a
    /// plain text.
    pub references: Vec<String>,
    /// What the loss is on.
    pub loss_on: LossOn,
}

/// The content of a row of text.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// A conversation, for the chat template.
    Chat(Vec<Message>),
    /// What follows the example's prompt; none for a prompt to be answered.
    Completion(Option<String>),
    /// The example's prompt is the text.
    Text,
}

impl Content {
    /// The messages before the last answer of a conversation, to which it answers; all of them where
    /// nothing precedes an answer. None of other texts.
    pub fn asked(&self) -> &[Message] {
        let Self::Chat(messages) = self else {
            return &[];
        };
        let is_answer = |message: &Message| message.speaker == Speaker::Assistant;
        let last = messages.iter().rposition(is_answer);
        let before = last.filter(|last| *last > 0);
        &messages[..before.unwrap_or(messages.len())]
    }

    /// What answers the prompt: a completion, or the last message of a conversation if it is the
    /// assistant's.
    pub fn answer(&self) -> Option<&str> {
        match self {
            Self::Chat(messages) => {
                let last = messages.last()?;
                (last.speaker == Speaker::Assistant).then_some(&last.content)
            }
            Self::Completion(completion) => completion.as_deref(),
            Self::Text => None,
        }
    }
}

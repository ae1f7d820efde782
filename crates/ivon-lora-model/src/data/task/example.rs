//! One row as text, a question or a document, and the reasons for dropping a row.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::document::{Content, Document};
use super::prompt::Prompt;
use crate::data::role::Role;

/// A prompt and the words that can answer it, or a document.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// The row's own id, else file name and row number.
    pub id: String,
    /// The prompt; of a conversation what precedes its last answer, of a plain text all of it.
    pub prompt: Prompt,
    /// The answer words in the order of the labels; for a question with choices the letters A, B,
    /// …; none for a document.
    pub answers: Arc<[String]>,
    /// The index of the correct answer; none for rows to predict.
    pub label: Option<usize>,
    /// Rows of one group stay in one role.
    pub group: Option<String>,
    /// The text to train on or to be written, where there are no answers to choose from.
    pub document: Option<Document>,
}

impl Example {
    /// A finished prompt to predict on; it cannot be shortened, so one that is too long is dropped.
    pub fn from_prompt(
        id: impl Into<String>,
        prompt: impl Into<String>,
        answers: Arc<[String]>,
    ) -> Self {
        Self {
            id: id.into(),
            prompt: Prompt::fixed(prompt),
            answers,
            label: None,
            group: None,
            document: None,
        }
    }

    /// The text by which rows are the same row: the prompt, or what completes it where that is
    /// blank.
    pub fn own_text(&self) -> String {
        let prompt = self.prompt.text();
        let content = self.document.as_ref().map(|document| &document.content);
        match content {
            Some(Content::Completion(Some(completion))) if prompt.trim().is_empty() => {
                completion.clone()
            }
            _ => prompt,
        }
    }

    /// Whether a field of its prompt is empty.
    pub fn has_empty_field(&self) -> bool {
        self.prompt
            .parts
            .iter()
            .any(|part| part.may_lose && part.text.trim().is_empty())
    }
}

/// Why a row is dropped.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DropReason {
    /// The task requires another number of choices.
    ChoiceCount {
        /// The question's number of choices.
        found: usize,
        /// The required number.
        kept: usize,
    },
    /// The same prompt is in the file of a later role.
    TextAlsoIn(Role),
    /// Rows of the same group are in the file of a later role.
    GroupAlsoIn(Role),
    /// Too long even without the parts that may be shortened.
    TooLong {
        /// The maximum number of tokens.
        max_length: usize,
    },
    /// The prompt has no tokens.
    NoTokens,
    /// It cannot be read as a row of the task.
    Unreadable,
    /// A text has no token that is to be predicted.
    NothingToTrainOn,
    /// All that is to be predicted lies beyond the maximum length.
    AnswerCut {
        /// The maximum number of tokens.
        max_length: usize,
    },
    /// The chat template renders the start of a conversation otherwise once it goes on.
    UnstableTemplate,
    /// A token spells the end of what precedes the assistant's message and its start.
    MergedAnswer,
}

impl fmt::Display for DropReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ChoiceCount { found, kept } => {
                write!(formatter, "{found} choices where the task keeps {kept}")
            }
            Self::TextAlsoIn(role) => write!(formatter, "the same prompt is in the {role} file"),
            Self::GroupAlsoIn(role) => write!(formatter, "its group is in the {role} file"),
            Self::TooLong { max_length } => {
                write!(
                    formatter,
                    "longer than {max_length} tokens even with its fields shortened"
                )
            }
            Self::NoTokens => write!(formatter, "the prompt has no tokens"),
            Self::Unreadable => write!(formatter, "not readable as a row of the task"),
            Self::NothingToTrainOn => write!(formatter, "no token to train on"),
            Self::AnswerCut { max_length } => write!(
                formatter,
                "no token to train on within the first {max_length} tokens"
            ),
            Self::UnstableTemplate => write!(
                formatter,
                "the chat template renders the start otherwise once the conversation goes on, so \
                 that the assistant's tokens cannot be told"
            ),
            Self::MergedAnswer => write!(
                formatter,
                "a token spells both the end of what comes before an answer and its start"
            ),
        }
    }
}

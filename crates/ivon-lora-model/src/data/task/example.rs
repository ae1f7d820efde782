//! One question as text, and the reasons for dropping a row.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::prompt::Prompt;
use crate::data::role::Role;

/// A prompt and the words that can answer it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// The row's own id, else file name and row number.
    pub id: String,
    /// The prompt.
    pub prompt: Prompt,
    /// The answer words in the order of the labels; for a question with choices the letters A, B, …
    pub answers: Arc<[String]>,
    /// The index of the correct answer; none for rows to predict.
    pub label: Option<usize>,
    /// Rows of one group stay in one role.
    pub group: Option<String>,
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
        }
    }
}

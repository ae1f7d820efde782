//! The form of a prompt, and how its answers are scored.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::label::composed;
use crate::data::error::DataError;

/// The possible numbers of choices of a question; the answers are the 26 letters.
pub(super) const CHOICES: std::ops::RangeInclusive<usize> = 2..=26;

/// The maximum number of answer words of a task.
const MOST_ANSWERS: usize = 10_000;

/// How answers are scored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scoring {
    /// By the first token of each answer, if these all differ; otherwise as [`Scoring::Answer`].
    #[default]
    Token,
    /// By the log-probability of all tokens of each answer.
    Answer,
}

/// The form of a prompt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Form {
    /// A sentence with a gap in `question`, two options in `choices`; answers A and B.
    Winogrande,
    /// `question`, `choices` and `answer`; answers A, B, …
    MultipleChoice {
        /// The required number of choices, others are dropped; none: 2 to 26.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        only: Option<usize>,
    },
    /// A template with field names in braces.
    Template {
        /// The template, for example `Review: {text} Sentiment:`.
        prompt: String,
        /// The answer words in the order of the labels.
        answers: Vec<String>,
        /// The field with the label: an index from 0, a boolean, or the answer word.
        label_field: String,
    },
    /// A conversation, in the chat template: `messages`, `conversations`, or one question with its
    /// answer.
    Chat(TextFields),
    /// A prompt and the text that completes it.
    Completion(TextFields),
    /// A text.
    Text(TextFields),
}

/// Where a row of text has its prompt and its completion, if not in the usual fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TextFields {
    /// A template with field names in braces: of the question, of the prompt, or of the text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// The field with the answer or the completion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_field: Option<String>,
}

impl Form {
    /// The fields of a row of text; none where a row is a question with choices.
    pub fn text_fields(&self) -> Option<&TextFields> {
        match self {
            Self::Chat(fields) | Self::Completion(fields) | Self::Text(fields) => Some(fields),
            Self::Winogrande | Self::MultipleChoice { .. } | Self::Template { .. } => None,
        }
    }
}

/// Checks that these are two or more different words.
pub(super) fn checked_answers(answers: &[String]) -> Result<Arc<[String]>, DataError> {
    let wrong = |reason: String| Err(DataError::Answers { reason });
    if answers.len() < 2 || answers.len() > MOST_ANSWERS {
        return wrong(format!(
            "there are {}, expected 2 to {MOST_ANSWERS}",
            answers.len()
        ));
    }
    let mut seen = std::collections::HashSet::new();
    for answer in answers {
        if answer.trim().is_empty() {
            return wrong("one of them is empty".into());
        }
        if answer.trim() != answer {
            return wrong(format!("`{answer}` begins or ends with a blank"));
        }
        if !seen.insert(composed(answer)) {
            return wrong(format!("`{answer}` is given twice"));
        }
    }
    Ok(answers.into())
}

//! The rows of one set as examples in text and in tokens.

use super::AnswerError;
use super::report::labels;
use crate::data::{EncodedSet, Example};

/// The rows of a set that fit the task, as text and as the base reads them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExampleSet {
    /// Its name: the split's, the file's, or the role of its rows.
    pub name: String,
    /// Where the rows of a role come from: `of validation.jsonl`.
    pub source: Option<String>,
    /// The examples in text.
    pub examples: Vec<Example>,
    /// The examples that fit the base, in tokens.
    pub encoded: EncodedSet,
}

impl ExampleSet {
    /// Number of examples that can be asked.
    pub fn len(&self) -> usize {
        self.encoded.examples.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.encoded.examples.is_empty()
    }

    /// The label of each example that can be asked.
    ///
    /// # Errors
    /// [`AnswerError::NoLabel`] for the first that has none.
    pub fn labels(&self) -> Result<Vec<usize>, AnswerError> {
        labels(&self.encoded.examples)
    }
}

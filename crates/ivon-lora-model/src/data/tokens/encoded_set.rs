//! Examples encoded on all threads, with an account of those that were dropped.

use rayon::prelude::*;
use serde::Serialize;

use super::encoded::Encoded;
use super::encoder::{EncodeOptions, EncodeOutcome, Encoder};
use super::tokenizer::Tokenizer;
use crate::data::account::{Drops, Tally};
use crate::data::error::DataError;
use crate::data::task::{DropReason, Example};

/// A dropped example.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DroppedExample {
    /// Its id.
    pub id: String,
    /// Why.
    pub reason: DropReason,
}

/// Encoded examples, and what was dropped or shortened.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EncodedSet {
    /// The encoded examples, in their original order.
    pub examples: Vec<Encoded>,
    /// The index of each encoded example among those given `[examples]`; that of a long text occurs
    /// once for each of its stretches.
    pub kept: Vec<usize>,
    /// How many were shortened to fit.
    pub truncated: usize,
    /// Completions whose first token spells the end of their prompt too.
    pub merged: Tally,
    /// Whether each was shortened to fit, `[examples]`.
    pub shortened: Vec<bool>,
    /// The dropped examples.
    pub dropped: Vec<DroppedExample>,
}

impl EncodedSet {
    /// The number of dropped examples for each reason.
    pub fn drops(&self) -> Drops {
        let mut drops = Drops::default();
        self.dropped
            .iter()
            .for_each(|dropped| drops.add(dropped.reason.clone(), &dropped.id));
        drops
    }

    fn add(&mut self, index: usize, example: &Example, outcome: EncodeOutcome) {
        match outcome {
            EncodeOutcome::Encoded {
                encoded, truncated, ..
            } => self.keep(index, encoded, truncated),
            EncodeOutcome::Texts(texts) => {
                for text in texts {
                    if text.merged {
                        self.merged.add(&example.id);
                    }
                    self.keep(index, text.encoded, text.truncated);
                }
            }
            EncodeOutcome::Dropped(reason) => self.dropped.push(DroppedExample {
                id: example.id.clone(),
                reason,
            }),
        }
    }

    fn keep(&mut self, index: usize, encoded: Encoded, truncated: bool) {
        self.truncated += usize::from(truncated);
        self.shortened.push(truncated);
        self.examples.push(encoded);
        self.kept.push(index);
    }

    /// Sentences about the examples given: which were dropped, shortened, or have an empty field.
    /// `set` is their name; `given` are the examples that were encoded.
    pub fn account(&self, set: &str, given: &[Example], max_length: usize) -> Vec<String> {
        let shortened: Tally = self
            .examples
            .iter()
            .zip(&self.shortened)
            .filter(|(_, cut)| **cut)
            .map(|(example, _)| example.id.clone())
            .collect();
        let empty: Tally = given
            .iter()
            .filter(|example| example.has_empty_field())
            .map(|example| example.id.clone())
            .collect();
        let mut said = self.drops().sentences(set, given.len());
        let is_text = self.examples.iter().any(|example| example.text().is_some());
        let how = if is_text { "cut" } else { "shortened" };
        said.extend(shortened.sentence(
            set,
            given.len(),
            ["is", "are"],
            &format!("{how} to {max_length} tokens"),
        ));
        said.extend(self.merged.sentence(
            set,
            given.len(),
            ["has", "have"],
            "a token that spells both the end of the prompt and the start of the completion; end the \
             prompt without a space and begin the completion with it",
        ));
        said.extend(empty.sentence(
            set,
            given.len(),
            ["has", "have"],
            "no text in a field of the prompt",
        ));
        said
    }
}

/// Encodes examples, on all threads.
///
/// # Errors
/// If the tokenizer or the chat template fails, or answers of an example cannot be told apart;
/// [`DataError::EmptySet`] if all of one
/// or more examples are dropped.
pub fn encode_all(
    examples: &[Example],
    tokenizer: &Tokenizer,
    options: EncodeOptions,
) -> Result<EncodedSet, DataError> {
    let set = encode_any(examples, tokenizer, options)?;
    match set.dropped.first() {
        Some(first) if set.examples.is_empty() => {
            let what = format!(
                "the set of {} examples, all of which are left out (`{}`: {})",
                examples.len(),
                first.id,
                first.reason
            );
            Err(DataError::EmptySet { what })
        }
        _ => Ok(set),
    }
}

/// [`encode_all`], except that all examples may be dropped.
///
/// # Errors
/// If the tokenizer or the chat template fails, or answers of an example cannot be told apart.
pub fn encode_any(
    examples: &[Example],
    tokenizer: &Tokenizer,
    options: EncodeOptions,
) -> Result<EncodedSet, DataError> {
    // Each chunk has its own cache of answers; the results do not depend on the chunks.
    let chunks: Vec<Result<Vec<EncodeOutcome>, DataError>> = examples
        .par_chunks(512)
        .map(|chunk| {
            let mut encoder = Encoder::new(tokenizer, options)?;
            chunk
                .iter()
                .map(|example| encoder.encode(example))
                .collect()
        })
        .collect();
    let mut set = EncodedSet::default();
    let mut index = 0;
    for chunk in chunks {
        for outcome in chunk? {
            set.add(index, &examples[index], outcome);
            index += 1;
        }
    }
    Ok(set)
}

//! Many examples in tokens, encoded on all threads, with what became of the others.

use rayon::prelude::*;
use serde::Serialize;

use super::encoded::Encoded;
use super::encoder::{EncodeOptions, EncodeOutcome, Encoder};
use super::tokenizer::Tokenizer;
use crate::data::account::{Drops, Tally};
use crate::data::error::DataError;
use crate::data::task::{DropReason, Example};

/// An example that was left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DroppedExample {
    /// Its id.
    pub id: String,
    /// Why.
    pub reason: DropReason,
}

/// Examples in tokens, with what happened on the way.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EncodedSet {
    /// The examples, in the order they came.
    pub examples: Vec<Encoded>,
    /// Which of the examples given each of them is `[examples]`.
    pub kept: Vec<usize>,
    /// How many lost text to fit.
    pub truncated: usize,
    /// Whether each lost text to fit, `[examples]`.
    pub shortened: Vec<bool>,
    /// Those left out.
    pub dropped: Vec<DroppedExample>,
}

impl EncodedSet {
    /// How many were left out for each reason.
    pub fn drops(&self) -> Drops {
        let mut drops = Drops::default();
        self.dropped
            .iter()
            .for_each(|dropped| drops.add(dropped.reason.clone(), &dropped.id));
        drops
    }

    /// What became of the examples that were given, a sentence each: which are left out, shortened,
    /// or without text in a field. `set` names them; `given` are those that were encoded.
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
        said.extend(shortened.sentence(
            set,
            given.len(),
            ["is", "are"],
            &format!("shortened to {max_length} tokens"),
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
/// As [`Encoder::encode`], of the first example that fails; [`DataError::EmptySet`] if examples
/// were given and all are left out.
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

/// As [`encode_all`], where it is no error that all are left out.
///
/// # Errors
/// As [`Encoder::encode`], of the first example that fails.
pub fn encode_any(
    examples: &[Example],
    tokenizer: &Tokenizer,
    options: EncodeOptions,
) -> Result<EncodedSet, DataError> {
    // Each chunk remembers answers for itself; results do not depend on how chunks fall.
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
            match outcome {
                EncodeOutcome::Encoded {
                    encoded, truncated, ..
                } => {
                    set.truncated += usize::from(truncated);
                    set.shortened.push(truncated);
                    set.examples.push(encoded);
                    set.kept.push(index);
                }
                EncodeOutcome::Dropped(reason) => set.dropped.push(DroppedExample {
                    id: examples[index].id.clone(),
                    reason,
                }),
            }
            index += 1;
        }
    }
    Ok(set)
}

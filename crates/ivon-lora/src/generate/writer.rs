//! A model that writes, and what it writes after.

use std::collections::BTreeSet;

use super::error::GenerateError;
use super::write_options::WriteOptions;
use crate::data::Tokenizer;
use crate::forward::Decoding;

/// A prompt, and which answer to it is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WritePrompt {
    /// Its tokens, at least one.
    pub tokens: Vec<u32>,
    /// The draw of the [`Decoding`] that writes.
    pub draw: usize,
    /// The number of the answer: another number, other random choices.
    pub sample: u64,
}

/// A model that writes: a decoder with draws of its adapter, a tokenizer, and the tokens that end a
/// text.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    /// The decoder.
    pub decoding: &'a Decoding,
    /// The tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// The tokens that end a text.
    pub ends: &'a BTreeSet<u32>,
}

impl Writer<'_> {
    /// Checks the options, and that the prompt can be continued.
    ///
    /// # Errors
    /// If a setting is out of range, or the prompt is empty or too long.
    pub fn check(&self, prompt: &WritePrompt, options: &WriteOptions) -> Result<(), GenerateError> {
        options.validate()?;
        let most = self.decoding.config().max_position_embeddings;
        match prompt.tokens.len() {
            0 => Err(GenerateError::NoTokens),
            tokens if tokens >= most => Err(GenerateError::TooLong { tokens, most }),
            _ => Ok(()),
        }
    }
}

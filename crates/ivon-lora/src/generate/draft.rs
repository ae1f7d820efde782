//! A text while it is written: its tokens so far, and how it goes on from the logits after them.

use super::candidates::{log_probability, most_probable};
use super::error::GenerateError;
use super::sampling::Address;
use super::text_stream::TextStream;
use super::write_options::WriteOptions;
use crate::data::Tokenizer;
use crate::forward::Sequence;
use crate::random::fnv1a;

/// Why a text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// With an end token of the model, or before a stop text.
    Stop,
    /// At the largest number of tokens, or of the model's positions.
    Length,
}

/// A text that was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// The text, without special tokens, and without the stop text.
    pub text: String,
    /// All tokens written, with the end token and the stop text.
    pub tokens: Vec<u32>,
    /// ln p of each token under the model, whatever was drawn from, nats.
    pub log_probabilities: Vec<f64>,
    /// Why it ended.
    pub finish_reason: FinishReason,
}

/// A token that was written.
#[derive(Clone, Debug, PartialEq)]
pub struct WrittenToken {
    /// The token.
    pub token: u32,
    /// Its ln p under the model, whatever was drawn from, nats.
    pub log_probability: f64,
    /// The most probable tokens with their ln p, as many as the options ask for.
    pub alternatives: Vec<(u32, f64)>,
    /// The text that is certain now; may be empty.
    pub piece: String,
}

/// A text that is being written.
pub(super) struct Draft {
    /// Its number.
    pub index: usize,
    pub sequence: Sequence,
    options: WriteOptions,
    /// A hash of the prompt.
    prompt: u64,
    sample: u64,
    stream: TextStream,
    log_probabilities: Vec<f64>,
    pub finish_reason: Option<FinishReason>,
}

/// What ends a text.
pub(super) struct Ending {
    /// Whether the token is one of the model's end tokens.
    pub is_end_token: bool,
    /// The largest number of tokens of a sequence.
    pub most_positions: usize,
}

impl Draft {
    /// A text after a sequence that was read.
    pub fn new(index: usize, sample: u64, sequence: Sequence, options: WriteOptions) -> Self {
        let tokens = sequence.tokens().iter();
        let bytes: Vec<u8> = tokens.flat_map(|token| token.to_le_bytes()).collect();
        Self {
            index,
            prompt: fnv1a(&bytes),
            sample,
            sequence,
            options,
            stream: TextStream::default(),
            log_probabilities: Vec::new(),
            finish_reason: None,
        }
    }

    /// Chooses the next token from the logits `[V]`.
    ///
    /// # Errors
    /// If a logit is not a number.
    pub fn choose(&self, logits: &[f32]) -> Result<u32, GenerateError> {
        let written = self.stream.tokens().len();
        if logits.iter().any(|logit| logit.is_nan()) {
            return Err(GenerateError::NotFinite { written });
        }
        let address = Address {
            prompt: self.prompt,
            sample: self.sample,
            position: written as u64,
        };
        let seen = self.sequence.tokens();
        Ok(self.options.sampling.choose(logits, seen, address))
    }

    /// Adds a token that was chosen from the logits `[V]`, and ends the text if it was the last one.
    ///
    /// # Errors
    /// If the tokenizer cannot decode the tokens.
    pub fn push(
        &mut self,
        token: u32,
        logits: &[f32],
        ending: &Ending,
        tokenizer: &Tokenizer,
    ) -> Result<WrittenToken, GenerateError> {
        let stop = &self.options.stop;
        let log_probability = log_probability(logits, token);
        self.log_probabilities.push(log_probability);
        let mut piece = self.stream.push(token, tokenizer, stop)?.to_string();
        // The last token is written, but not read.
        let positions = self.sequence.tokens().len() + 1;
        let is_last = self.stream.tokens().len() >= self.options.max_tokens
            || positions >= ending.most_positions;
        let is_stop = ending.is_end_token || self.stream.is_stopped();
        if is_stop || is_last {
            piece.push_str(self.stream.finish(tokenizer, stop)?);
            self.finish_reason = Some(match is_stop {
                true => FinishReason::Stop,
                false => FinishReason::Length,
            });
        }
        Ok(WrittenToken {
            token,
            log_probability,
            alternatives: most_probable(logits, self.options.alternatives),
            piece,
        })
    }

    /// The sequence and the last token, which is still to be read.
    pub fn unread(&mut self) -> Option<(&mut Sequence, &[u32])> {
        let last = self.stream.tokens().last_chunk::<1>()?;
        Some((&mut self.sequence, last.as_slice()))
    }

    /// The text as far as it was written.
    pub fn written(&self) -> Written {
        Written {
            text: self.stream.text().to_string(),
            tokens: self.stream.tokens().to_vec(),
            log_probabilities: self.log_probabilities.clone(),
            finish_reason: self.finish_reason.unwrap_or(FinishReason::Length),
        }
    }
}

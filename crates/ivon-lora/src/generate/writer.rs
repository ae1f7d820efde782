//! Prompts in, texts out, token by token and several at a time.

use std::collections::BTreeSet;

use super::candidates::log_probability;
use super::error::GenerateError;
use super::sampling::{Address, Sampling};
use super::text_stream::TextStream;
use crate::data::Tokenizer;
use crate::forward::{Decoding, Prompt, Sequence};
use crate::random::fnv1a;
use crate::settings::SettingError;

/// How texts are written.
#[derive(Clone, Debug, PartialEq)]
pub struct WriteOptions {
    /// The largest number of tokens of a text.
    pub max_tokens: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Texts before which a text ends.
    pub stop: Vec<String>,
    /// Texts that are written at the same time: they share each reading of the weights.
    pub together: usize,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self {
            max_tokens: 256,
            sampling: Sampling::default(),
            stop: Vec::new(),
            together: 16,
        }
    }
}

impl WriteOptions {
    /// Checks the range of every number.
    ///
    /// # Errors
    /// For the first that is out of range.
    pub fn validate(&self) -> Result<(), SettingError> {
        for (key, value) in [("max_tokens", self.max_tokens), ("together", self.together)] {
            if value == 0 {
                return Err(SettingError::value(key, 0, "at least 1"));
            }
        }
        self.sampling.validate()
    }
}

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

/// Hears each piece of text with the index of its prompt, and says whether to go on.
pub type Listener<'a> = &'a mut dyn FnMut(usize, &str) -> bool;

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

/// A text that is being written.
struct Draft<'a> {
    /// The index of its prompt.
    index: usize,
    prompt: u64,
    sample: u64,
    sequence: &'a mut Sequence,
    stream: TextStream,
    log_probabilities: Vec<f64>,
    finish_reason: Option<FinishReason>,
}

impl Writer<'_> {
    /// Writes a text after each of `prompts` under each of `draws`, those of a prompt one after the
    /// other.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_under<'p>(
        &self,
        prompts: impl Iterator<Item = &'p Vec<u32>>,
        draws: &[usize],
        options: &WriteOptions,
        listener: Listener<'_>,
    ) -> Result<Vec<Written>, GenerateError> {
        let of_prompt = |tokens: &'p Vec<u32>| {
            let draws = draws.iter().enumerate();
            draws.map(|(sample, &draw)| WritePrompt {
                tokens: tokens.clone(),
                draw,
                sample: sample as u64,
            })
        };
        let prompts: Vec<WritePrompt> = prompts.flat_map(of_prompt).collect();
        self.write(&prompts, options, listener)
    }

    /// Writes a text after each prompt.
    ///
    /// # Errors
    /// If a setting is out of range, a prompt is empty or too long, a text cannot be decoded, or the
    /// listener says stop.
    pub fn write(
        &self,
        prompts: &[WritePrompt],
        options: &WriteOptions,
        listener: Listener<'_>,
    ) -> Result<Vec<Written>, GenerateError> {
        options.validate()?;
        let mut written = Vec::with_capacity(prompts.len());
        for (index, prompts) in prompts.chunks(options.together).enumerate() {
            for prompt in prompts {
                self.check(prompt.tokens.len())?;
            }
            let read = prompts.iter().map(|prompt| Prompt {
                draw: prompt.draw,
                tokens: &prompt.tokens,
            });
            let (mut sequences, logits) = self.decoding.read(&read.collect::<Vec<_>>());
            let drafts = sequences.iter_mut().zip(prompts).enumerate();
            let drafts = drafts.map(|(row, (sequence, prompt))| {
                Draft::new(index * options.together + row, prompt.sample, sequence)
            });
            written.extend(self.finish(drafts.collect(), logits, options, listener)?);
        }
        Ok(written)
    }

    /// Writes a text after one prompt. `so_far` is a sequence that was read or written before, if
    /// any; where the prompt continues it, only what follows is read. It becomes that of the prompt
    /// and its text.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_on(
        &self,
        so_far: &mut Option<Sequence>,
        prompt: &WritePrompt,
        options: &WriteOptions,
        listener: Listener<'_>,
    ) -> Result<Written, GenerateError> {
        options.validate()?;
        self.check(prompt.tokens.len())?;
        let (sequence, logits) = self.read_on(so_far.take(), prompt);
        let mut sequence = sequence.ok_or(GenerateError::NoTokens)?;
        let draft = Draft::new(0, prompt.sample, &mut sequence);
        let mut written = self.finish(vec![draft], logits, options, listener)?;
        *so_far = Some(sequence);
        written.pop().ok_or(GenerateError::NoTokens)
    }

    /// Reads a prompt, as far as it is not read yet.
    fn read_on(
        &self,
        so_far: Option<Sequence>,
        prompt: &WritePrompt,
    ) -> (Option<Sequence>, Vec<f32>) {
        let is_known = |known: &Sequence| {
            let tokens = known.tokens();
            let goes_on = prompt.tokens.len() > tokens.len();
            known.draw() == prompt.draw && goes_on && prompt.tokens.starts_with(tokens)
        };
        if let Some(mut known) = so_far.filter(is_known) {
            let rest = &prompt.tokens[known.tokens().len()..];
            let logits = self.decoding.extend(vec![(&mut known, rest)]);
            return (Some(known), logits);
        }
        let (mut read, logits) = self.decoding.read(&[Prompt {
            draw: prompt.draw,
            tokens: &prompt.tokens,
        }]);
        (read.pop(), logits)
    }

    /// Refuses a prompt that cannot be continued.
    fn check(&self, tokens: usize) -> Result<(), GenerateError> {
        let most = self.decoding.config().max_position_embeddings;
        match tokens {
            0 => Err(GenerateError::NoTokens),
            tokens if tokens >= most => Err(GenerateError::TooLong { tokens, most }),
            _ => Ok(()),
        }
    }

    /// Writes all drafts to their end, from the logits after each.
    fn finish(
        &self,
        mut drafts: Vec<Draft<'_>>,
        mut logits: Vec<f32>,
        options: &WriteOptions,
        listener: Listener<'_>,
    ) -> Result<Vec<Written>, GenerateError> {
        let width = self.decoding.config().vocab_size;
        loop {
            let open = drafts
                .iter_mut()
                .filter(|draft| draft.finish_reason.is_none());
            for (draft, logits) in open.zip(logits.chunks_exact(width)) {
                self.write_token(draft, logits, options, listener)?;
            }
            let open = drafts
                .iter_mut()
                .filter(|draft| draft.finish_reason.is_none());
            let additions: Vec<(&mut Sequence, &[u32])> = open
                .filter_map(|draft| {
                    let tokens = draft.stream.tokens();
                    Some((&mut *draft.sequence, tokens.last_chunk::<1>()?.as_slice()))
                })
                .collect();
            if additions.is_empty() {
                return Ok(drafts.into_iter().map(Draft::written).collect());
            }
            logits = self.decoding.extend(additions);
        }
    }

    /// Adds a token to a draft, and ends it if that was the last one.
    fn write_token(
        &self,
        draft: &mut Draft<'_>,
        logits: &[f32],
        options: &WriteOptions,
        listener: Listener<'_>,
    ) -> Result<(), GenerateError> {
        let written = draft.stream.tokens().len();
        if logits.iter().any(|logit| logit.is_nan()) {
            return Err(GenerateError::NotFinite { written });
        }
        let address = Address {
            prompt: draft.prompt,
            sample: draft.sample,
            position: written as u64,
        };
        let seen = draft.sequence.tokens();
        let token = options.sampling.choose(logits, seen, address);
        draft.log_probabilities.push(log_probability(logits, token));
        let stop = &options.stop;
        let piece = draft.stream.push(token, self.tokenizer, stop)?;
        let mut goes_on = piece.is_empty() || listener(draft.index, piece);
        // The last token is written, but not read.
        let positions = draft.sequence.tokens().len() + 1;
        let is_end = self.ends.contains(&token);
        let is_last = written + 1 >= options.max_tokens
            || positions >= self.decoding.config().max_position_embeddings;
        if is_end || is_last || draft.stream.is_stopped() {
            let rest = draft.stream.finish(self.tokenizer, stop)?;
            goes_on = goes_on && (rest.is_empty() || listener(draft.index, rest));
            let is_stop = is_end || draft.stream.is_stopped();
            draft.finish_reason = Some(match is_stop {
                true => FinishReason::Stop,
                false => FinishReason::Length,
            });
        }
        match goes_on {
            true => Ok(()),
            false => Err(GenerateError::Stopped),
        }
    }
}

impl<'a> Draft<'a> {
    fn new(index: usize, sample: u64, sequence: &'a mut Sequence) -> Self {
        let bytes = sequence
            .tokens()
            .iter()
            .flat_map(|token| token.to_le_bytes());
        Self {
            index,
            prompt: fnv1a(&bytes.collect::<Vec<u8>>()),
            sample,
            sequence,
            stream: TextStream::default(),
            log_probabilities: Vec::new(),
            finish_reason: None,
        }
    }

    fn written(self) -> Written {
        Written {
            text: self.stream.text().to_string(),
            tokens: self.stream.tokens().to_vec(),
            log_probabilities: self.log_probabilities,
            finish_reason: self.finish_reason.unwrap_or(FinishReason::Length),
        }
    }
}

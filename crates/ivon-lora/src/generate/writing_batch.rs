//! Texts that are written at the same time: each step reads the weights once and writes a token of
//! each. A text may join between two steps, and what is written does not depend on the others.

use super::draft::{Draft, Ending, Written, WrittenToken};
use super::error::GenerateError;
use super::write_options::WriteOptions;
use super::writer::{WritePrompt, Writer};
use crate::forward::{Prompt, Sequence};

/// A text that begins.
#[derive(Clone, Debug)]
pub struct Beginning {
    /// The number by which its tokens are heard.
    pub index: usize,
    /// What it is written after.
    pub prompt: WritePrompt,
    /// How it is written.
    pub options: WriteOptions,
}

/// A text that has ended.
#[derive(Debug)]
pub struct Ended {
    /// Its number.
    pub index: usize,
    /// The text, or why there is none: [`GenerateError::Stopped`] if the listener did not want more.
    pub written: Result<Written, GenerateError>,
    /// All tokens but the last, as they were read.
    pub sequence: Sequence,
}

/// Hears each token with the number of its text, and says whether this text is to go on.
pub type TokenListener<'a> = &'a mut dyn FnMut(usize, WrittenToken) -> bool;

/// Texts that are being written.
pub struct WritingBatch<'a> {
    writer: Writer<'a>,
    drafts: Vec<Draft>,
    /// The logits after each draft, `[drafts, V]`.
    logits: Vec<f32>,
}

impl<'a> WritingBatch<'a> {
    /// No texts yet.
    pub fn new(writer: Writer<'a>) -> Self {
        Self {
            writer,
            drafts: Vec::new(),
            logits: Vec::new(),
        }
    }

    /// The number of texts that are being written.
    pub fn len(&self) -> usize {
        self.drafts.len()
    }

    /// Whether no text is being written.
    pub fn is_empty(&self) -> bool {
        self.drafts.is_empty()
    }

    /// Reads the prompts of texts, which [`step`](Self::step) then writes.
    ///
    /// # Errors
    /// If a setting is out of range, or a prompt is empty or too long; none of them has joined then.
    pub fn join(&mut self, beginnings: Vec<Beginning>) -> Result<(), GenerateError> {
        for beginning in &beginnings {
            self.writer.check(&beginning.prompt, &beginning.options)?;
        }
        if beginnings.is_empty() {
            return Ok(());
        }
        let prompts = beginnings.iter().map(|beginning| Prompt {
            draw: beginning.prompt.draw,
            tokens: &beginning.prompt.tokens,
        });
        let prompts: Vec<Prompt<'_>> = prompts.collect();
        let (sequences, logits) = self.writer.decoding.read(&prompts);
        for (beginning, sequence) in beginnings.into_iter().zip(sequences) {
            let Beginning {
                index,
                prompt,
                options,
            } = beginning;
            let draft = Draft::new(index, prompt.sample, sequence, options);
            self.drafts.push(draft);
        }
        self.logits.extend(logits);
        Ok(())
    }

    /// A text after a sequence that was read already, with the logits after it, `[V]`.
    pub(super) fn join_read(
        &mut self,
        sequence: Sequence,
        sample: u64,
        logits: &[f32],
        options: &WriteOptions,
    ) {
        let draft = Draft::new(0, sample, sequence, options.clone());
        self.drafts.push(draft);
        self.logits.extend_from_slice(logits);
    }

    /// Writes a token of each text; returns the texts that have ended with it.
    pub fn step(&mut self, listener: TokenListener<'_>) -> Vec<Ended> {
        let width = self.writer.decoding.config().vocab_size;
        let logits = std::mem::take(&mut self.logits);
        let (mut open, mut ended) = (Vec::new(), Vec::new());
        for (mut draft, logits) in self.drafts.drain(..).zip(logits.chunks_exact(width)) {
            let written = write_token(&self.writer, &mut draft, logits, listener);
            let written = match written {
                Ok(()) if draft.finish_reason.is_none() => {
                    open.push(draft);
                    continue;
                }
                written => written.map(|()| draft.written()),
            };
            ended.push(Ended {
                index: draft.index,
                written,
                sequence: draft.sequence,
            });
        }
        self.drafts = open;
        let unread: Vec<_> = self.drafts.iter_mut().filter_map(Draft::unread).collect();
        if !unread.is_empty() {
            self.logits = self.writer.decoding.extend(unread);
        }
        ended
    }
}

/// Writes the next token of a text from its logits `[V]`.
fn write_token(
    writer: &Writer<'_>,
    draft: &mut Draft,
    logits: &[f32],
    listener: TokenListener<'_>,
) -> Result<(), GenerateError> {
    let token = draft.choose(logits)?;
    let ending = Ending {
        is_end_token: writer.ends.contains(&token),
        most_positions: writer.decoding.config().max_position_embeddings,
    };
    let written = draft.push(token, logits, &ending, writer.tokenizer)?;
    match listener(draft.index, written) {
        true => Ok(()),
        false => Err(GenerateError::Stopped),
    }
}

//! Prompts in, whole texts out.

use super::draft::{Written, WrittenToken};
use super::error::GenerateError;
use super::write_options::WriteOptions;
use super::writer::{WritePrompt, Writer};
use super::writing_batch::{Beginning, WritingBatch};
use crate::forward::{Prompt, Sequence};

/// Hears each piece of text with the index of its prompt, and says whether to go on.
pub type Listener<'a> = &'a mut dyn FnMut(usize, &str) -> bool;

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
        let mut written: Vec<Option<Written>> = prompts.iter().map(|_| None).collect();
        let beginnings = prompts.iter().enumerate().map(|(index, prompt)| Beginning {
            index,
            prompt: prompt.clone(),
            options: options.clone(),
        });
        let beginnings: Vec<Beginning> = beginnings.collect();
        for beginnings in beginnings.chunks(options.together) {
            let mut batch = WritingBatch::new(*self);
            batch.join(beginnings.to_vec())?;
            let ended = finish(&mut batch, listener)?;
            for (index, text, _) in ended {
                written[index] = Some(text);
            }
        }
        Ok(written.into_iter().flatten().collect())
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
        self.check(prompt, options)?;
        let (sequence, logits) = self.read_on(so_far.take(), prompt);
        let sequence = sequence.ok_or(GenerateError::NoTokens)?;
        let mut batch = WritingBatch::new(*self);
        batch.join_read(sequence, prompt.sample, &logits, options);
        let ended = finish(&mut batch, listener)?.pop();
        let (_, written, sequence) = ended.ok_or(GenerateError::NoTokens)?;
        *so_far = Some(sequence);
        Ok(written)
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
}

/// Writes all texts to their end, or to the first error; returns their numbers, texts and sequences
/// in the order in which they ended.
fn finish(
    batch: &mut WritingBatch<'_>,
    listener: Listener<'_>,
) -> Result<Vec<(usize, Written, Sequence)>, GenerateError> {
    let mut hear =
        |index: usize, token: WrittenToken| token.piece.is_empty() || listener(index, &token.piece);
    let mut texts = Vec::new();
    while !batch.is_empty() {
        for ended in batch.step(&mut hear) {
            texts.push((ended.index, ended.written?, ended.sequence));
        }
    }
    Ok(texts)
}

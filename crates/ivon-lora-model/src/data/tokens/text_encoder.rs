//! Rows of text → token ids with the weight of each in the loss.
//!
//! *Conversations* are rendered by the chat template and encoded without further special tokens.
//! What the assistant says is what the template marks with `{% generation %}`; a token belongs to it
//! if it spells a byte of it, as in transformers. Without such marks it is found by rendering: what
//! stands between the conversation before the message, with a generation prompt, and the
//! conversation up to and including it. So the end of the turn is trained on with the message. Both
//! beginnings must be beginnings of the whole text, and the tokens of the first one those of the
//! whole: otherwise the model would be trained on other tokens than it will read when it answers.
//!
//! *Completions* follow their prompt directly and end with the tokenizer's end token; a token that
//! spells the end of the prompt and the start of the completion is trained on.
//!
//! *Texts* start with the tokens that the tokenizer's post-processor adds, and end with its end
//! token.
//!
//! *Length.* Conversations and completions that are too long lose their end. Texts are divided into
//! stretches; each begins with the last token of the one before, which is only read, so that every
//! token but the first is predicted once.

use std::cell::OnceCell;
use std::collections::HashSet;
use std::ops::Range;

use super::chat::ChatTemplate;
use super::encoded::{Encoded, Target, TextTarget};
use super::tokenizer::{Spelled, Tokenizer};
use crate::data::error::DataError;
use crate::data::speaker::Speaker;
use crate::data::task::{Content, Document, DropReason, Example, LossOn, Message};
use crate::random::fnv1a;
use crate::settings::SettingError;

/// Encodes rows of text one at a time.
#[derive(Debug)]
pub struct TextEncoder<'a> {
    tokenizer: &'a Tokenizer,
    max_length: usize,
    /// The chat template, once it is needed.
    chat: Option<ChatTemplate>,
    /// Tokens that spell nothing, once they are needed.
    special: OnceCell<HashSet<u32>>,
}

/// A sequence of tokens made of a row of text.
#[derive(Clone, Debug, PartialEq)]
pub struct EncodedText {
    /// Its tokens.
    pub encoded: Encoded,
    /// The text that they spell.
    pub text: String,
    /// Whether its end was cut off.
    pub truncated: bool,
    /// Whether a token spells the end of the prompt and the start of the completion.
    pub merged: bool,
}

/// A part of a text, in bytes, and its weight in the loss.
type WeighedPart = (Range<usize>, f32);

/// A text with weights for its parts.
struct Weighed {
    text: String,
    /// Its parts with weights of their own, in ascending order.
    parts: Vec<WeighedPart>,
    /// The weight of everything else.
    others: f32,
}

/// Tokens with their weights, before they are cut to length.
struct Sequence {
    tokens: Vec<Spelled>,
    weights: Vec<f32>,
    text: String,
}

impl<'a> TextEncoder<'a> {
    /// An encoder for one tokenizer and this maximum number of tokens.
    pub fn new(tokenizer: &'a Tokenizer, max_length: usize) -> Self {
        Self {
            tokenizer,
            max_length,
            chat: None,
            special: OnceCell::new(),
        }
    }

    /// Encodes a row of text: one sequence, or several stretches of a long text.
    ///
    /// # Errors
    /// If the tokenizer or the chat template fails, or there is no chat template for a conversation.
    pub fn encode(
        &mut self,
        example: &Example,
        document: &Document,
    ) -> Result<Result<Vec<EncodedText>, DropReason>, DataError> {
        if self.max_length < 2 {
            let expected = "at least 2 tokens, one to read and one to predict";
            let found = self.max_length.to_string();
            return Err(SettingError::new("max_length", found, expected).into());
        }
        match &document.content {
            Content::Chat(messages) => {
                let weighed = self.conversation(&example.id, messages, document.loss_on)?;
                let sequence = match weighed {
                    Ok(weighed) => weighed.sequence(self.tokenizer, false)?,
                    Err(reason) => return Ok(Err(reason)),
                };
                Ok(self.cut(example, sequence, false))
            }
            Content::Completion(completion) => {
                let completion = completion.as_deref();
                let (sequence, merged) = self.completion(example, completion, document.loss_on)?;
                Ok(self.cut(example, sequence, merged))
            }
            Content::Text => {
                let mut sequence = whole(example.prompt.text()).sequence(self.tokenizer, true)?;
                self.end(&mut sequence, 1.0);
                Ok(self.stretches(example, &sequence))
            }
        }
    }

    /// A prompt with its completion and the end token, and whether a token spells parts of both.
    fn completion(
        &self,
        example: &Example,
        completion: Option<&str>,
        loss_on: LossOn,
    ) -> Result<(Sequence, bool), DataError> {
        let prompt = example.prompt.text();
        let border = prompt.len();
        let text = prompt + completion.unwrap_or_default();
        let weighed = Weighed {
            parts: vec![(border..text.len(), 1.0)],
            text,
            others: loss_on.weight_of_others(),
        };
        let mut sequence = weighed.sequence(self.tokenizer, true)?;
        let crosses = |token: &Spelled| token.bytes.start < border && border < token.bytes.end;
        let merged = sequence.tokens.iter().any(crosses);
        if completion.is_some() {
            self.end(&mut sequence, 1.0);
        }
        Ok((sequence, merged))
    }

    /// Appends the end token, if the tokenizer has one and the text does not end with it.
    fn end(&self, sequence: &mut Sequence, weight: f32) {
        let end = self.tokenizer.eos_token.as_deref();
        let end = end.and_then(|end| self.tokenizer.token_to_id(end));
        let last = sequence.tokens.last().map(|token| token.id);
        if let Some(end) = end.filter(|end| last != Some(*end)) {
            let place = sequence.text.len();
            sequence.tokens.push(Spelled {
                bytes: place..place,
                ..Spelled::added(end)
            });
            sequence.weights.push(weight);
        }
    }

    /// A conversation in the chat template, with the weights of the assistant's messages.
    fn conversation(
        &mut self,
        id: &str,
        messages: &[Message],
        loss_on: LossOn,
    ) -> Result<Result<Weighed, DropReason>, DataError> {
        let chat = match self.chat.take() {
            Some(chat) => chat,
            None => ChatTemplate::of(self.tokenizer).map_err(for_conversations)?,
        };
        let chat = self.chat.insert(chat);
        let whole = chat.beginning(messages, messages.len(), false);
        let whole = whole.map_err(|reason| DataError::ChatOfRow {
            id: id.into(),
            reason,
        })?;
        let answers = answers(messages);
        let others = loss_on.weight_of_others();
        let marked = weights_of_marks(chat, &whole.generation, &answers);
        let parts = match marked {
            Some(weights) => whole.generation.into_iter().zip(weights).collect(),
            None => match self.answered(messages, &whole.text, &answers, others)? {
                Ok(parts) => parts,
                Err(reason) => return Ok(Err(reason)),
            },
        };
        Ok(Ok(Weighed {
            text: whole.text,
            parts,
            others,
        }))
    }

    /// The parts of a rendered conversation that are answers with a weight unlike that of the
    /// others, found by rendering the conversation up to their start and their end.
    fn answered(
        &self,
        messages: &[Message],
        whole: &str,
        answers: &[(usize, f32)],
        others: f32,
    ) -> Result<Result<Vec<WeighedPart>, DropReason>, DataError> {
        let mut parts = Vec::new();
        let Some(chat) = &self.chat else {
            return Ok(Ok(parts));
        };
        let tokens = self.tokenizer.encode(whole, false)?;
        for &(index, weight) in answers.iter().filter(|(_, weight)| *weight != others) {
            let before = chat.beginning(messages, index, true);
            let after = chat.beginning(messages, index + 1, false);
            let (Ok(before), Ok(after)) = (before, after) else {
                return Ok(Err(DropReason::UnstableTemplate));
            };
            let (before, after) = (before.text, self.without_close(after.text, whole));
            if !after.starts_with(&before) || !whole.starts_with(&after) {
                return Ok(Err(DropReason::UnstableTemplate));
            }
            if !tokens.starts_with(&self.tokenizer.encode(&before, false)?) {
                return Ok(Err(DropReason::MergedAnswer));
            }
            parts.push((before.len()..after.len(), weight));
        }
        Ok(Ok(parts))
    }

    /// A rendered beginning of a conversation without the end token after its last turn, where the
    /// whole goes on: some templates close every conversation with it.
    fn without_close(&self, beginning: String, whole: &str) -> String {
        let end = self.tokenizer.eos_token.as_deref();
        let open = end.and_then(|end| beginning.strip_suffix(end));
        match open {
            Some(open) if !whole.starts_with(&beginning) => open.into(),
            _ => beginning,
        }
    }

    /// One sequence of at most the maximum length.
    fn cut(
        &self,
        example: &Example,
        mut sequence: Sequence,
        merged: bool,
    ) -> Result<Vec<EncodedText>, DropReason> {
        if !sequence.is_trained_on() {
            return Err(DropReason::NothingToTrainOn);
        }
        let max_length = self.max_length;
        let truncated = sequence.tokens.len() > max_length;
        sequence.tokens.truncate(max_length);
        sequence.weights.truncate(max_length);
        if !sequence.is_trained_on() {
            return Err(DropReason::AnswerCut { max_length });
        }
        let tokens = 0..sequence.tokens.len();
        let text = self.encoded_text(example, &sequence, tokens, 0);
        Ok(vec![EncodedText {
            truncated,
            merged,
            ..text
        }])
    }

    /// The stretches of a text.
    fn stretches(
        &self,
        example: &Example,
        sequence: &Sequence,
    ) -> Result<Vec<EncodedText>, DropReason> {
        if !sequence.is_trained_on() {
            return Err(DropReason::NothingToTrainOn);
        }
        let count = sequence.tokens.len();
        let starts = (0..count - 1).step_by(self.max_length - 1);
        let ends = starts.map(|start| start..(start + self.max_length).min(count));
        let stretch = |(number, tokens)| self.encoded_text(example, sequence, tokens, number);
        Ok(ends.enumerate().map(stretch).collect())
    }

    /// The tokens of a part of a sequence, the first of which is only read.
    fn encoded_text(
        &self,
        example: &Example,
        sequence: &Sequence,
        part: Range<usize>,
        number: usize,
    ) -> EncodedText {
        let tokens = &sequence.tokens[part.clone()];
        let mut weights = sequence.weights[part].to_vec();
        weights.iter_mut().take(1).for_each(|weight| *weight = 0.0);
        let special = self
            .special
            .get_or_init(|| self.tokenizer.special_token_ids());
        let spelled = tokens.iter().zip(&weights);
        let spelled =
            spelled.filter(|(token, weight)| **weight > 0.0 && !special.contains(&token.id));
        let bytes = spelled.map(|(token, _)| token.new).sum();
        let start = tokens.first().map_or(0, |token| token.bytes.start);
        let end = tokens.last().map_or(0, |token| token.bytes.end);
        let text = sequence
            .text
            .get(start..end)
            .unwrap_or_default()
            .to_string();
        let id = match number {
            0 => example.id.clone(),
            number => format!("{}/{}", example.id, number + 1),
        };
        EncodedText {
            encoded: Encoded {
                key: fnv1a(format!("{id}\0{text}").as_bytes()),
                id,
                tokens: tokens.iter().map(|token| token.id).collect(),
                target: Target::Text(TextTarget {
                    weights,
                    bytes,
                    document: fnv1a(example.id.as_bytes()),
                }),
            },
            text,
            truncated: false,
            merged: false,
        }
    }
}

/// A text all of which is trained on.
fn whole(text: String) -> Weighed {
    Weighed {
        text,
        parts: Vec::new(),
        others: 1.0,
    }
}

/// The error for a tokenizer without a chat template, where it is needed.
fn for_conversations(error: DataError) -> DataError {
    match error {
        DataError::NoChatTemplate { named } => DataError::ChatNeedsTemplate { named },
        other => other,
    }
}

/// The places and the weights of the assistant's messages.
fn answers(messages: &[Message]) -> Vec<(usize, f32)> {
    let numbered = messages.iter().enumerate();
    let answers = numbered.filter(|(_, message)| message.speaker == Speaker::Assistant);
    answers
        .map(|(index, message)| (index, message.weight.unwrap_or(1.0)))
        .collect()
}

/// The weight of each marked part, if the template marks parts and it is known which answer each of
/// them is.
fn weights_of_marks(
    chat: &ChatTemplate,
    marked: &[Range<usize>],
    answers: &[(usize, f32)],
) -> Option<Vec<f32>> {
    if !chat.marks_generation() {
        return None;
    }
    let mut weights = answers.iter().map(|(_, weight)| *weight);
    if marked.len() == answers.len() {
        return Some(weights.collect());
    }
    let first = weights.next().unwrap_or(1.0);
    weights
        .all(|weight| weight == first)
        .then(|| vec![first; marked.len()])
}

impl Weighed {
    /// The tokens with their weights.
    fn sequence(self, tokenizer: &Tokenizer, special: bool) -> Result<Sequence, DataError> {
        let tokens = tokenizer.spell(&self.text, special)?;
        let weights = tokens.iter().map(|token| self.weight(token)).collect();
        Ok(Sequence {
            tokens,
            weights,
            text: self.text,
        })
    }

    /// The largest weight of the parts that a token spells bytes of.
    fn weight(&self, token: &Spelled) -> f32 {
        if token.is_added {
            return 0.0;
        }
        let Range { start, end } = token.bytes;
        // A token of no bytes is at its place.
        let end = end.max(start + 1);
        let first = self.parts.partition_point(|(part, _)| part.end <= start);
        let touched = self.parts[first..].iter();
        let touched = touched.take_while(|(part, _)| part.start < end);
        let weights = touched.map(|(_, weight)| *weight);
        weights.reduce(f32::max).unwrap_or(self.others)
    }
}

impl Sequence {
    /// Whether a token after the first has a weight.
    fn is_trained_on(&self) -> bool {
        self.weights.iter().skip(1).any(|weight| *weight > 0.0)
    }
}

#[cfg(test)]
mod tests;

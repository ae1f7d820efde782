//! Examples → token ids: the prompt, shortened where it must be, and its answers.
//!
//! *Answers.* What an answer adds is read off the encoding of prompt + blank + answer, since tokens depend on what
//! stands before them; no blank is put where the prompt (or the chat template around it) already ends in one or in a
//! line end. The choice token is the first by which that encoding goes beyond the prompt's. A tokenizer that merges
//! across the border changes the prompt's last tokens too; then the prompt ends before them, and every answer
//! begins with its own form of them, so that prompt and answer together are always the encoding of their text.
//!
//! *Length.* A prompt is shortened as text, see [`Prompt::shortened`], and encoded anew, so that its ids are always
//! those of a text and end with the cue's. Where whole answers are scored, prompt and longest answer together stay
//! within the limit.

use std::collections::HashMap;
use std::sync::Arc;

use rayon::prelude::*;
use serde::Serialize;

use super::chat::ChatTemplate;
use super::encoded::{Choices, Encoded};
use super::error::DataError;
use super::example::{DropReason, Drops, Example};
use super::prompt::Prompt;
use super::task::Scoring;
use super::tokenizer::Tokenizer;
use crate::random::fnv1a;

/// The most prompt endings whose answers are remembered.
const REMEMBERED: usize = 4096;

/// How examples become tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodeOptions {
    /// The most tokens of a prompt, special tokens included.
    pub max_length: usize,
    /// How answers are scored.
    pub scoring: Scoring,
    /// Whether the checkpoint's chat template is put around the prompt.
    pub chat_template: bool,
}

/// Turns examples into tokens, one after the other.
#[derive(Debug)]
pub struct Encoder<'a> {
    tokenizer: &'a Tokenizer,
    options: EncodeOptions,
    chat: Option<ChatTemplate>,
    /// The special tokens that begin a sequence, once they are known.
    leading: Option<Vec<u32>>,
    remembered: HashMap<(String, usize), Arc<Continuations>>,
}

/// What an example became.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Tokens.
    Encoded {
        /// The tokens.
        encoded: Encoded,
        /// The text that they stand for, chat template included.
        text: String,
        /// Whether the prompt has lost text.
        truncated: bool,
    },
    /// Nothing, and why.
    Dropped(DropReason),
}

/// A text in tokens.
struct Tokens {
    text: String,
    /// Special tokens put before the text.
    leading: Vec<u32>,
    /// The tokens of the text alone.
    own: Vec<u32>,
}

impl Tokens {
    fn len(&self) -> usize {
        self.leading.len() + self.own.len()
    }
}

/// The answers after the end of a text.
#[derive(Debug)]
struct Continuations {
    /// The answers, held so that their address keeps naming them.
    words: Arc<[String]>,
    /// The text's own tokens, of which the last `replaced` are part of the answers.
    base: Vec<u32>,
    replaced: usize,
    answers: Vec<Vec<u32>>,
}

impl<'a> Encoder<'a> {
    /// An encoder for one tokenizer.
    ///
    /// # Errors
    /// If a chat template is asked for and the tokenizer has none that works, or `max_length` is 0.
    pub fn new(tokenizer: &'a Tokenizer, options: EncodeOptions) -> Result<Self, DataError> {
        if options.max_length == 0 {
            return Err(DataError::Setting { name: "max_length", found: "0".into(), expected: "at least 1 token" });
        }
        let chat = options.chat_template.then(|| ChatTemplate::of(tokenizer)).transpose()?;
        Ok(Self { tokenizer, options, chat, leading: None, remembered: HashMap::new() })
    }

    /// Encodes one example.
    ///
    /// # Errors
    /// If the tokenizer or the chat template fails, or answers cannot be told apart.
    pub fn encode(&mut self, example: &Example) -> Result<Outcome, DataError> {
        let limit = self.options.max_length;
        let mut reserved = 0;
        // A second round is needed where whole answers take room, a third where another cut changes them.
        for _ in 0..3 {
            let Some((prompt, tokens)) = self.fitting(&example.prompt, reserved)? else {
                return Ok(Outcome::Dropped(DropReason::TooLong { max_length: limit }));
            };
            let after = self.continuations(&tokens, &example.answers)?;
            let choices = choices(&after.answers, self.options.scoring);
            let mut ids = tokens.leading;
            ids.extend_from_slice(&tokens.own[..tokens.own.len().saturating_sub(after.replaced)]);
            if ids.is_empty() {
                return Ok(Outcome::Dropped(DropReason::NoTokens));
            }
            reserved = match &choices {
                Choices::Tokens(_) => 0,
                Choices::Answers(answers) => answers.iter().map(Vec::len).max().unwrap_or(0),
            };
            if ids.len() + reserved <= limit {
                let key = fnv1a(format!("{}\0{}", example.id, example.prompt.text()).as_bytes());
                let encoded = Encoded { id: example.id.clone(), key, tokens: ids, choices, label: example.label };
                return Ok(Outcome::Encoded { encoded, text: tokens.text, truncated: prompt != example.prompt });
            }
        }
        Ok(Outcome::Dropped(DropReason::TooLong { max_length: limit }))
    }

    /// The longest form of a prompt that leaves `reserved` tokens of the limit free.
    fn fitting(&mut self, prompt: &Prompt, reserved: usize) -> Result<Option<(Prompt, Tokens)>, DataError> {
        let room = self.options.max_length.saturating_sub(reserved);
        // The text that fitted last is the one that is chosen.
        let mut fitted = None;
        let shortened = prompt.shortened(|text| {
            let tokens = self.tokens(text)?;
            let fits = tokens.len() <= room;
            if fits {
                fitted = Some(tokens);
            }
            Ok::<_, DataError>(fits)
        })?;
        Ok(shortened.zip(fitted))
    }

    /// A prompt's text in tokens, in the chat template if there is one.
    fn tokens(&mut self, prompt: &str) -> Result<Tokens, DataError> {
        let text = match &self.chat {
            Some(chat) => chat.render(prompt)?,
            None => prompt.to_string(),
        };
        let own = self.tokenizer.encode(&text, false)?;
        let leading = match &self.leading {
            Some(leading) => leading.clone(),
            None => {
                // Only what stands before the text counts: an end token after it would be what the model answers to.
                let framed = self.tokenizer.encode(&text, true)?;
                let start = (0..=framed.len().saturating_sub(own.len())).find(|&start| framed[start..].starts_with(&own));
                let leading = framed[..start.unwrap_or(0)].to_vec();
                self.leading.insert(leading).clone()
            }
        };
        // A template that begins with the token itself must not get it twice.
        let begun = self.chat.is_some() && own.starts_with(&leading);
        Ok(Tokens { text, leading: if begun { Vec::new() } else { leading }, own })
    }

    /// The tokens of each answer after a text.
    ///
    /// They are worked out behind the text's last word alone and remembered by it, since a task asks the same cue
    /// and answers of every row. That is exact where the whole text's tokens end as the last word's do and at least
    /// one of those stays when an answer follows: two token sequences of a byte-pair encoding that agree in a token
    /// can be joined there. Where it does not hold, the whole text is used.
    fn continuations(&mut self, tokens: &Tokens, words: &Arc<[String]>) -> Result<Arc<Continuations>, DataError> {
        let tail = last_word(&tokens.text);
        let key = (tail.to_string(), Arc::as_ptr(words).cast::<String>().addr());
        let known = match self.remembered.get(&key) {
            Some(known) => Some(known.clone()),
            None => {
                let base = self.tokenizer.encode(tail, false)?;
                let found = self.after(tail, base, words)?.map(Arc::new);
                if let Some(found) = &found
                    && self.remembered.len() < REMEMBERED
                {
                    self.remembered.insert(key, found.clone());
                }
                found
            }
        };
        if let Some(known) = known.filter(|known| Arc::ptr_eq(&known.words, words)) {
            let shared = known.base.iter().rev().zip(tokens.own.iter().rev()).take_while(|(one, other)| one == other).count();
            if tail.len() == tokens.text.len() || known.replaced < shared {
                return Ok(known);
            }
        }
        let found = self.after(&tokens.text, tokens.own.clone(), words)?.map(Arc::new);
        found.ok_or_else(|| DataError::AnswerWithoutTokens { answer: words.join("`, `"), after: tail.trim().into() })
    }

    /// The answers after a text whose tokens are `base`; none if the text has no tokens of its own.
    fn after(&self, text: &str, base: Vec<u32>, words: &Arc<[String]>) -> Result<Option<Continuations>, DataError> {
        let blank = if text.ends_with(char::is_whitespace) { "" } else { " " };
        let mut whole = Vec::with_capacity(words.len());
        for word in words.iter() {
            let ids = self.tokenizer.encode(&format!("{text}{blank}{word}"), false)?;
            if ids.is_empty() || ids == base {
                let after = last_word(text).trim().into();
                return Err(DataError::AnswerWithoutTokens { answer: word.clone(), after });
            }
            whole.push(ids);
        }
        let kept = whole.iter().map(|ids| base.iter().zip(ids).take_while(|(one, other)| one == other).count()).min().unwrap_or(0);
        let answers: Vec<Vec<u32>> = whole.iter().map(|ids| ids[kept..].to_vec()).collect();
        if let Some(index) = answers.iter().position(Vec::is_empty) {
            return Err(DataError::AnswerWithoutTokens { answer: words[index].clone(), after: last_word(text).trim().into() });
        }
        let mut seen = HashMap::new();
        for (index, answer) in answers.iter().enumerate() {
            if let Some(first) = seen.insert(answer, index) {
                return Err(DataError::SameTokens { first: words[first].clone(), second: words[index].clone() });
            }
        }
        Ok(Some(Continuations { words: words.clone(), replaced: base.len() - kept, base, answers }))
    }
}

/// One token each where all differ and whole answers are not asked for; else the whole answers.
fn choices(answers: &[Vec<u32>], scoring: Scoring) -> Choices {
    let first: Vec<u32> = answers.iter().filter_map(|answer| answer.first().copied()).collect();
    let mut different = first.clone();
    different.sort_unstable();
    different.dedup();
    if scoring == Scoring::Token && different.len() == answers.len() {
        Choices::Tokens(first)
    } else {
        Choices::Answers(answers.to_vec())
    }
}

/// The end of a text from the blank before its last word.
fn last_word(text: &str) -> &str {
    let trimmed = text.trim_end();
    &text[trimmed.rfind(char::is_whitespace).unwrap_or(0)..]
}

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
    /// Those left out.
    pub dropped: Vec<DroppedExample>,
}

impl EncodedSet {
    /// How many were left out for each reason.
    pub fn drops(&self) -> Drops {
        let mut drops = Drops::default();
        self.dropped.iter().for_each(|dropped| drops.add(dropped.reason.clone()));
        drops
    }
}

/// Encodes examples, on all threads.
///
/// # Errors
/// As [`Encoder::encode`], of the first example that fails; [`DataError::EmptySet`] if examples were given and all
/// are left out.
pub fn encode_all(examples: &[Example], tokenizer: &Tokenizer, options: EncodeOptions) -> Result<EncodedSet, DataError> {
    // Each chunk remembers answers for itself; results do not depend on how chunks fall.
    let chunks: Vec<Result<Vec<Outcome>, DataError>> = examples
        .par_chunks(512)
        .map(|chunk| {
            let mut encoder = Encoder::new(tokenizer, options)?;
            chunk.iter().map(|example| encoder.encode(example)).collect()
        })
        .collect();
    let mut set = EncodedSet::default();
    let mut index = 0;
    for chunk in chunks {
        for outcome in chunk? {
            match outcome {
                Outcome::Encoded { encoded, truncated, .. } => {
                    set.truncated += usize::from(truncated);
                    set.examples.push(encoded);
                    set.kept.push(index);
                }
                Outcome::Dropped(reason) => set.dropped.push(DroppedExample { id: examples[index].id.clone(), reason }),
            }
            index += 1;
        }
    }
    match set.dropped.first() {
        Some(first) if set.examples.is_empty() => {
            let what = format!("the set of {} examples, all of which are left out (`{}`: {})", examples.len(), first.id, first.reason);
            Err(DataError::EmptySet { what })
        }
        _ => Ok(set),
    }
}

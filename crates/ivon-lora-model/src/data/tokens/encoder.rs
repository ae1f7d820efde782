//! Examples → token ids: the prompt, shortened if necessary, and its answers.
//!
//! *Answers.* Tokens depend on the preceding text, so the tokens of an answer are taken from the
//! encoding of prompt + space + answer; no space is added if the prompt (or the chat template
//! around it) already ends in a space or a line end. The choice token is the first one after the
//! prompt's own tokens. A tokenizer that merges across the boundary also changes the last tokens of
//! the prompt; the prompt then ends before them, and every answer starts with its own version of
//! them, so that prompt and answer together are always the encoding of their text.
//!
//! *Begin token.* A prompt starts with the tokens that the tokenizer's post-processor adds. In a
//! chat template the begin token is up to the template: transformers encodes a rendered chat
//! without special tokens.
//!
//! *Length.* A prompt is shortened as text, see [`Prompt::shortened`], and encoded again, so that
//! its ids are always the encoding of a text and end with those of the cue. If whole answers are
//! scored, the limit applies to the prompt together with its longest answer.

use std::collections::HashMap;
use std::sync::Arc;

use super::chat::ChatTemplate;
use super::encoded::{Choices, Encoded, Target};
use super::text_encoder::{EncodedText, TextEncoder};
use super::tokenizer::Tokenizer;
use crate::data::error::DataError;
use crate::data::task::Prompt;
use crate::data::task::Scoring;
use crate::data::task::{DropReason, Example};
use crate::random::fnv1a;
use crate::settings::SettingError;

/// The maximum number of cached prompt endings.
const REMEMBERED: usize = 4096;

/// How examples are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodeOptions {
    /// The maximum number of tokens of a prompt or a text, including special tokens.
    pub max_length: usize,
    /// How answers are scored.
    pub scoring: Scoring,
    /// Whether the checkpoint's chat template is put around the prompt; conversations always need
    /// it.
    pub chat_template: bool,
}

/// Encodes examples one at a time.
#[derive(Debug)]
pub struct Encoder<'a> {
    tokenizer: &'a Tokenizer,
    options: EncodeOptions,
    chat: Option<ChatTemplate>,
    /// For rows of text.
    texts: TextEncoder<'a>,
    /// The special tokens at the start of a sequence, once they are known.
    leading: Option<Vec<u32>>,
    remembered: HashMap<(String, usize), Arc<Continuations>>,
}

/// The outcome of encoding an example.
#[derive(Clone, Debug, PartialEq)]
pub enum EncodeOutcome {
    /// It was encoded.
    Encoded {
        /// Its tokens.
        encoded: Encoded,
        /// The text of its prompt, including the chat template.
        text: String,
        /// Whether the prompt was shortened.
        truncated: bool,
    },
    /// It is a text: one sequence, or the stretches of a long one.
    Texts(Vec<EncodedText>),
    /// It was dropped.
    Dropped(DropReason),
}

/// The tokens of a text.
struct Tokens {
    text: String,
    /// Special tokens before the text.
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
    /// Keeps the answer words alive, so that no others can have the address by which they are
    /// cached.
    _words: Arc<[String]>,
    /// The text's own tokens; the last `replaced` of them are part of the answers.
    base: Vec<u32>,
    replaced: usize,
    answers: Vec<Vec<u32>>,
}

impl<'a> Encoder<'a> {
    /// An encoder for one tokenizer.
    ///
    /// # Errors
    /// If a chat template is required and the tokenizer has no valid one, or `max_length` is 0.
    pub fn new(tokenizer: &'a Tokenizer, options: EncodeOptions) -> Result<Self, DataError> {
        if options.max_length == 0 {
            return Err(DataError::Setting(SettingError::new(
                "max_length",
                "0",
                "at least 1 token",
            )));
        }
        let chat = options
            .chat_template
            .then(|| ChatTemplate::of(tokenizer))
            .transpose()?;
        Ok(Self {
            tokenizer,
            options,
            chat,
            texts: TextEncoder::new(tokenizer, options.max_length),
            leading: None,
            remembered: HashMap::new(),
        })
    }

    /// Encodes one example.
    ///
    /// # Errors
    /// If the tokenizer or the chat template fails, or answers cannot be told apart.
    pub fn encode(&mut self, example: &Example) -> Result<EncodeOutcome, DataError> {
        if let Some(document) = &example.document {
            return Ok(match self.texts.encode(example, document)? {
                Ok(texts) => EncodeOutcome::Texts(texts),
                Err(reason) => EncodeOutcome::Dropped(reason),
            });
        }
        let limit = self.options.max_length;
        let mut reserved = 0;
        // A second round is needed if whole answers take space, a third if another cut changes
        // them.
        for _ in 0..3 {
            let Some((prompt, tokens)) = self.fitting(&example.prompt, reserved)? else {
                return Ok(EncodeOutcome::Dropped(DropReason::TooLong {
                    max_length: limit,
                }));
            };
            let after = self.continuations(&tokens, &example.answers)?;
            let choices = choices(&after.answers, self.options.scoring);
            let mut ids = tokens.leading;
            ids.extend_from_slice(&tokens.own[..tokens.own.len().saturating_sub(after.replaced)]);
            if ids.is_empty() {
                return Ok(EncodeOutcome::Dropped(DropReason::NoTokens));
            }
            reserved = longest_answer(&choices);
            if ids.len() + reserved <= limit {
                return Ok(EncodeOutcome::Encoded {
                    encoded: encoded(example, ids, choices),
                    text: tokens.text,
                    truncated: prompt != example.prompt,
                });
            }
        }
        Ok(EncodeOutcome::Dropped(DropReason::TooLong {
            max_length: limit,
        }))
    }

    /// The longest form of a prompt that leaves `reserved` tokens of the limit unused.
    fn fitting(
        &mut self,
        prompt: &Prompt,
        reserved: usize,
    ) -> Result<Option<(Prompt, Tokens)>, DataError> {
        let room = self.options.max_length.saturating_sub(reserved);
        // The last text that fits is the one chosen.
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

    /// The tokens of a prompt, in the chat template if there is one.
    fn tokens(&mut self, prompt: &str) -> Result<Tokens, DataError> {
        let text = match &self.chat {
            Some(chat) => chat.render(prompt)?,
            None => prompt.to_string(),
        };
        let own = self.tokenizer.encode(&text, false)?;
        // A template either writes the begin token itself or does without.
        let leading = match (&self.chat, &self.leading) {
            (Some(_), _) => Vec::new(),
            (None, Some(leading)) => leading.clone(),
            (None, None) => {
                // Only the tokens before the text count: an end token after it would end the
                // prompt.
                let framed = self.tokenizer.encode(&text, true)?;
                let start = (0..=framed.len().saturating_sub(own.len()))
                    .find(|&start| framed[start..].starts_with(&own));
                let leading = framed[..start.unwrap_or(0)].to_vec();
                self.leading.insert(leading).clone()
            }
        };
        Ok(Tokens { text, leading, own })
    }

    /// The tokens of each answer after a text.
    ///
    /// They are computed after the text's last word only and cached by it, because every row of a
    /// task has the same cue and answers. This is exact if the tokens of the whole text end with
    /// those of the last word and at least one of these stays the same when an answer follows: two
    /// token sequences of a byte-pair encoding can be joined at a common token. Otherwise the whole
    /// text is used.
    fn continuations(
        &mut self,
        tokens: &Tokens,
        words: &Arc<[String]>,
    ) -> Result<Arc<Continuations>, DataError> {
        let tail = last_word(&tokens.text);
        let after_tail = self.remembered_after(tail, words)?;
        let shared = after_tail
            .base
            .iter()
            .rev()
            .zip(tokens.own.iter().rev())
            .take_while(|(one, other)| one == other)
            .count();
        if tail.len() == tokens.text.len() || after_tail.replaced < shared {
            return Ok(after_tail);
        }
        let after_text = self.after(&tokens.text, tokens.own.clone(), words)?;
        Ok(Arc::new(after_text))
    }

    /// The answers after the last word of a text, from the cache if they are there.
    fn remembered_after(
        &mut self,
        tail: &str,
        words: &Arc<[String]>,
    ) -> Result<Arc<Continuations>, DataError> {
        let key = (tail.to_string(), Arc::as_ptr(words).cast::<String>().addr());
        if let Some(remembered) = self.remembered.get(&key) {
            return Ok(remembered.clone());
        }
        let base = self.tokenizer.encode(tail, false)?;
        let found = Arc::new(self.after(tail, base, words)?);
        if self.remembered.len() < REMEMBERED {
            self.remembered.insert(key, found.clone());
        }
        Ok(found)
    }

    /// The answers after a text whose own tokens are `base`.
    fn after(
        &self,
        text: &str,
        base: Vec<u32>,
        words: &Arc<[String]>,
    ) -> Result<Continuations, DataError> {
        let without_tokens = |answer: &String| DataError::AnswerWithoutTokens {
            answer: answer.clone(),
            after: last_word(text).trim().into(),
        };
        let is_apart = text.ends_with(char::is_whitespace);
        let blank = if is_apart { "" } else { " " };
        let mut whole = Vec::with_capacity(words.len());
        for word in words.iter() {
            let followed = format!("{text}{blank}{word}");
            let ids = self.tokenizer.encode(&followed, false)?;
            if ids.is_empty() || ids == base {
                return Err(without_tokens(word));
            }
            whole.push(ids);
        }
        let kept = whole.iter().map(|ids| shared_beginning(&base, ids)).min();
        let kept = kept.unwrap_or(0);
        let answers: Vec<Vec<u32>> = whole.iter().map(|ids| ids[kept..].to_vec()).collect();
        if let Some(index) = answers.iter().position(Vec::is_empty) {
            return Err(without_tokens(&words[index]));
        }
        check_distinct(&answers, words)?;
        Ok(Continuations {
            _words: words.clone(),
            replaced: base.len() - kept,
            base,
            answers,
        })
    }
}

fn encoded(example: &Example, tokens: Vec<u32>, choices: Choices) -> Encoded {
    Encoded {
        id: example.id.clone(),
        key: fnv1a(format!("{}\0{}", example.id, example.prompt.text()).as_bytes()),
        tokens,
        target: Target::Choice {
            choices,
            label: example.label,
        },
    }
}

/// The number of tokens of the longest answer, if answers are scored by all of their tokens.
fn longest_answer(choices: &Choices) -> usize {
    match choices {
        Choices::Tokens(_) => 0,
        Choices::Answers(answers) => answers.iter().map(Vec::len).max().unwrap_or(0),
    }
}

/// The length of the common prefix of two sequences.
fn shared_beginning(one: &[u32], other: &[u32]) -> usize {
    let pairs = one.iter().zip(other);
    pairs.take_while(|(one, other)| one == other).count()
}

/// Refuses answers with equal tokens.
fn check_distinct(answers: &[Vec<u32>], words: &[String]) -> Result<(), DataError> {
    let mut seen = HashMap::new();
    for (index, answer) in answers.iter().enumerate() {
        if let Some(first) = seen.insert(answer, index) {
            return Err(DataError::SameTokens {
                first: words[first].clone(),
                second: words[index].clone(),
            });
        }
    }
    Ok(())
}

/// The first token of each answer if these differ and may be used for scoring; else all tokens.
fn choices(answers: &[Vec<u32>], scoring: Scoring) -> Choices {
    let first: Vec<u32> = answers
        .iter()
        .filter_map(|answer| answer.first().copied())
        .collect();
    let mut different = first.clone();
    different.sort_unstable();
    different.dedup();
    if scoring == Scoring::Token && different.len() == answers.len() {
        Choices::Tokens(first)
    } else {
        Choices::Answers(answers.to_vec())
    }
}

/// The end of a text, from the space before its last word.
fn last_word(text: &str) -> &str {
    let trimmed = text.trim_end();
    &text[trimmed.rfind(char::is_whitespace).unwrap_or(0)..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::tokens::testing::{bpe_across_words, byte_level, llama, word_level};
    use crate::data::{Place, Row, RowOutcome, Task, encode_all};
    use proptest::prelude::*;

    fn options(max_length: usize, scoring: Scoring) -> EncodeOptions {
        EncodeOptions {
            max_length,
            scoring,
            chat_template: false,
        }
    }

    fn words(words: &[&str]) -> Arc<[String]> {
        words.iter().map(ToString::to_string).collect()
    }

    fn question(prompt: &str, answers: &[&str]) -> Example {
        Example::from_prompt("one", prompt, words(answers))
    }

    fn example(task: &Task, row: serde_json::Value) -> Example {
        match task
            .reader()
            .unwrap()
            .example(
                Row::from_json(&row.to_string(), Place::new("train.jsonl", 1)).unwrap(),
                None,
            )
            .unwrap()
        {
            RowOutcome::Example(example) => example,
            RowOutcome::Dropped { reason, .. } => panic!("dropped: {reason}"),
        }
    }

    fn encoded(
        tokenizer: &Tokenizer,
        options: EncodeOptions,
        example: &Example,
    ) -> (Encoded, String, bool) {
        match Encoder::new(tokenizer, options)
            .unwrap()
            .encode(example)
            .unwrap()
        {
            EncodeOutcome::Encoded {
                encoded,
                text,
                truncated,
            } => (encoded, text, truncated),
            EncodeOutcome::Texts(texts) => panic!("texts: {texts:?}"),
            EncodeOutcome::Dropped(reason) => panic!("dropped: {reason}"),
        }
    }

    #[test]
    fn a_choice_is_scored_by_its_first_token_after_the_prompt() {
        let tokenizer = byte_level(&["Ġ A", "Ġ B"], false);
        let (found, text, truncated) = encoded(
            &tokenizer,
            options(99, Scoring::Token),
            &question("Answer:", &["A", "B"]),
        );
        assert_eq!(found.tokens, tokenizer.encode("Answer:", false).unwrap());
        let ids = ["ĠA", "ĠB"].map(|token| tokenizer.token_to_id(token).unwrap());
        assert_eq!(*found.choices().unwrap(), Choices::Tokens(ids.to_vec()));
        assert_eq!((text.as_str(), truncated), ("Answer:", false));
    }

    #[test]
    fn answers_that_share_their_first_token_are_scored_whole_and_so_are_all_if_asked() {
        let tokenizer = byte_level(&[], false);
        let (found, ..) = encoded(
            &tokenizer,
            options(99, Scoring::Token),
            &question("Answer:", &["yes", "no"]),
        );
        let whole = Choices::Answers(vec![
            tokenizer.encode(" yes", false).unwrap(),
            tokenizer.encode(" no", false).unwrap(),
        ]);
        assert_eq!(*found.choices().unwrap(), whole);
        let tokenizer = byte_level(&["Ġ y", "Ġ n"], false);
        let (found, ..) = encoded(
            &tokenizer,
            options(99, Scoring::Token),
            &question("Answer:", &["yes", "no"]),
        );
        assert!(matches!(found.choices().unwrap(), Choices::Tokens(_)));
        let (found, ..) = encoded(
            &tokenizer,
            options(99, Scoring::Answer),
            &question("Answer:", &["yes", "no"]),
        );
        assert!(
            matches!(found.choices().unwrap(), Choices::Answers(answers) if answers[0].len() == 3 && answers[1].len() == 2)
        );
    }

    #[test]
    fn a_tokenizer_that_merges_across_the_border_moves_the_border() {
        // `: A` is one token, `:` and ` B` are two: the prompt must end before the colon.
        let tokenizer = bpe_across_words(&["Q: A", "Q: B"], &["  A", ":  A"]);
        let (found, ..) = encoded(
            &tokenizer,
            options(99, Scoring::Token),
            &question("Q:", &["A", "B"]),
        );
        assert_eq!(tokenizer.decode(&found.tokens).unwrap(), "Q");
        let Choices::Tokens(tokens) = found.choices().unwrap() else {
            panic!("{:?}", found.choices())
        };
        assert_eq!(
            *tokens,
            [": A", ":"].map(|token| tokenizer.token_to_id(token).unwrap())
        );
    }

    #[test]
    fn a_prompt_that_ends_in_a_blank_gets_no_second_one() {
        let tokenizer = byte_level(&["Ġ A", "Ġ B"], false);
        let (found, ..) = encoded(
            &tokenizer,
            options(99, Scoring::Token),
            &question("Answer: ", &["A", "B"]),
        );
        let (plain, ..) = encoded(
            &tokenizer,
            options(99, Scoring::Token),
            &question("Answer:", &["A", "B"]),
        );
        assert_eq!(
            (&found.tokens, found.choices()),
            (&plain.tokens, plain.choices())
        );
    }

    #[test]
    fn the_begin_token_stands_in_front_and_an_end_token_does_not_follow() {
        let tokenizer = byte_level(&["Ġ A", "Ġ B"], true);
        let framed = tokenizer.encode("Answer:", true).unwrap();
        let (found, ..) = encoded(
            &tokenizer,
            options(99, Scoring::Token),
            &question("Answer:", &["A", "B"]),
        );
        assert_eq!(found.tokens, framed[..framed.len() - 1]);
        assert_eq!(tokenizer.decode(&found.tokens[..1]).unwrap(), "<s>");
    }

    #[test]
    fn a_chat_template_ends_in_a_line_and_has_the_begin_token_that_it_writes_and_no_other() {
        let mut tokenizer = byte_level(&["Ġ A", "Ġ B"], true);
        tokenizer.bos_token = Some("<s>".into());
        tokenizer.chat_template = Some(
            "{{ bos_token }}{% for m in messages %}[{{ m.content }}]{{ '\n' }}{% endfor %}".into(),
        );
        let options = EncodeOptions {
            chat_template: true,
            ..options(99, Scoring::Token)
        };
        let (found, text, _) = encoded(&tokenizer, options, &question("Answer:", &["A", "B"]));
        assert_eq!(text, "<s>[Answer:]\n");
        assert_eq!(
            found.tokens,
            tokenizer.encode("<s>[Answer:]\n", false).unwrap()
        );
        // No space after a line end: the tokens are those of the bare letters.
        assert_eq!(
            *found.choices().unwrap(),
            Choices::Tokens(
                ["A", "B"]
                    .map(|token| tokenizer.token_to_id(token).unwrap())
                    .to_vec()
            )
        );
        tokenizer.chat_template =
            Some("{% for m in messages %}[{{ m.content }}]{% endfor %}".into());
        let (found, ..) = encoded(&tokenizer, options, &question("Answer:", &["A", "B"]));
        assert_eq!(tokenizer.decode(&found.tokens).unwrap(), "[Answer:]");
        tokenizer.chat_template =
            Some("{{ bos_token }}{{ bos_token }}{{ messages[0].content }}".into());
        let (found, ..) = encoded(&tokenizer, options, &question("Answer:", &["A", "B"]));
        assert_eq!(tokenizer.decode(&found.tokens).unwrap(), "<s><s>Answer:");
        tokenizer.chat_template = None;
        assert!(matches!(
            Encoder::new(&tokenizer, options),
            Err(DataError::NoChatTemplate { .. })
        ));
    }

    #[test]
    fn a_long_passage_is_cut_and_the_ids_are_those_of_a_text_that_ends_with_the_cue() {
        let tokenizer = byte_level(&["Ġ A", "Ġ B", "Ġ C", "Ġ D"], true);
        let task = Task::named("arc_easy").unwrap();
        let row = serde_json::json!({"question": "Why is the sky blue? ".repeat(30), "choices": ["a", "b", "c", "d"], "answer": 0});
        let long = example(&task, row);
        for limit in [140, 200, 320] {
            let (found, text, truncated) =
                encoded(&tokenizer, options(limit, Scoring::Token), &long);
            assert!(
                truncated && found.tokens.len() <= limit && found.tokens.len() + 2 >= limit,
                "{}",
                found.tokens.len()
            );
            assert_eq!(found.tokens[1..], tokenizer.encode(&text, false).unwrap());
            assert!(text.ends_with(" Choices: A. A. B. B. C. C. D. D. Answer:"));
            assert!(text.contains("question: Why is"));
            assert_eq!(
                found.key,
                encoded(&tokenizer, options(9999, Scoring::Token), &long)
                    .0
                    .key
            );
        }
        // The instruction and the choices alone exceed this limit.
        let outcome = Encoder::new(&tokenizer, options(60, Scoring::Token))
            .unwrap()
            .encode(&long)
            .unwrap();
        assert_eq!(
            outcome,
            EncodeOutcome::Dropped(DropReason::TooLong { max_length: 60 })
        );
        let error = encode_all(&[long], &tokenizer, options(60, Scoring::Token))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("all of which are left out (`train-1`: longer than 60 tokens"),
            "{error}"
        );
    }

    #[test]
    fn prompt_and_longest_answer_together_stay_within_the_limit() {
        let tokenizer = byte_level(&[], false);
        let task = Task::custom(
            "{text} Topic:",
            vec!["sport".into(), "the weather".into()],
            "label",
        )
        .unwrap();
        let row = serde_json::json!({"text": "abc ".repeat(30), "label": 0});
        let (found, text, truncated) = encoded(
            &tokenizer,
            options(50, Scoring::Token),
            &example(&task, row),
        );
        assert!(truncated && text.ends_with(" Topic:"));
        assert!(
            (48..=50).contains(&(found.tokens.len() + " the weather".len())),
            "{text}"
        );
    }

    /// Seventy-seven invented intents of bank customers: eleven verbs times seven objects.
    fn intents() -> Vec<String> {
        let deeds = [
            "activate", "block", "cancel", "change", "find", "lose", "order", "pay with",
            "receive", "trace", "verify",
        ];
        let things = [
            "my card",
            "my card payment",
            "a transfer",
            "cash",
            "the exchange rate",
            "an account",
            "a top-up",
        ];
        deeds
            .iter()
            .flat_map(|deed| things.iter().map(move |thing| format!("{deed} {thing}")))
            .collect()
    }

    #[test]
    fn seventy_seven_classes_of_free_text_are_scored_as_whole_answers() {
        let tokenizer = byte_level(&["Ġ c", "a r", "ar d", "Ġc ard"], false);
        let task = Task::custom("Message: {text} Intent:", intents(), "intent").unwrap();
        let rows = [
            "my card is gone",
            "where is my money?",
            "where is my money?",
        ];
        let examples: Vec<Example> = rows
            .iter()
            .map(|text| {
                example(
                    &task,
                    serde_json::json!({"text": text, "intent": "lose my card"}),
                )
            })
            .collect();
        let set = encode_all(&examples, &tokenizer, options(320, Scoring::Token)).unwrap();
        assert_eq!(
            (set.examples.len(), set.truncated, set.kept.as_slice()),
            (3, 0, &[0, 1, 2][..])
        );
        for (encoded, example) in set.examples.iter().zip(&examples) {
            let Choices::Answers(answers) = encoded.choices().unwrap() else {
                panic!("{:?}", encoded.choices())
            };
            assert_eq!(answers.len(), 77);
            for (answer, word) in answers.iter().zip(example.answers.iter()) {
                assert_eq!(tokenizer.decode(answer).unwrap(), format!(" {word}"));
            }
            assert_eq!(example.answers[encoded.label().unwrap()], "lose my card");
        }
        assert_eq!(
            set.examples[1].key, set.examples[2].key,
            "same id and text, same key"
        );
    }

    #[test]
    fn answers_that_the_vocabulary_does_not_know_are_an_error() {
        let tokenizer = word_level(&["Answer", "yes", "no"]);
        let mut encoder = Encoder::new(&tokenizer, options(9, Scoring::Token)).unwrap();
        assert!(matches!(
            encoder.encode(&question("Answer", &["yes", "no"])).unwrap(),
            EncodeOutcome::Encoded { .. }
        ));
        let error = encoder
            .encode(&question("Answer", &["maybe", "never"]))
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "the answers `maybe` and `never` have the same tokens, so that the model cannot tell them apart"
        );
        let error = encoder
            .encode(&question("Answer", &["yes", "\u{3000}"]))
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "the answer `\u{3000}` has no tokens of its own after `Answer`"
        );
        assert_eq!(
            encoder.encode(&question("", &["yes", "no"])).unwrap(),
            EncodeOutcome::Dropped(DropReason::NoTokens)
        );
        assert!(Encoder::new(&tokenizer, options(0, Scoring::Token)).is_err());
    }

    proptest! {
        /// Brute force: prompt and answer together are the encoding of their whole text.
        #[test]
        fn prompt_and_answer_are_the_encoding_of_their_text(prompts in prop::collection::vec("[ab:]{0,3}( [ab:]{1,4}){1,4}", 1..6)) {
            let merges = ["a b", "b a", ": a", "  a", "  b", ":  a", "ab a", "  :", "ab  a", "b  b", "a a", "aa :", ":  :"];
            let tokenizers = [
                bpe_across_words(&["ab: "], &merges),
                byte_level(&["Ġ a", "Ġa b", "a b", "a a"], true),
                llama(&["ab:"], &[("▁", "a"), ("a", "b"), ("▁", "ab"), ("▁", "b"), ("▁", "▁"), ("b", "▁ab"), (":", "▁")]),
            ];
            let answers = ["a", "ab", "b b", "ba:"];
            for tokenizer in &tokenizers {
                let mut encoder = Encoder::new(tokenizer, options(999, Scoring::Answer)).unwrap();
                let words = words(&answers);
                for prompt in &prompts {
                    let outcome = encoder.encode(&Example::from_prompt("one", prompt.as_str(), words.clone())).unwrap();
                    let EncodeOutcome::Encoded { encoded, .. } = outcome else {
                        // Every token of the prompt was merged into an answer.
                        continue;
                    };
                    let Choices::Answers(found) = encoded.choices().unwrap() else { panic!() };
                    for (ids, word) in found.iter().zip(&answers) {
                        let joined = [encoded.tokens.as_slice(), ids].concat();
                        let framed = tokenizer.encode(&format!("{prompt} {word}"), true).unwrap();
                        prop_assert_eq!(&joined[..], &framed[..joined.len()]);
                        prop_assert!(framed.len() - joined.len() <= 1, "only the end token is left out");
                    }
                }
            }
        }
    }
}

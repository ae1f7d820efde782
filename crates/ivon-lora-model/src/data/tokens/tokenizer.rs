//! Text ↔ token ids, with the checkpoint's tokenizer.
//!
//! The type is defined here, where the data first need it; `model` makes it from a folder or a GGUF
//! file.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use crate::data::error::TokenizerError;
use crate::guard::guard_result;

/// A token and the bytes of a text that it spells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spelled {
    /// Its id.
    pub id: u32,
    /// The bytes of the text.
    pub bytes: Range<usize>,
    /// How many of them no token before it spells.
    pub new: usize,
    /// Whether it was added before the text.
    pub is_added: bool,
}

impl Spelled {
    /// A token that spells nothing.
    pub fn added(id: u32) -> Self {
        Self {
            id,
            bytes: 0..0,
            new: 0,
            is_added: true,
        }
    }
}

/// A tokenizer together with the checkpoint's settings for special tokens and chat templates. A clone
/// shares the vocabulary.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: Arc<tokenizers::Tokenizer>,
    /// The Jinja template that wraps a conversation, if the checkpoint has one.
    pub chat_template: Option<String>,
    /// The names of the checkpoint's templates, if it has several without a default.
    pub other_templates: Vec<String>,
    /// The text of the token that begins a sequence.
    pub bos_token: Option<String>,
    /// The text of the token that ends a sequence.
    pub eos_token: Option<String>,
    /// The names and texts of the other special tokens that a chat template may use, such as
    /// `pad_token`.
    pub named_tokens: Vec<(String, String)>,
    /// The number of rows of the model's embedding table.
    limit: Option<usize>,
}

impl Tokenizer {
    /// Wraps a tokenizer whose post-processor adds the checkpoint's special tokens.
    pub fn new(inner: tokenizers::Tokenizer) -> Self {
        Self {
            inner: Arc::new(inner),
            chat_template: None,
            other_templates: Vec::new(),
            bos_token: None,
            eos_token: None,
            named_tokens: Vec::new(),
            limit: None,
        }
    }

    /// With these special tokens by name: `bos_token`, `eos_token` and any others.
    pub fn with_special_tokens(mut self, tokens: Vec<(String, String)>) -> Self {
        for (name, text) in tokens {
            match name.as_str() {
                "bos_token" => self.bos_token = Some(text),
                "eos_token" => self.eos_token = Some(text),
                _ => self.named_tokens.push((name, text)),
            }
        }
        self
    }

    /// All named special tokens, as a chat template sees them.
    pub(super) fn special_tokens(&self) -> impl Iterator<Item = (&str, &str)> {
        let ends = [
            ("bos_token", self.bos_token.as_deref()),
            ("eos_token", self.eos_token.as_deref()),
        ];
        let ends = ends
            .into_iter()
            .filter_map(|(name, text)| Some((name, text?)));
        ends.chain(
            self.named_tokens
                .iter()
                .map(|(name, text)| (name.as_str(), text.as_str())),
        )
    }

    /// For a model with an embedding table of `rows` rows: encoding fails for a token beyond them.
    pub fn with_limit(self, rows: usize) -> Self {
        Self {
            limit: Some(rows),
            ..self
        }
    }

    /// Token ids of a text; with `special`, including the special tokens (such as BOS) that the
    /// checkpoint's configuration adds.
    ///
    /// # Errors
    /// If the tokenizer cannot encode the text, or the model has no embedding for one of its
    /// tokens.
    pub fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>, TokenizerError> {
        let failed = |reason: String| TokenizerError {
            text: text.chars().take(60).collect(),
            reason,
        };
        let encoding =
            guard_result("tokenizers", || self.inner.encode_fast(text, special)).map_err(failed)?;
        let tokens = encoding.get_ids();
        self.check_limit(tokens.iter().copied()).map_err(failed)?;
        Ok(tokens.to_vec())
    }

    /// The tokens of a text, each with the bytes that it spells. The special tokens that the
    /// checkpoint's configuration adds before a text come first if `special` is set; those that it
    /// adds after it are left out.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub(super) fn spell(&self, text: &str, special: bool) -> Result<Vec<Spelled>, TokenizerError> {
        let failed = |reason: String| TokenizerError {
            text: text.chars().take(60).collect(),
            reason,
        };
        let encoding = guard_result("tokenizers", || self.inner.encode(text, special));
        let encoding = encoding.map_err(failed)?;
        let ids = encoding.get_ids();
        let added = encoding.get_special_tokens_mask();
        let offsets = encoding.get_offsets();
        let mut spelled: Vec<Spelled> = Vec::with_capacity(ids.len());
        let mut end = 0;
        for ((&id, &added), &(from, to)) in ids.iter().zip(added).zip(offsets) {
            if added == 1 {
                if spelled.iter().all(|token| token.is_added) {
                    spelled.push(Spelled::added(id));
                }
                continue;
            }
            // The spaces between tokens that some tokenizers do not count belong to the next one; a
            // character of several tokens belongs to its first one.
            let start = from.min(end);
            let before = end;
            end = end.max(to);
            spelled.push(Spelled {
                id,
                bytes: start..end,
                new: end - before,
                is_added: false,
            });
        }
        self.check_limit(spelled.iter().map(|token| token.id))
            .map_err(failed)?;
        Ok(spelled)
    }

    /// The ids of the tokens that spell nothing, such as the end of a turn.
    pub(super) fn special_token_ids(&self) -> HashSet<u32> {
        let tokens = self.inner.get_added_tokens_decoder();
        let special = tokens.into_iter().filter(|(_, token)| token.special);
        special.map(|(id, _)| id).collect()
    }

    /// Refuses a token without a row in the embedding table.
    fn check_limit(&self, ids: impl IntoIterator<Item = u32>) -> Result<(), String> {
        let Some(rows) = self.limit else {
            return Ok(());
        };
        match ids.into_iter().find(|token| *token as usize >= rows) {
            Some(token) => Err(format!(
                "token {token} is beyond the model's {rows} embeddings"
            )),
            None => Ok(()),
        }
    }

    /// The text of token ids, including special tokens.
    ///
    /// # Errors
    /// If the tokenizer cannot decode them; an id outside the vocabulary has no text.
    pub fn decode(&self, tokens: &[u32]) -> Result<String, TokenizerError> {
        self.decoded(tokens, false)
    }

    /// The text of token ids without special tokens.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub fn decode_text(&self, tokens: &[u32]) -> Result<String, TokenizerError> {
        self.decoded(tokens, true)
    }

    fn decoded(&self, tokens: &[u32], without_special: bool) -> Result<String, TokenizerError> {
        let decode = || self.inner.decode(tokens, without_special);
        guard_result("tokenizers", decode).map_err(|reason| {
            let tokens = tokens
                .iter()
                .map(u32::to_string)
                .collect::<Vec<_>>()
                .join(", ");
            TokenizerError {
                text: tokens.chars().take(60).collect(),
                reason,
            }
        })
    }

    /// The id of a token by its text.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The files of a Hugging Face folder for this tokenizer: `tokenizer.json` and
    /// `tokenizer_config.json`, by name.
    ///
    /// # Errors
    /// If the tokenizer cannot be serialised as JSON.
    pub fn to_files(&self) -> Result<Vec<(String, Vec<u8>)>, TokenizerError> {
        let failed = |reason: String| TokenizerError {
            text: "tokenizer.json".into(),
            reason,
        };
        let tokenizer =
            guard_result("tokenizers", || self.inner.to_string(true)).map_err(failed)?;
        let mut config = serde_json::Map::new();
        config.insert("tokenizer_class".into(), "PreTrainedTokenizerFast".into());
        config.extend(
            self.special_tokens()
                .map(|(name, text)| (name.to_string(), text.into())),
        );
        if let Some(template) = &self.chat_template {
            config.insert("chat_template".into(), template.as_str().into());
        }
        let config =
            serde_json::to_vec_pretty(&config).map_err(|error| failed(error.to_string()))?;
        Ok(vec![
            ("tokenizer.json".into(), tokenizer.into_bytes()),
            ("tokenizer_config.json".into(), config),
        ])
    }

    /// `bos_token_id` and `eos_token_id`, as in `config.json`.
    pub fn special_ids(&self) -> serde_json::Map<String, serde_json::Value> {
        let id = |text: &Option<String>| text.as_deref().and_then(|text| self.token_to_id(text));
        let ids = [
            ("bos_token_id", id(&self.bos_token)),
            ("eos_token_id", id(&self.eos_token)),
        ];
        ids.into_iter()
            .filter_map(|(key, id)| Some((key.to_string(), id?.into())))
            .collect()
    }

    /// The number of tokens, including added ones.
    pub fn vocabulary_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }
}

#[cfg(test)]
mod tests {
    use tokenizers::models::wordlevel::WordLevel;

    use super::*;

    #[test]
    fn a_token_beyond_the_embedding_table_is_refused_by_number() {
        let words = [("a".to_string(), 0), ("b".to_string(), 7)]
            .into_iter()
            .collect();
        let model = WordLevel::builder()
            .vocab(words)
            .unk_token("a".into())
            .build()
            .unwrap();
        let tokenizer = Tokenizer::new(tokenizers::Tokenizer::new(model));
        assert_eq!(tokenizer.encode("b", true).unwrap(), [7]);
        let message = tokenizer
            .with_limit(5)
            .encode("b", true)
            .unwrap_err()
            .to_string();
        assert_eq!(
            message,
            "the tokenizer failed on `b`: token 7 is beyond the model's 5 embeddings"
        );
    }
}

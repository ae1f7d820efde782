//! Text ↔ token ids, as the checkpoint's own tokenizer has it.
//!
//! The type lives here, where the data's path first needs it; `model` builds it from a folder or a GGUF file.

/// A tokenizer with the checkpoint's own habits: which special tokens it adds, which chat template it has.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// The Jinja template that wraps a conversation, if the checkpoint has one.
    pub chat_template: Option<String>,
    /// The text of the token that begins a sequence.
    pub bos_token: Option<String>,
    /// The text of the token that ends a sequence.
    pub eos_token: Option<String>,
}

/// A text could not be turned into tokens, or back.
#[derive(Debug, thiserror::Error)]
#[error("the tokenizer failed on `{text}`: {reason}")]
pub struct TokenizerError {
    /// The beginning of the text.
    pub text: String,
    /// What the tokenizer said.
    pub reason: String,
}

impl Tokenizer {
    /// Wraps a tokenizer whose post-processor adds the special tokens that the checkpoint asks for.
    pub fn new(inner: tokenizers::Tokenizer) -> Self {
        Self { inner, chat_template: None, bos_token: None, eos_token: None }
    }

    /// Token ids of a text; with `special`, framed by the special tokens (BOS) that the checkpoint's
    /// configuration asks for.
    ///
    /// # Errors
    /// If the tokenizer cannot encode the text.
    pub fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>, TokenizerError> {
        match self.inner.encode_fast(text, special) {
            Ok(encoding) => Ok(encoding.get_ids().to_vec()),
            Err(reason) => Err(TokenizerError { text: text.chars().take(60).collect(), reason: reason.to_string() }),
        }
    }

    /// The text of token ids, special tokens included.
    ///
    /// # Errors
    /// If an id is not in the vocabulary.
    pub fn decode(&self, tokens: &[u32]) -> Result<String, TokenizerError> {
        self.inner
            .decode(tokens, false)
            .map_err(|reason| TokenizerError { text: format!("{tokens:?}").chars().take(60).collect(), reason: reason.to_string() })
    }

    /// The id of a token by its text.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The number of tokens, added ones included.
    pub fn vocabulary_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }
}

//! The tokenizer in the metadata of a GGUF file (`tokenizer.ggml.*`) → [`Tokenizer`].
//!
//! Three kinds: `gpt2`, byte-level BPE with explicit merges and a named pre-tokenizer; `llama`, a
//! SentencePiece vocabulary whose merges follow from the scores; and `gemma4`, a SentencePiece
//! vocabulary with explicit merges.

mod pre_tokenizer;
mod byte_level;
mod sentencepiece;

use std::borrow::Cow;

use tokenizers::AddedToken;
use tokenizers::models::bpe::Vocab;

use super::framing::frame;
use crate::data::Tokenizer;
use crate::model::error::ModelError;
use crate::model::gguf::GgufFile;

/// The kinds of tokens (`tokenizer.ggml.token_type`).
const NORMAL: i64 = 1;
const UNKNOWN: i64 = 2;
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;

/// The vocabulary in the order of ids, for all kinds.
struct Vocabulary<'a> {
    file: String,
    tokens: Vec<Cow<'a, str>>,
    /// 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte.
    kinds: Vec<i64>,
}

/// A tokenizer without its special tokens.
struct Model {
    inner: tokenizers::Tokenizer,
    /// Whether llama.cpp begins a text with BOS if the file does not say.
    starts_with_bos: bool,
}

/// Builds the tokenizer of a file.
///
/// # Errors
/// [`ModelError::Tokenizer`] if there is none, its kind or pre-tokenizer is unknown, or its arrays
/// contradict each other; [`ModelError::Setting`] for a key of the wrong type.
pub(in crate::model) fn read(file: &GgufFile) -> Result<Tokenizer, ModelError> {
    let wrong = |reason: String| ModelError::Tokenizer {
        file: file.name(),
        reason,
    };
    let kind = file
        .text("tokenizer.ggml.model")?
        .ok_or_else(|| wrong("the file has none (`tokenizer.ggml.model` is missing)".into()))?;
    let vocabulary = Vocabulary::read(file)?;
    let vocabulary = match kind {
        "gpt2" => vocabulary,
        _ => vocabulary.with_symbols_for_spaces(),
    };
    let model = match kind {
        "gpt2" => byte_level::build(file, &vocabulary)?,
        "llama" => sentencepiece::build(file, &vocabulary)?,
        "gemma4" => sentencepiece::build_gemma_4(file, &vocabulary)?,
        other => {
            return Err(wrong(format!(
                "its kind is `{other}`, expected `gpt2`, `llama` or `gemma4`"
            )));
        }
    };
    finish(file, &vocabulary, model, kind)
}

impl<'a> Vocabulary<'a> {
    fn read(file: &'a GgufFile) -> Result<Self, ModelError> {
        let wrong = |reason: String| ModelError::Tokenizer {
            file: file.name(),
            reason,
        };
        let tokens = file
            .texts("tokenizer.ggml.tokens")?
            .ok_or_else(|| wrong("`tokenizer.ggml.tokens` is missing".into()))?;
        let kinds = match file.numbers("tokenizer.ggml.token_type")? {
            Some(kinds) => kinds.into_iter().map(|kind| kind as i64).collect(),
            None => vec![NORMAL; tokens.len()],
        };
        if kinds.len() != tokens.len() || tokens.is_empty() {
            return Err(wrong(format!(
                "it has {} tokens and {} token types, expected as many",
                tokens.len(),
                kinds.len()
            )));
        }
        Ok(Self {
            file: file.name(),
            tokens: tokens.into_iter().map(Cow::Borrowed).collect(),
            kinds,
        })
    }

    /// With tokens of several spaces spelled by SentencePiece's symbol, as normal tokens. The
    /// converter writes those of Gemma as spaces, which the text no longer has when they are looked
    /// up.
    fn with_symbols_for_spaces(mut self) -> Self {
        for (token, kind) in self.tokens.iter_mut().zip(&mut self.kinds) {
            if token.len() > 1 && token.bytes().all(|byte| byte == b' ') {
                *token = sentencepiece::SPACE.repeat(token.len()).into();
                *kind = NORMAL;
            }
        }
        self
    }

    fn wrong(&self, reason: impl ToString) -> ModelError {
        ModelError::Tokenizer {
            file: self.file.clone(),
            reason: reason.to_string(),
        }
    }

    /// The tokens that are cut out of a text before anything else is done to it.
    ///
    /// With `skips_spaces`, those of Phi-3, most of which take the spaces behind them: the file does
    /// not say so, but transformers and llama.cpp know it.
    fn added_tokens(&self, skips_spaces: bool) -> impl Iterator<Item = AddedToken> {
        let tokens = self.tokens.iter().zip(&self.kinds);
        let added = tokens.filter(|(_, kind)| [UNKNOWN, CONTROL, USER_DEFINED].contains(kind));
        added.map(move |(token, kind)| {
            let keeps_spaces = ["<unk>", "<s>", "<|endoftext|>"].contains(&token.as_ref());
            // Matched in the raw text: a normalizer would add a space before the token.
            AddedToken::from(token.as_ref(), *kind != USER_DEFINED)
                .normalized(false)
                .rstrip(skips_spaces && !keeps_spaces)
        })
    }

    fn ids(&self) -> impl Iterator<Item = (String, u32)> {
        self.tokens
            .iter()
            .enumerate()
            .map(|(id, token)| (token.to_string(), id as u32))
    }

    /// The merges that the file lists, of which both parts and the result are among `ids`.
    fn merges(&self, file: &GgufFile, ids: &Vocab) -> Result<Vec<(String, String)>, ModelError> {
        let texts = file
            .texts("tokenizer.ggml.merges")?
            .ok_or_else(|| self.wrong("`tokenizer.ggml.merges` is missing"))?;
        let merges = texts.iter().map(|text| merge(text, ids));
        merges
            .collect::<Result<_, String>>()
            .map_err(|reason| self.wrong(reason))
    }

    /// The token whose id is the value of a metadata key.
    fn token_of(&self, file: &GgufFile, key: &str) -> Result<Option<(u32, &str)>, ModelError> {
        let Some(id) = file.unsigned(&format!("tokenizer.ggml.{key}"))? else {
            return Ok(None);
        };
        match self.tokens.get(id) {
            Some(token) => Ok(Some((id as u32, token.as_ref()))),
            None => Err(self.wrong(format!(
                "`{key}` is {id}, expected below the {} tokens",
                self.tokens.len()
            ))),
        }
    }
}

/// Parses `left right`; both and their concatenation must be tokens, because otherwise the
/// `tokenizers` crate panics on the longest token.
fn merge(text: &str, ids: &Vocab) -> Result<(String, String), String> {
    let parts = text.split_once(' ').filter(|(left, right)| {
        ids.contains_key(*left)
            && ids.contains_key(*right)
            && ids.contains_key(&format!("{left}{right}"))
    });
    let (left, right) =
        parts.ok_or_else(|| format!("its merge `{text}` is not two tokens that make a third"))?;
    Ok((left.into(), right.into()))
}

/// Special tokens, BOS and EOS, for all kinds.
fn finish(
    file: &GgufFile,
    vocabulary: &Vocabulary,
    model: Model,
    kind: &str,
) -> Result<Tokenizer, ModelError> {
    let mut inner = model.inner;
    let skips_spaces = kind == "llama" && file.text("general.architecture")? == Some("phi3");
    inner
        .add_tokens(vocabulary.added_tokens(skips_spaces))
        .map_err(|error| vocabulary.wrong(error))?;
    let bos = vocabulary.token_of(file, "bos_token_id")?;
    let eos = vocabulary.token_of(file, "eos_token_id")?;
    let add_bos = file.flag("tokenizer.ggml.add_bos_token")?;
    // Early files of Gemma 4 say `false`; llama.cpp does not believe them.
    let add_bos = kind == "gemma4" || add_bos.unwrap_or(model.starts_with_bos);
    let add_eos = file.flag("tokenizer.ggml.add_eos_token")?.unwrap_or(false);
    frame(&mut inner, bos.filter(|_| add_bos), eos.filter(|_| add_eos))
        .map_err(|reason| vocabulary.wrong(reason))?;
    let mut tokenizer = Tokenizer::new(inner);
    tokenizer.bos_token = bos.map(|(_, token)| token.to_string());
    tokenizer.eos_token = eos.map(|(_, token)| token.to_string());
    tokenizer.named_tokens = named_tokens(file, vocabulary)?;
    tokenizer.chat_template = file.text("tokenizer.chat_template")?.map(str::to_string);
    Ok(tokenizer)
}

/// Further special tokens, by their names in a chat template.
fn named_tokens(
    file: &GgufFile,
    vocabulary: &Vocabulary,
) -> Result<Vec<(String, String)>, ModelError> {
    let mut tokens = Vec::new();
    for (name, key) in [
        ("unk_token", "unknown_token_id"),
        ("pad_token", "padding_token_id"),
    ] {
        let token = vocabulary.token_of(file, key)?;
        tokens.extend(token.map(|(_, token)| (name.to_string(), token.to_string())));
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests;

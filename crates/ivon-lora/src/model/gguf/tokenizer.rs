//! The tokenizer inside a GGUF file's metadata (`tokenizer.ggml.*`) → [`Tokenizer`].
//!
//! Two kinds: `gpt2`, byte-level BPE with its merges and a named pre-tokenizer, and `llama`, a SentencePiece vocabulary
//! whose merges follow from the scores.

mod sentencepiece;

use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::unicode::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, PreTokenizerWrapper, SplitDelimiterBehavior};

use super::reader::GgufFile;
use crate::data::Tokenizer;
use crate::model::ModelError;
use crate::model::framing::frame;

/// Kinds of token that are cut out of the text before anything else (`tokenizer.ggml.token_type`).
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;

/// Contractions, words with a leading space or sign, numbers in threes, signs, line ends, spaces: Llama 3's split.
const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// The same with digits one by one: Qwen 2's split.
const QWEN_2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// What both kinds have: the vocabulary in the order of ids.
struct Vocabulary<'a> {
    file: String,
    tokens: Vec<&'a str>,
    /// 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte.
    kinds: Vec<i64>,
}

/// Builds the tokenizer of a file.
///
/// # Errors
/// [`ModelError::Tokenizer`] if there is none, its kind or pre-tokenizer is not known, or its arrays contradict each other;
/// [`ModelError::Setting`] for a key of the wrong type.
pub(in crate::model) fn read(file: &GgufFile) -> Result<Tokenizer, ModelError> {
    let wrong = |reason: String| ModelError::Tokenizer { file: file.name(), reason };
    let model = file.text("tokenizer.ggml.model")?.ok_or_else(|| wrong("the file has none (`tokenizer.ggml.model` is missing)".into()))?;
    let vocabulary = Vocabulary::read(file)?;
    let (inner, starts_with_bos) = match model {
        "gpt2" => byte_level(file, &vocabulary)?,
        "llama" => (sentencepiece::build(file, &vocabulary)?, true),
        other => return Err(wrong(format!("its kind is `{other}`, expected `gpt2` or `llama`"))),
    };
    finish(file, &vocabulary, inner, starts_with_bos)
}

impl<'a> Vocabulary<'a> {
    fn read(file: &'a GgufFile) -> Result<Self, ModelError> {
        let wrong = |reason: String| ModelError::Tokenizer { file: file.name(), reason };
        let tokens = file.texts("tokenizer.ggml.tokens")?.ok_or_else(|| wrong("`tokenizer.ggml.tokens` is missing".into()))?;
        let kinds = match file.numbers("tokenizer.ggml.token_type")? {
            Some(kinds) => kinds.into_iter().map(|kind| kind as i64).collect(),
            None => vec![1; tokens.len()],
        };
        if kinds.len() != tokens.len() || tokens.is_empty() {
            return Err(wrong(format!("it has {} tokens and {} token types, expected as many", tokens.len(), kinds.len())));
        }
        Ok(Self { file: file.name(), tokens, kinds })
    }

    fn wrong(&self, reason: impl ToString) -> ModelError {
        ModelError::Tokenizer { file: self.file.clone(), reason: reason.to_string() }
    }

    fn ids(&self) -> impl Iterator<Item = (String, u32)> {
        self.tokens.iter().enumerate().map(|(id, token)| (token.to_string(), id as u32))
    }

    /// The token that a key of the metadata names by id.
    fn token_of(&self, file: &GgufFile, key: &str) -> Result<Option<(u32, &'a str)>, ModelError> {
        let Some(id) = file.unsigned(&format!("tokenizer.ggml.{key}"))? else { return Ok(None) };
        match self.tokens.get(id) {
            Some(token) => Ok(Some((id as u32, token))),
            None => Err(self.wrong(format!("`{key}` is {id}, expected below the {} tokens", self.tokens.len()))),
        }
    }
}

/// Byte-level BPE; also whether llama.cpp begins texts with BOS where the file does not say.
fn byte_level(file: &GgufFile, vocabulary: &Vocabulary) -> Result<(tokenizers::Tokenizer, bool), ModelError> {
    let wrong = |reason: String| vocabulary.wrong(reason);
    let pre = file.text("tokenizer.ggml.pre")?.unwrap_or("missing");
    let llama_3 = ["llama-bpe", "llama3", "llama-v3"].contains(&pre);
    let pre_tokenizer = match pre {
        _ if llama_3 => split(LLAMA_3),
        "gpt-2" => Ok(ByteLevel::new(false, true, true).into()),
        "smollm" => Ok(Sequence::new(vec![Digits::new(true).into(), ByteLevel::new(false, true, true).into()]).into()),
        "qwen2" | "deepseek-r1-qwen" => split(QWEN_2),
        other => Err(format!("its pre-tokenizer is `{other}`, supported are gpt-2, llama-bpe, smollm, qwen2")),
    };
    let ids: Vocab = vocabulary.ids().collect();
    let texts = file.texts("tokenizer.ggml.merges")?.ok_or_else(|| wrong("`tokenizer.ggml.merges` is missing".into()))?;
    let merges = texts.iter().map(|text| merge(text, &ids)).collect::<Result<Vec<_>, _>>().map_err(wrong)?;
    let model = BPE::builder().vocab_and_merges(ids, merges).ignore_merges(llama_3).build().map_err(|error| wrong(error.to_string()))?;
    let mut inner = tokenizers::Tokenizer::new(model);
    if pre.contains("qwen") {
        inner.with_normalizer(Some(NFC)).map_err(|error| wrong(error.to_string()))?;
    }
    inner.with_pre_tokenizer(Some(pre_tokenizer.map_err(wrong)?)).with_decoder(Some(ByteLevel::new(false, true, true)));
    Ok((inner, llama_3))
}

fn split(pattern: &str) -> Result<PreTokenizerWrapper, String> {
    let split = Split::new(SplitPattern::Regex(pattern.into()), SplitDelimiterBehavior::Isolated, false);
    let split = split.map_err(|error| error.to_string())?;
    Ok(Sequence::new(vec![split.into(), ByteLevel::new(false, true, false).into()]).into())
}

/// `left right`; both and their union must be tokens, because the `tokenizers` crate indexes with the longest token.
fn merge(text: &str, ids: &Vocab) -> Result<(String, String), String> {
    let parts = text.split_once(' ').filter(|(left, right)| {
        ids.contains_key(*left) && ids.contains_key(*right) && ids.contains_key(&format!("{left}{right}"))
    });
    let (left, right) = parts.ok_or_else(|| format!("its merge `{text}` is not two tokens that make a third"))?;
    Ok((left.into(), right.into()))
}

/// Special tokens, framing and texts that both kinds share.
fn finish(
    file: &GgufFile,
    vocabulary: &Vocabulary,
    mut inner: tokenizers::Tokenizer,
    starts_with_bos: bool,
) -> Result<Tokenizer, ModelError> {
    let added = vocabulary.tokens.iter().zip(&vocabulary.kinds).filter(|(_, kind)| [CONTROL, USER_DEFINED].contains(kind));
    // The text is compared as it is: a normalizer would put a space before the token.
    let added = added.map(|(token, kind)| AddedToken::from(*token, *kind == CONTROL).normalized(false));
    inner.add_tokens(added).map_err(|error| vocabulary.wrong(error))?;
    let (bos, eos) = (vocabulary.token_of(file, "bos_token_id")?, vocabulary.token_of(file, "eos_token_id")?);
    let add_bos = file.flag("tokenizer.ggml.add_bos_token")?.unwrap_or(starts_with_bos);
    let add_eos = file.flag("tokenizer.ggml.add_eos_token")?.unwrap_or(false);
    frame(&mut inner, bos.filter(|_| add_bos), eos.filter(|_| add_eos)).map_err(|reason| vocabulary.wrong(reason))?;
    let mut tokenizer = Tokenizer::new(inner);
    tokenizer.bos_token = bos.map(|(_, token)| token.to_string());
    tokenizer.eos_token = eos.map(|(_, token)| token.to_string());
    tokenizer.chat_template = file.text("tokenizer.chat_template")?.map(str::to_string);
    Ok(tokenizer)
}

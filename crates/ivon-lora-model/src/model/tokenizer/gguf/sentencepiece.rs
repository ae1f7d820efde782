//! SentencePiece's BPE (Llama 1 and 2, Mistral, Phi-3, Gemma) from a GGUF file: spaces as a symbol
//! of their own, characters that are no tokens as bytes, and no split into words.
//!
//! SentencePiece repeatedly merges the neighbours whose concatenation has the highest score. That
//! is BPE with the merges sorted by the score of their result, as in transformers' conversion. In
//! files of Gemma, whose scores are not in the order of its merges, the tokens themselves are; those
//! of Gemma 4 list the merges.

use std::collections::HashMap;

use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as Decoders;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::{Prepend, Replace, Sequence};

use super::{CONTROL, Model, UNKNOWN, Vocabulary};
use crate::guard::guard_result;
use crate::model::error::ModelError;
use crate::model::gguf::GgufFile;

/// SentencePiece's symbol for a space.
pub(super) const SPACE: &str = "\u{2581}";
/// Longer pieces (in bytes) get no merges. SentencePiece's own limit is 16 characters.
const LONGEST_MERGED: usize = 256;

/// Unknown, control and byte tokens are never the result of a merge.
const NEVER_MERGED: [i64; 3] = [UNKNOWN, CONTROL, 6];

/// The tokenizer of a `llama` vocabulary.
pub(super) fn build(file: &GgufFile, vocabulary: &Vocabulary) -> Result<Model, ModelError> {
    let architecture = file.text("general.architecture")?.unwrap_or_default();
    let scores = match architecture.starts_with("gemma") {
        true => (0..vocabulary.tokens.len())
            .map(|id| -(id as f64))
            .collect(),
        false => scores(file, vocabulary)?,
    };
    let merges = merges(vocabulary, &scores);
    let has_prefix = file.flag("tokenizer.ggml.add_space_prefix")?;
    let ids = vocabulary.ids().collect();
    of_merges(file, vocabulary, (ids, merges), has_prefix.unwrap_or(true))
}

/// The tokenizer of a `gemma4` vocabulary: the merges are listed, and no text gets a space in front.
pub(super) fn build_gemma_4(file: &GgufFile, vocabulary: &Vocabulary) -> Result<Model, ModelError> {
    let ids = vocabulary.ids().collect();
    let merges = vocabulary.merges(file, &ids)?;
    of_merges(file, vocabulary, (ids, merges), false)
}

/// BPE with these ids and merges, and a space in front of a text if it has a prefix.
fn of_merges(
    file: &GgufFile,
    vocabulary: &Vocabulary,
    (ids, merges): (Vocab, Vec<(String, String)>),
    has_prefix: bool,
) -> Result<Model, ModelError> {
    let mut builder = BPE::builder()
        .vocab_and_merges(ids, merges)
        .fuse_unk(true)
        .byte_fallback(true);
    if let Some(unknown) = unknown(file, vocabulary)? {
        builder = builder.unk_token(unknown.to_string());
    }
    let model = guard_result("tokenizers", || builder.build());
    let mut inner = tokenizers::Tokenizer::new(model.map_err(|reason| vocabulary.wrong(reason))?);
    write_spaces(&mut inner, has_prefix).map_err(|error| vocabulary.wrong(error.to_string()))?;
    Ok(Model {
        inner,
        starts_with_bos: true,
    })
}

/// The score of each token.
fn scores(file: &GgufFile, vocabulary: &Vocabulary) -> Result<Vec<f64>, ModelError> {
    let scores = file.numbers("tokenizer.ggml.scores")?;
    let scores = scores.ok_or_else(|| vocabulary.wrong("`tokenizer.ggml.scores` is missing"))?;
    if scores.len() != vocabulary.tokens.len() || scores.iter().any(|score| score.is_nan()) {
        return Err(vocabulary.wrong(format!(
            "it has {} tokens and {} scores, expected as many numbers",
            vocabulary.tokens.len(),
            scores.len()
        )));
    }
    Ok(scores)
}

/// The token for unknown text: the one that the file names, else the first of its kind.
fn unknown<'a>(
    file: &GgufFile,
    vocabulary: &'a Vocabulary<'_>,
) -> Result<Option<&'a str>, ModelError> {
    if let Some((_, token)) = vocabulary.token_of(file, "unknown_token_id")? {
        return Ok(Some(token));
    }
    let first = vocabulary.kinds.iter().position(|kind| *kind == UNKNOWN);
    Ok(first.map(|id| vocabulary.tokens[id].as_ref()))
}

/// Replaces spaces by SentencePiece's symbol, and adds one before a text if it has a prefix.
fn write_spaces(
    inner: &mut tokenizers::Tokenizer,
    has_prefix: bool,
) -> Result<(), tokenizers::Error> {
    let mut normalizers = vec![Replace::new(" ", SPACE)?.into()];
    let mut decoders = vec![
        Replace::new(SPACE, " ")?.into(),
        ByteFallback::new().into(),
        Fuse::new().into(),
    ];
    if has_prefix {
        normalizers.insert(0, Prepend::new(SPACE.into()).into());
        decoders.push(Strip::new(' ', 1, 0).into());
    }
    inner.with_normalizer(Some(Sequence::new(normalizers)))?;
    inner.with_decoder(Some(Decoders::new(decoders)));
    Ok(())
}

/// All pairs of pieces whose concatenation is a piece, in descending order of its score; of equal
/// scores the longer left part first.
fn merges(vocabulary: &Vocabulary, scores: &[f64]) -> Vec<(String, String)> {
    let tokens = vocabulary.tokens.iter().map(AsRef::as_ref);
    let pieces: HashMap<&str, usize> = tokens.zip(0..).collect();
    let merged = |id: usize| !NEVER_MERGED.contains(&vocabulary.kinds[id]);
    let mut merges = Vec::new();
    for (id, piece) in vocabulary
        .tokens
        .iter()
        .enumerate()
        .filter(|(id, piece)| merged(*id) && piece.len() <= LONGEST_MERGED)
    {
        for (at, _) in piece.char_indices().skip(1) {
            let (left, right) = piece.split_at(at);
            let known = |part: &str| pieces.get(part).is_some_and(|id| merged(*id));
            if known(left) && known(right) {
                merges.push((scores[id], left, right));
            }
        }
    }
    merges.sort_by(|(one, left, _), (other, next, _)| {
        other.total_cmp(one).then(next.len().cmp(&left.len()))
    });
    merges
        .into_iter()
        .map(|(_, left, right)| (left.to_string(), right.to_string()))
        .collect()
}

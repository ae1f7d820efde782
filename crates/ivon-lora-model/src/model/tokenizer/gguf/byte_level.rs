//! Byte-level BPE (`gpt2`): the bytes of a text as letters, explicit merges, and a named
//! pre-tokenizer.

use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::unicode::NFC;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use super::pre_tokenizer::PreTokenizer;
use super::{Model, Vocabulary};
use crate::guard::guard_result;
use crate::model::error::ModelError;
use crate::model::gguf::GgufFile;

pub(super) fn build(file: &GgufFile, vocabulary: &Vocabulary) -> Result<Model, ModelError> {
    let wrong = |reason: String| vocabulary.wrong(reason);
    let name = file.text("tokenizer.ggml.pre")?.unwrap_or("missing");
    let pre = PreTokenizer::named(name).map_err(wrong)?;
    let ids: Vocab = vocabulary.ids().collect();
    let merges = vocabulary.merges(file, &ids)?;
    let builder = BPE::builder()
        .vocab_and_merges(ids, merges)
        .ignore_merges(pre.ignores_merges);
    let model = guard_result("tokenizers", || builder.build()).map_err(wrong)?;
    let mut inner = tokenizers::Tokenizer::new(model);
    if pre.composes {
        inner
            .with_normalizer(Some(NFC))
            .map_err(|error| wrong(error.to_string()))?;
    }
    inner
        .with_pre_tokenizer(Some(pre.build().map_err(wrong)?))
        .with_decoder(Some(ByteLevel::new(false, true, true)));
    Ok(Model {
        inner,
        starts_with_bos: pre.starts_with_bos,
    })
}

//! The tables over the vocabulary in a PEFT folder: whole ones, and those of the base that PEFT saves
//! along with A and B.

use std::path::Path;

use super::options::PeftOptions;
use crate::lora::contents::BASE_LAYER;
use crate::lora::parameters::{is_whole_table, of_table};
use crate::lora::store::Matrices;
use crate::lora::table::WHOLE;
use crate::lora::{LoraError, peft_name};
use crate::model::{DecoderConfig, Table};

/// Whether this is what PEFT saves of the base along with A and B of a table: that table.
pub(super) fn is_base_layer(path: &str) -> bool {
    of_table(path).is_some_and(|(_, part)| part == BASE_LAYER)
}

/// Refuses a table of another vocabulary.
pub(super) fn check_rows(
    file: &Path,
    matrices: &Matrices,
    decoder: &DecoderConfig,
) -> Result<(), LoraError> {
    for (path, matrix) in matrices {
        let Some((table, part)) = of_table(path) else {
            continue;
        };
        let [found, columns] = matrix.shape;
        let fits = columns == decoder.hidden_size && found != decoder.vocab_size;
        if (part == WHOLE || part == BASE_LAYER) && fits {
            return Err(LoraError::OtherVocabulary {
                path: file.into(),
                module: table.path_in(decoder.module),
                found,
                expected: decoder.vocab_size,
            });
        }
    }
    Ok(())
}

/// Gives a table that nothing changes the change of the other one (`ensure_weight_tying`).
pub(super) fn tie(matrices: &mut Matrices) {
    // A of one end is B of the other, rows as columns.
    let pairs = [
        ("embed_tokens.weight", "lm_head.weight"),
        ("embed_tokens.lora_embedding_A", "lm_head.lora_B"),
        ("embed_tokens.lora_embedding_B", "lm_head.lora_A"),
    ];
    for (one, other) in pairs {
        for [from, to] in [[one, other], [other, one]] {
            if let (Some(matrix), None) = (matrices.get(from), matrices.get(to)) {
                let same = match is_whole_table(from) {
                    true => matrix.clone(),
                    false => matrix.transposed(),
                };
                matrices.insert(to.into(), same);
            }
        }
    }
}

/// The names of the tables that are there as a whole, which must be those of the options or more:
/// PEFT also saves them by itself, as when the vocabulary was resized.
pub(super) fn whole_tables(
    file: &Path,
    matrices: &Matrices,
    options: &PeftOptions,
    decoder: &DecoderConfig,
) -> Result<Vec<String>, LoraError> {
    let path = |table: Table| format!("{}.{WHOLE}", table.name());
    let is_missing = |table: &Table| !matrices.contains_key(&path(*table));
    let mut stated = options.whole_tables(decoder.module).into_iter();
    if let Some(missing) = stated.find(is_missing) {
        return Err(LoraError::MissingTensor {
            path: file.into(),
            name: peft_name(&path(missing)),
        });
    }
    let there = Table::ALL.into_iter().filter(|table| !is_missing(table));
    Ok(there.map(|table| table.name().into()).collect())
}

//! The tensors that a decoder needs, compared with those of a checkpoint.
//!
//! transformers initialises missing tensors at random and ignores unexpected ones. Here the former
//! are an error, the latter a note.

use std::collections::BTreeSet;

use super::config::DecoderConfig;
use super::error::ModelError;
use super::tensor::RawTensor;

/// The output table.
pub(super) const HEAD: &str = "lm_head.weight";
/// The embedding table.
pub(super) const EMBEDDING: &str = "model.embed_tokens.weight";
/// The prefix of the decoder's tensors in Hugging Face's language model classes.
const PREFIX: &str = "model.";
/// The number of names in a note; the others are counted.
const NAMED: usize = 3;

/// The names of all tensors of a decoder, including an untied output table, sorted.
pub(super) fn needed(config: &DecoderConfig) -> BTreeSet<String> {
    let mut names = BTreeSet::from([EMBEDDING.to_string(), config.outside_name("norm.weight")]);
    if !config.tie_word_embeddings {
        names.insert(HEAD.into());
    }
    if config.per_layer_input().is_some() {
        let tables = [
            "embed_tokens_per_layer.weight",
            "per_layer_projection_norm.weight",
        ];
        names.extend(tables.map(|name| config.outside_name(name)));
    }
    for (path, shape) in config.linears() {
        names.insert(path.tensor("weight"));
        names.extend(shape.has_bias.then(|| path.tensor("bias")));
    }
    for (index, layer) in config.layers.iter().enumerate() {
        let vectors = layer.vectors(config.hidden_size).into_iter();
        names.extend(vectors.map(|(vector, _)| config.vector_name(index, vector)));
    }
    names
}

/// The name of a tensor in a language model: with the prefix `model.` added or removed if only that
/// makes it a needed name, as in transformers when a base model was saved and a language model is
/// loaded.
pub(super) fn name_in_language_model(name: &str, needed: &BTreeSet<String>) -> Option<String> {
    let without = name
        .strip_prefix(PREFIX)
        .filter(|rest| needed.contains(*rest));
    let with = || Some(format!("{PREFIX}{name}")).filter(|longer| needed.contains(longer));
    without.map(String::from).or_else(with)
}

/// The error for a checkpoint with another head than a language model's; none if it has no head.
pub(super) fn other_head(
    file: &str,
    architecture: Option<&str>,
    tensors: &[RawTensor<'_>],
) -> Option<ModelError> {
    let class = architecture.filter(|class| !class.ends_with("ForCausalLM"));
    let heads = ["score.weight", "classifier.weight", "qa_outputs.weight"];
    let head = tensors
        .iter()
        .find(|tensor| heads.contains(&tensor.name.as_str()));
    let shape = head.map(|head| {
        format!(
            "a head of another kind, `{}` of shape {:?}",
            head.name, head.shape
        )
    });
    let found = match (shape, class) {
        (Some(head), Some(class)) => format!("{head}, as a `{class}` has"),
        (Some(head), None) => head,
        (None, Some(class)) => format!("no output layer, as a `{class}` has none"),
        (None, None) => return None,
    };
    Some(ModelError::OtherHead {
        file: file.into(),
        found,
    })
}

/// Notes about the tensors that the decoder does not use.
pub(super) fn unused(
    file: &str,
    config: &DecoderConfig,
    needed: &BTreeSet<String>,
    tensors: &[RawTensor<'_>],
) -> Vec<String> {
    let left: Vec<&RawTensor<'_>> = tensors
        .iter()
        .filter(|tensor| !needed.contains(&tensor.name) && !is_silent(&tensor.name))
        .collect();
    let is_layer = |tensor: &&RawTensor<'_>| {
        layer_of(&tensor.name).is_some_and(|layer| layer >= config.num_hidden_layers)
    };
    let (layers, others): (Vec<_>, Vec<_>) = left.into_iter().partition(is_layer);
    let numbers = || layers.iter().filter_map(|tensor| layer_of(&tensor.name));
    let mut notes = Vec::new();
    if let (Some(first), Some(last)) = (numbers().min(), numbers().max()) {
        let count = config.num_hidden_layers;
        notes.push(format!("`{file}` has layers {first} to {last}, which are not used: its configuration says {count} layers"));
    }
    if !others.is_empty() {
        let kind = &config.model_type;
        let tensors = in_words(&others);
        notes.push(format!(
            "not used, as a {kind} decoder has no such tensors: {tensors} of `{file}`"
        ));
    }
    notes
}

/// The first few tensors, and how many more there are.
fn in_words(tensors: &[&RawTensor<'_>]) -> String {
    let word = |tensor: &&RawTensor<'_>| {
        let RawTensor {
            name, kind, shape, ..
        } = tensor;
        format!("`{name}` ({kind}, shape {shape:?})")
    };
    let words: Vec<String> = tensors.iter().take(NAMED).map(word).collect();
    match tensors.len().saturating_sub(NAMED) {
        0 => words.join(", "),
        more => format!("{} and {more} more", words.join(", ")),
    }
}

/// Whether a tensor is left over from older programs and is recomputed, or is used under this name.
fn is_silent(name: &str) -> bool {
    name.ends_with("rotary_emb.inv_freq") || name == "rope_freqs.weight" || name == HEAD
}

fn layer_of(name: &str) -> Option<usize> {
    name.strip_prefix("model.layers.")
        .or_else(|| name.strip_prefix("blk."))?
        .split('.')
        .next()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Checkpoint;
    use crate::testing;

    #[test]
    fn every_tensor_of_every_golden_model_is_needed_and_no_other_is() {
        for family in testing::FAMILIES {
            let checkpoint = Checkpoint::open(
                &testing::golden()
                    .join("tiny")
                    .join(family)
                    .display()
                    .to_string(),
            )
            .unwrap();
            let there: BTreeSet<String> = checkpoint
                .raw()
                .into_iter()
                .map(|tensor| tensor.name)
                .collect();
            assert_eq!(needed(checkpoint.config()), there, "{family}");
        }
    }

    #[test]
    fn a_prefix_is_put_or_taken_only_where_that_makes_a_needed_name() {
        let needed = BTreeSet::from([HEAD.to_string(), EMBEDDING.to_string()]);
        let name = |name: &str| name_in_language_model(name, &needed);
        assert_eq!(name("embed_tokens.weight").as_deref(), Some(EMBEDDING));
        assert_eq!(
            name("model.model.embed_tokens.weight").as_deref(),
            Some(EMBEDDING)
        );
        assert_eq!(name("model.lm_head.weight").as_deref(), Some(HEAD));
        assert_eq!((name("score.weight"), name(EMBEDDING)), (None, None));
    }

    #[test]
    fn a_class_without_output_layer_is_named() {
        let error = |class| other_head("m", class, &[]).map(|error| error.to_string());
        assert_eq!((error(None), error(Some("LlamaForCausalLM"))), (None, None));
        assert!(error(Some("Qwen3Model")).unwrap().contains(
            "it has no output layer, as a `Qwen3Model` has none, expected `lm_head.weight`"
        ));
    }
}

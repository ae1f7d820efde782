//! The tensors that a decoder needs, compared with those of a checkpoint.
//!
//! transformers initialises missing tensors at random and ignores unexpected ones. Here the former
//! are an error, the latter a note.

use std::collections::{BTreeMap, BTreeSet};

use super::config::DecoderConfig;
use super::error::ModelError;
use super::projection::{LANGUAGE_MODEL, MODEL};
use super::tensor::RawTensor;

/// The output table.
pub(super) const HEAD: &str = "lm_head.weight";
/// The path of the decoder in multimodal models that transformers saved before version 4.52.
const OLD_LANGUAGE_MODEL: &str = "language_model.model";
/// The output table there.
const OLD_HEAD: &str = "language_model.lm_head.weight";
/// The number of names in a note; the others are counted.
const NAMED: usize = 3;

impl DecoderConfig {
    /// The tensors of its checkpoint with their shapes, including an untied output table, by
    /// Hugging Face's names.
    pub fn tensors(&self) -> BTreeMap<String, Vec<usize>> {
        let hidden = self.hidden_size;
        let table = vec![self.vocab_size, hidden];
        let mut tensors = BTreeMap::from([
            (self.embedding(), table.clone()),
            (self.outside_name("norm.weight"), vec![hidden]),
        ]);
        if !self.tie_word_embeddings {
            tensors.insert(HEAD.into(), table);
        }
        let rows = self.ends.vocab_size_per_layer_input;
        if let Some((width, rows)) = self.per_layer_input().zip(rows) {
            let table = self.outside_name("embed_tokens_per_layer.weight");
            tensors.insert(table, vec![rows, width * self.layers.len()]);
            let norm = self.outside_name("per_layer_projection_norm.weight");
            tensors.insert(norm, vec![width]);
        }
        for (path, linear) in self.linears() {
            tensors.insert(path.tensor("weight"), linear.shape.into());
            if linear.has_bias {
                tensors.insert(path.tensor("bias"), vec![linear.shape[0]]);
            }
        }
        for (index, layer) in self.layers.iter().enumerate() {
            for (vector, shape) in layer.vectors(hidden) {
                tensors.insert(self.vector_name(index, vector), shape);
            }
        }
        tensors
    }
}

/// The names of all tensors of a decoder, including an untied output table, sorted.
pub(super) fn needed(config: &DecoderConfig) -> BTreeSet<String> {
    config.tensors().into_keys().collect()
}

/// The name of a tensor in the model whose decoder is at `module`, if it is another and a needed
/// one: with the prefix `model.` added or removed, as in transformers when a base model was saved
/// and a language model is loaded; or moved from another place of the decoder to this one.
pub(super) fn name_in_language_model(
    name: &str,
    module: &str,
    needed: &BTreeSet<String>,
) -> Option<String> {
    let tail = |prefix: &str| name.strip_prefix(prefix)?.strip_prefix('.');
    let moved = [LANGUAGE_MODEL, OLD_LANGUAGE_MODEL, MODEL]
        .into_iter()
        .filter_map(|prefix| Some(format!("{module}.{}", tail(prefix)?)));
    let without = tail(MODEL).map(String::from);
    let head = (name == OLD_HEAD).then(|| HEAD.to_string());
    let with = Some(format!("{MODEL}.{name}"));
    let mut others = without.into_iter().chain(with).chain(moved).chain(head);
    match needed.contains(name) {
        true => None,
        false => others.find(|other| needed.contains(other)),
    }
}

/// The error for a checkpoint with another head than a language model's; none if it has no head.
pub(super) fn other_head(
    file: &str,
    architecture: Option<&str>,
    tensors: &[RawTensor<'_>],
) -> Option<ModelError> {
    let is_language_model =
        |class: &str| class.ends_with("ForCausalLM") || class.ends_with("ForConditionalGeneration");
    let class = architecture.filter(|class| !is_language_model(class));
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
    let (left, beside): (Vec<_>, Vec<_>) = left
        .into_iter()
        .partition(|tensor| !is_beside(&tensor.name, config));
    let layer_of = |tensor: &RawTensor<'_>| layer_of(&tensor.name, config.module);
    let is_layer = |tensor: &&RawTensor<'_>| {
        layer_of(tensor).is_some_and(|layer| layer >= config.num_hidden_layers)
    };
    let (layers, others): (Vec<_>, Vec<_>) = left.into_iter().partition(is_layer);
    let numbers = || layers.iter().filter_map(|tensor| layer_of(tensor));
    let mut notes = Vec::new();
    if !beside.is_empty() {
        let parts = parts_in_words(&beside);
        notes.push(format!(
            "left aside, as only the text part is used: {parts} of `{file}`"
        ));
    }
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

/// Whether a tensor of a multimodal model stands beside its decoder.
pub(super) fn is_beside(name: &str, config: &DecoderConfig) -> bool {
    config.module == LANGUAGE_MODEL && !name.starts_with(LANGUAGE_MODEL) && name != HEAD
}

/// The parts of a multimodal model, each with the number of its tensors and weights:
/// "`vision_tower` (437 tensors, 417000000 weights), …".
fn parts_in_words(tensors: &[&RawTensor<'_>]) -> String {
    let mut parts: BTreeMap<&str, (usize, u64)> = BTreeMap::new();
    for tensor in tensors {
        let name = tensor.name.as_str();
        let path = name.strip_prefix("model.").unwrap_or(name);
        let part = parts.entry(path.split('.').next().unwrap_or(path));
        let (count, weights) = part.or_default();
        *count += 1;
        *weights += tensor.shape.iter().map(|n| *n as u64).product::<u64>();
    }
    let word = |(part, (count, weights)): (&str, (usize, u64))| {
        let tensors = if count == 1 { "tensor" } else { "tensors" };
        format!("`{part}` ({count} {tensors}, {weights} weights)")
    };
    parts.into_iter().map(word).collect::<Vec<_>>().join(", ")
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
    let is_divisors = name.starts_with("rope_freqs.") || name.starts_with("rope_factors_");
    name.ends_with("rotary_emb.inv_freq") || is_divisors || name == HEAD
}

fn layer_of(name: &str, module: &str) -> Option<usize> {
    let inside = |name| str::strip_prefix(name, module)?.strip_prefix(".layers.");
    inside(name)
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
            let there: BTreeMap<String, Vec<usize>> = checkpoint
                .raw()
                .into_iter()
                .map(|tensor| (tensor.name, tensor.shape.to_vec()))
                .collect();
            assert_eq!(checkpoint.config().tensors(), there, "{family}");
        }
    }

    #[test]
    fn a_prefix_is_put_or_taken_only_where_that_makes_a_needed_name() {
        let embedding = "model.embed_tokens.weight";
        let needed = BTreeSet::from([HEAD.to_string(), embedding.to_string()]);
        let name = |name: &str| name_in_language_model(name, MODEL, &needed);
        assert_eq!(name("embed_tokens.weight").as_deref(), Some(embedding));
        assert_eq!(
            name("model.model.embed_tokens.weight").as_deref(),
            Some(embedding)
        );
        assert_eq!(name("model.lm_head.weight").as_deref(), Some(HEAD));
        assert_eq!((name("score.weight"), name(embedding)), (None, None));
    }

    #[test]
    fn a_decoder_is_found_at_each_place_where_multimodal_models_have_it() {
        let norm = |module: &str| format!("{module}.norm.weight");
        for module in [MODEL, LANGUAGE_MODEL] {
            let needed = BTreeSet::from([HEAD.to_string(), norm(module)]);
            let name = |name: &str| name_in_language_model(name, module, &needed);
            for place in [LANGUAGE_MODEL, OLD_LANGUAGE_MODEL, MODEL, "language_model"] {
                let expected = (place != module).then(|| norm(module));
                let found = name(&norm(place));
                if (place, module) != ("language_model", MODEL) {
                    assert_eq!(found, expected, "{place} {module}");
                }
            }
            assert_eq!(name(OLD_HEAD).as_deref(), Some(HEAD));
            assert_eq!(name("model.visual.norm.weight"), None);
        }
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

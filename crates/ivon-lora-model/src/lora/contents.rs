//! What an adapter's file contains besides the parameters of decoder layers and of the tables over
//! the vocabulary: whole layers of the model, and A and B of others.
//!
//! PEFT saves `modules_to_save` as whole layers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::adapter::MAGNITUDES;
use super::parameters::{PEFT_MODEL, PEFT_SUFFIX, of_table, path_of_peft_name};
use super::store::Matrices;
use super::{HostMatrix, LoraError};
use crate::model::{DecoderConfig, Table};

/// The end of the path of what PEFT saves of the base along with A and B of a table.
pub(super) const BASE_LAYER: &str = "base_layer";
/// The prefix of the decoder layers in a decoder; unknown tensors under it are not whole layers.
const DECODER_LAYERS: &str = "layers.";

/// The ends of the paths of the tables of tokens.
const TABLES: [&str; 3] = ["lm_head", "embed_tokens", "embed_tokens_per_layer"];

/// A layer of the model saved as a whole.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct WholeLayer {
    /// Its path in the model: `lm_head`, `model.embed_tokens`.
    pub module: String,
    /// `[rows, columns]`.
    pub shape: [usize; 2],
}

/// What a file contains besides the parameters of decoder layers and tables.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct OtherContents {
    /// The whole layers.
    pub whole: Vec<WholeLayer>,
    /// Other layers with A and B.
    pub adapted: Vec<String>,
}

impl OtherContents {
    /// Recognises them by the names of tensors.
    pub fn of(matrices: &Matrices) -> Self {
        let mut beside = Self::default();
        for (name, matrix) in matrices.iter().filter(|(name, _)| !is_factor(name)) {
            let is_known = path_of_peft_name(name)
                .is_some_and(|path| path.starts_with(DECODER_LAYERS) || of_table(path).is_some());
            let Some(path) = name.strip_prefix(PEFT_MODEL).filter(|_| !is_known) else {
                continue;
            };
            if let Some(module) = adapted_module(path) {
                if !beside.adapted.iter().any(|known| known == module) {
                    beside.adapted.push(module.into());
                }
            } else if let Some(module) = path.strip_suffix(PEFT_SUFFIX) {
                beside.whole.push(WholeLayer {
                    module: module.into(),
                    shape: matrix.shape,
                });
            }
        }
        // What PEFT saves along with A and B of a layer is not a separate layer.
        let base_layers = beside.adapted.iter();
        let base_layers: Vec<_> = base_layers
            .map(|module| format!("{module}.base_layer"))
            .collect();
        beside
            .whole
            .retain(|layer| !base_layers.contains(&layer.module));
        beside
    }

    /// Refuses a file that contains any.
    ///
    /// # Errors
    /// [`LoraError::OtherLayer`] or [`LoraError::WholeLayers`].
    pub fn refuse(&self, file: &Path) -> Result<(), LoraError> {
        if let Some(module) = self.adapted.first() {
            return Err(LoraError::OtherLayer {
                path: file.into(),
                module: module.clone(),
            });
        }
        if self.whole.is_empty() {
            return Ok(());
        }
        let layers: Vec<String> = self
            .whole
            .iter()
            .map(|layer| format!("`{}` {:?}", layer.module, layer.shape))
            .collect();
        Err(LoraError::WholeLayers {
            path: file.into(),
            layers: layers.join(", "),
        })
    }
}

/// Takes out A and B of modules outside the decoder that add nothing to the model, as every number of
/// A or of B is 0: those of a multimodal model's other parts, if only text was trained. Returns the
/// modules. Those of the embedding and output tables stay.
pub fn take_idle(matrices: &mut Matrices, decoder: &DecoderConfig) -> Vec<String> {
    let linears = decoder.linears().into_iter();
    let linears: BTreeSet<String> = linears.map(|(path, _)| path.to_string()).collect();
    let is_in_decoder = |name: &str| {
        let path = path_of_peft_name(name).and_then(adapted_module);
        path.is_some_and(|path| path.starts_with(DECODER_LAYERS) || linears.contains(path))
    };
    let is_table = |module: &str| TABLES.iter().any(|table| module.ends_with(table));
    let mut outside: BTreeMap<String, Vec<(&String, &HostMatrix)>> = BTreeMap::new();
    for (name, matrix) in matrices.iter().filter(|(name, _)| !is_in_decoder(name)) {
        let module = name.strip_prefix(PEFT_MODEL).and_then(adapted_module);
        if let Some(module) = module.filter(|module| !is_table(module)) {
            let tensors = outside.entry(module.into()).or_default();
            tensors.push((name, matrix));
        }
    }
    let is_zero =
        |(_, matrix): &(&String, &HostMatrix)| matrix.values.iter().all(|number| *number == 0.0);
    outside.retain(|_, tensors| tensors.iter().any(is_zero));
    let tensors = outside.values().flatten();
    let names: BTreeSet<String> = tensors.map(|(name, _)| name.to_string()).collect();
    let modules = outside.into_keys().collect();
    matrices.retain(|name, _| !names.contains(name));
    modules
}

/// A note on the modules that [`take_idle`] took out.
pub fn idle_note(modules: &[String]) -> Option<String> {
    let more = match modules.len() {
        0 => return None,
        1 => String::new(),
        count => format!(" and {} more", count - 1),
    };
    Some(format!(
        "left aside: A and B of `{}`{more}, outside the decoder, which are zero and change nothing",
        modules[0]
    ))
}

/// The module of a tensor that is A or B of some layer.
fn adapted_module(path: &str) -> Option<&str> {
    let factors = [
        ".lora_A",
        ".lora_B",
        ".lora_embedding_A",
        ".lora_embedding_B",
    ];
    let split = factors.iter().find_map(|factor| path.split_once(factor));
    split.map(|(module, _)| module)
}

/// Whether this is the name of A or B of a linear layer of the decoder.
pub fn is_factor(name: &str) -> bool {
    let is_one = |path: &str| path.ends_with(".lora_A") || path.ends_with(".lora_B");
    path_of_peft_name(name).is_some_and(|path| is_one(path) && of_table(path).is_none())
}

/// The table over the vocabulary that a parameter with this name belongs to, if it belongs to one
/// and is not what PEFT saves of the base along with A and B.
pub fn table_of(name: &str) -> Option<Table> {
    let (table, part) = of_table(path_of_peft_name(name)?)?;
    (part != BASE_LAYER).then_some(table)
}

/// Whether this is the name of the magnitudes of a linear layer of the decoder.
pub fn is_magnitudes(name: &str) -> bool {
    path_of_peft_name(name).is_some_and(|path| path.ends_with(MAGNITUDES))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::tiny::decoder;

    fn of(names: &[&str]) -> OtherContents {
        let matrix = |name: &&str| {
            (
                name.to_string(),
                HostMatrix {
                    shape: [2, 1],
                    values: vec![0.0; 2],
                },
            )
        };
        OtherContents::of(&names.iter().map(matrix).collect())
    }

    #[test]
    fn only_pairs_outside_the_decoder_that_are_zero_are_taken_out() {
        let inside = "base_model.model.model.language_model.layers.0.self_attn.q_proj.";
        let tower = "base_model.model.model.vision_tower.layers.";
        let mut matrices = Matrices::new();
        let mut add = |module: String, [a, b]: [f32; 2]| {
            for (part, value) in [("lora_A.weight", a), ("lora_B.weight", b)] {
                let matrix = HostMatrix::new([1, 2], vec![0.0, value]);
                matrices.insert(format!("{module}{part}"), matrix);
            }
        };
        add(inside.into(), [1.0, 0.0]);
        add("base_model.model.lm_head.".into(), [1.0, 0.0]);
        add(format!("{tower}0.q_proj."), [1.0, 0.0]);
        add(format!("{tower}1.q_proj."), [0.0, 1.0]);
        add(format!("{tower}2.q_proj."), [1.0, 1.0]);
        let idle = take_idle(&mut matrices, &decoder(1));
        let name = |layer: usize| format!("model.vision_tower.layers.{layer}.q_proj");
        assert_eq!(idle, [name(0), name(1)]);
        let left: Vec<&String> = matrices.keys().collect();
        let is_left = |part: &str| left.iter().any(|name| name.contains(part));
        assert_eq!(left.len(), 6);
        assert!(is_left("lm_head") && is_left("language_model") && is_left("layers.2"));
        let note = idle_note(&idle).unwrap();
        assert_eq!(
            note,
            "left aside: A and B of `model.vision_tower.layers.0.q_proj` and 1 more, outside the decoder, which are zero and change nothing"
        );
        assert_eq!(idle_note(&[]), None);
    }

    #[test]
    fn whole_layers_and_other_adapted_layers_are_told_from_those_of_the_decoder() {
        let q = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
        let tables = [
            q,
            "base_model.model.lm_head.base_layer.weight",
            "base_model.model.lm_head.lora_A.weight",
            "base_model.model.model.embed_tokens.weight",
            "base_model.model.model.embed_tokens.lora_embedding_A",
        ];
        assert_eq!(of(&tables), OtherContents::default());
        let saved = of(&[
            q,
            "base_model.model.score.weight",
            "base_model.model.model.norm.weight",
        ]);
        let modules: Vec<&str> = saved
            .whole
            .iter()
            .map(|layer| layer.module.as_str())
            .collect();
        assert_eq!(
            (modules, saved.adapted.len()),
            (vec!["model.norm", "score"], 0)
        );
        let message = saved.refuse(Path::new("a")).unwrap_err().to_string();
        assert_eq!(
            message,
            "`a` holds whole layers of the model beside A and B, which are not read: `model.norm` [2, 1], `score` [2, 1]"
        );
        let adapted = of(&[
            q,
            "base_model.model.visual.proj.base_layer.weight",
            "base_model.model.visual.proj.lora_A.weight",
        ]);
        assert_eq!(
            (adapted.whole.len(), adapted.adapted.as_slice()),
            (0, ["visual.proj".to_string()].as_slice())
        );
        let error = adapted.refuse(Path::new("a")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`a` adapts `visual.proj`, expected linear layers of the decoder and its tables over the vocabulary"
        );
        assert!(
            error
                .hint()
                .unwrap()
                .contains("merge it into the base with PEFT")
        );
    }

    #[test]
    fn a_parameter_of_a_table_names_it() {
        let of = |name: &str| table_of(&format!("base_model.model.{name}"));
        assert_eq!(of("lm_head.lora_B.weight"), Some(Table::LmHead));
        let embeddings = Some(Table::EmbedTokens);
        assert_eq!(of("model.embed_tokens.lora_embedding_B"), embeddings);
        assert_eq!(of("model.language_model.embed_tokens.weight"), embeddings);
        assert_eq!(of("lm_head.base_layer.weight"), None);
        assert_eq!(of("model.layers.0.mlp.up_proj.lora_A.weight"), None);
        assert!(!is_factor("base_model.model.lm_head.lora_A.weight"));
    }
}

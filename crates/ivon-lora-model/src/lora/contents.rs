//! What an adapter's file contains besides A and B of decoder layers: whole layers of the model,
//! and A and B of its tables.
//!
//! PEFT saves `modules_to_save` as whole layers, and by itself the embedding and output tables if
//! the vocabulary was resized.

use super::LoraError;
use super::adapter::MAGNITUDES;
use super::parameters::{PEFT_MODEL, PEFT_SUFFIX, path_of_peft_name};
use super::store::Matrices;
use std::path::Path;

/// The prefix of the decoder layers in a decoder; unknown tensors under it are not whole layers.
const DECODER_LAYERS: &str = "layers.";

/// A layer of the model saved as a whole.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct WholeLayer {
    /// Its path in the model: `lm_head`, `model.embed_tokens`.
    pub module: String,
    /// `[rows, columns]`.
    pub shape: [usize; 2],
}

/// What a file contains besides A and B of decoder layers.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct OtherContents {
    /// The whole layers.
    pub whole: Vec<WholeLayer>,
    /// The tables of the model, embedding or output, with A and B.
    pub adapted: Vec<String>,
}

impl OtherContents {
    /// Recognises them by the names of tensors.
    pub fn of(matrices: &Matrices) -> Self {
        let mut beside = Self::default();
        for (name, matrix) in matrices.iter().filter(|(name, _)| !is_factor(name)) {
            let is_in_layer =
                path_of_peft_name(name).is_some_and(|path| path.starts_with(DECODER_LAYERS));
            let Some(path) = name.strip_prefix(PEFT_MODEL).filter(|_| !is_in_layer) else {
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
        // What PEFT saves along with A and B of a table is not a separate layer.
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
    path_of_peft_name(name)
        .is_some_and(|path| path.ends_with(".lora_A") || path.ends_with(".lora_B"))
}

/// Whether this is the name of the magnitudes of a linear layer of the decoder.
pub fn is_magnitudes(name: &str) -> bool {
    path_of_peft_name(name).is_some_and(|path| path.ends_with(MAGNITUDES))
}

#[cfg(test)]
mod tests {
    use super::super::HostMatrix;
    use super::*;

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
    fn whole_layers_and_adapted_tables_are_told_from_a_and_b() {
        let q = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
        assert_eq!(of(&[q]), OtherContents::default());
        let saved = of(&[
            q,
            "base_model.model.lm_head.weight",
            "base_model.model.model.embed_tokens.weight",
        ]);
        let modules: Vec<&str> = saved
            .whole
            .iter()
            .map(|layer| layer.module.as_str())
            .collect();
        assert_eq!(
            (modules, saved.adapted.len()),
            (vec!["lm_head", "model.embed_tokens"], 0)
        );
        let message = saved.refuse(Path::new("a")).unwrap_err().to_string();
        assert_eq!(
            message,
            "`a` holds whole layers of the model beside A and B, which are not read: `lm_head` [2, 1], `model.embed_tokens` [2, 1]"
        );
        let adapted = of(&[
            q,
            "base_model.model.lm_head.base_layer.weight",
            "base_model.model.lm_head.lora_A.weight",
        ]);
        assert_eq!(
            (adapted.whole.len(), adapted.adapted.as_slice()),
            (0, ["lm_head".to_string()].as_slice())
        );
        let error = adapted.refuse(Path::new("a")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`a` adapts `lm_head`, expected linear layers of the decoder layers alone"
        );
        assert!(
            error
                .hint()
                .unwrap()
                .contains("merge it into the base with PEFT")
        );
        assert_eq!(
            of(&["base_model.model.model.embed_tokens.lora_embedding_A"]).adapted,
            ["model.embed_tokens"]
        );
    }
}

//! The supported families of decoders, one file each. Everything that depends on the name of a
//! family is here. docs/adding-a-family.md walks through one family.

mod description;
mod sizes;
mod windows;
mod metadata;
mod change;
mod sliding;
mod llama;
mod mistral;
mod ministral3;
mod qwen2;
mod qwen3;
mod qwen3_5;
mod smollm3;
mod phi3;
mod granite;
mod granite4;
mod olmo2;
mod olmo3;
mod gemma2;
mod gemma3;
mod gemma4;
mod lfm2;
mod multimodal;

pub use description::{Family, Gguf, Windows};
pub(in crate::model) use multimodal::Multimodal;

use super::config::DecoderConfig;
use super::error::ModelError;
use super::layer_vector::LayerVector;
use super::projection::{LinearPath, LinearShape, Projection};

/// All families, in the order of messages.
static FAMILIES: [Family; 16] = [
    llama::LLAMA,
    mistral::MISTRAL,
    ministral3::MINISTRAL3,
    qwen2::QWEN2,
    qwen3::QWEN3,
    qwen3_5::QWEN3_5,
    smollm3::SMOLLM3,
    phi3::PHI3,
    granite::GRANITE,
    granite4::GRANITE4,
    olmo2::OLMO2,
    olmo3::OLMO3,
    gemma2::GEMMA2,
    gemma3::GEMMA3,
    gemma4::GEMMA4,
    lfm2::LFM2,
];

impl Family {
    /// The family with this `model_type` in `config.json`.
    pub fn of_model_type(model_type: &str) -> Option<&'static Self> {
        FAMILIES
            .iter()
            .find(|family| family.model_type == model_type)
    }

    /// The family with which the others are compared.
    fn llama() -> &'static Self {
        &FAMILIES[0]
    }

    /// The family whose [`Gguf`] translates files with this `general.architecture`.
    pub fn of_gguf(architecture: &str) -> Option<&'static Self> {
        let names = |gguf: Gguf| gguf.architectures.contains(&architecture);
        FAMILIES
            .iter()
            .find(|family| family.gguf.is_some_and(names))
    }

    /// The model types of `config.json`.
    pub fn model_types() -> Vec<&'static str> {
        FAMILIES.iter().map(|family| family.model_type).collect()
    }

    /// The architectures of GGUF files.
    pub fn gguf_architectures() -> Vec<&'static str> {
        let names = |family: &Self| Some(family.gguf?.architectures);
        let names = FAMILIES.iter().filter_map(names);
        names.flatten().copied().collect()
    }

    /// What its checkpoints call a module or a tensor with this usual name.
    fn name_of(&self, usual: &'static str) -> String {
        let (module, ending) = match usual.strip_suffix(".weight") {
            Some(module) => (module, ".weight"),
            None => (usual, ""),
        };
        format!("{}{ending}", self.module_of(module))
    }

    fn module_of(&self, usual: &'static str) -> &'static str {
        let renamed = self.renamed.iter().find(|(name, _)| *name == usual);
        renamed.map_or(usual, |(_, name)| name)
    }
}

impl DecoderConfig {
    /// Its family; Llama's if the type is unknown, which [`validate`](Self::validate) refuses.
    pub fn family(&self) -> &'static Family {
        Family::of_model_type(&self.model_type).unwrap_or_else(Family::llama)
    }

    /// Checks the consistency of all numbers, and bounds that are generous for these families and
    /// prevent overflow in later products.
    ///
    /// `file` is named in the error.
    ///
    /// # Errors
    /// [`ModelError::Architecture`] for another family, else [`ModelError::Setting`].
    pub fn validate(&self, file: &str) -> Result<(), ModelError> {
        if Family::of_model_type(&self.model_type).is_none() {
            return Err(ModelError::Architecture {
                file: file.into(),
                found: self.model_type.clone(),
                supported: Family::model_types(),
            });
        }
        self.validate_numbers(file)
    }

    /// The path of a linear layer by its role.
    pub fn linear_path(&self, layer: Option<usize>, projection: Projection) -> LinearPath {
        LinearPath {
            layer,
            projection,
            name: self.family().module_of(projection.usual_path()),
            module: self.module,
        }
    }

    /// All linear layers except the output layer, in the order of the forward pass.
    pub fn linears(&self) -> Vec<(LinearPath, LinearShape)> {
        let outside = self
            .linears_outside()
            .into_iter()
            .map(|shape| (None, shape));
        let layers = self.layers.iter().enumerate();
        let inside = layers.flat_map(|(index, layer)| {
            let linears = layer.linears(self.hidden_size).into_iter();
            linears.map(move |shape| (Some(index), shape))
        });
        outside
            .chain(inside)
            .map(|(layer, shape)| (self.linear_path(layer, shape.projection), shape))
            .collect()
    }

    /// The linear layers outside the decoder layers, except the output layer.
    pub fn linears_outside(&self) -> Vec<LinearShape> {
        let inputs = self.per_layer_input();
        let inputs = inputs.map(|width| [width * self.layers.len(), self.hidden_size]);
        let shape = inputs.map(|shape| LinearShape::new(Projection::PerLayerModel, shape));
        shape.into_iter().collect()
    }

    /// The name of a decoder layer's tensor that is not a linear layer.
    pub fn vector_name(&self, layer: usize, vector: LayerVector) -> String {
        let usual = self.layers[layer].usual_path(vector);
        let name = self.family().name_of(usual);
        format!("{}.layers.{layer}.{name}", self.module)
    }

    /// The name of the embedding table.
    pub fn embedding(&self) -> String {
        self.outside_name("embed_tokens.weight")
    }

    /// The name of a tensor of the decoder outside the layers, by its usual name after `model.`.
    pub fn outside_name(&self, usual: &'static str) -> String {
        format!("{}.{}", self.module, self.family().name_of(usual))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_is_found_under_each_of_its_names_and_under_no_other_s() {
        for family in &FAMILIES {
            let found = Family::of_model_type(family.model_type).unwrap();
            assert!(std::ptr::eq(found, family), "{}", family.model_type);
            if let Some(gguf) = family.gguf {
                for name in gguf.architectures {
                    let found = Family::of_gguf(name).unwrap();
                    assert!(std::ptr::eq(found, family), "{name}");
                }
            }
        }
        assert!(Family::of_model_type("gemma").is_none() && Family::of_gguf("mistral").is_none());
    }

    #[test]
    fn the_page_on_adding_a_family_shows_both_examples_as_they_stand() {
        let page = include_str!("../../../../../docs/adding-a-family.md");
        let (_, constant) = include_str!("qwen3.rs")
            .split_once("pub(super) const")
            .unwrap();
        assert!(page.contains(constant.trim_end()));
        let (_, read) = include_str!("smollm3.rs").split_once("fn read(").unwrap();
        let (read, _) = read.split_once("\n}\n").unwrap();
        assert!(page.contains(read));
    }

    #[test]
    fn the_page_on_models_names_every_family() {
        let page = include_str!("../../../../../docs/models.md");
        for family in Family::model_types() {
            assert!(page.contains(&format!("| `{family}` |")), "{family}");
        }
    }

    #[test]
    fn no_family_has_two_tensors_under_one_name() {
        for family in &FAMILIES {
            for names in [family.tensors, family.layer_tensors] {
                for (index, (gguf, hugging_face)) in names.iter().enumerate() {
                    let clashes =
                        |(one, other): &(&str, &str)| one == gguf || other == hugging_face;
                    assert!(!names[index + 1..].iter().any(clashes), "{gguf}");
                }
            }
        }
    }
}

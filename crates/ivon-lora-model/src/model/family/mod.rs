//! The supported families of decoders, one file each. Everything that depends on the name of a
//! family is here. docs/adding-a-family.md walks through one family.

mod description;
mod llama;
mod mistral;
mod qwen2;
mod qwen3;

pub use description::{Family, Gguf, Windows};

/// All families, in the order of messages.
static FAMILIES: [Family; 4] = [llama::LLAMA, mistral::MISTRAL, qwen2::QWEN2, qwen3::QWEN3];

impl Family {
    /// The family with this `model_type` in `config.json`.
    pub fn of_model_type(model_type: &str) -> Option<&'static Self> {
        FAMILIES
            .iter()
            .find(|family| family.model_type == model_type)
    }

    /// The family with which the others are compared.
    pub fn llama() -> &'static Self {
        &FAMILIES[0]
    }

    /// The family with this `general.architecture` in a GGUF file.
    pub fn of_gguf(architecture: &str) -> Option<&'static Self> {
        let names = |gguf: Gguf| gguf.architecture == architecture;
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
        let name = |family: &Self| Some(family.gguf?.architecture);
        FAMILIES.iter().filter_map(name).collect()
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
                let found = Family::of_gguf(gguf.architecture).unwrap();
                assert!(std::ptr::eq(found, family), "{}", family.model_type);
            }
        }
        assert!(Family::of_model_type("gemma3").is_none() && Family::of_gguf("mistral").is_none());
    }

    #[test]
    fn the_page_on_adding_a_family_shows_one_as_it_stands() {
        let page = include_str!("../../../../../docs/adding-a-family.md");
        let (_, constant) = include_str!("qwen3.rs")
            .split_once("pub(super) const")
            .unwrap();
        assert!(page.contains(constant.trim_end()));
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

//! The tokens that end a text.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::checkpoint::Checkpoint;
use super::error::ModelError;
use crate::data::Tokenizer;
use crate::files;

/// The maximum size of a settings file in bytes.
const LONGEST_SETTINGS: u64 = 10 << 20;
/// The keys of a GGUF file with the tokens that end a text, or a turn of a conversation.
const GGUF_KEYS: [&str; 3] = ["eos_token_id", "eot_token_id", "eom_token_id"];

impl Checkpoint {
    /// The tokens with which the model ends a text: those of `generation_config.json`, or else of
    /// `config.json`, or those of a GGUF file's metadata; and the tokenizer's own.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn end_tokens(&self, tokenizer: &Tokenizer) -> Result<BTreeSet<u32>, ModelError> {
        let mut ends = match (self.folder(), self.gguf()) {
            (Some(folder), _) => of_folder(folder)?,
            (None, Some(file)) => {
                let ids = GGUF_KEYS.map(|key| file.unsigned(&format!("tokenizer.ggml.{key}")));
                let ids = ids.into_iter().collect::<Result<Vec<_>, _>>()?;
                ids.into_iter().flatten().map(|id| id as u32).collect()
            }
            (None, None) => BTreeSet::new(),
        };
        let own = tokenizer.eos_token.as_deref();
        ends.extend(own.and_then(|text| tokenizer.token_to_id(text)));
        Ok(ends)
    }
}

fn of_folder(folder: &Path) -> Result<BTreeSet<u32>, ModelError> {
    for name in ["generation_config.json", "config.json"] {
        let path = folder.join(name);
        if !path.exists() {
            continue;
        }
        let text = files::read_text(&path, LONGEST_SETTINGS)?;
        // What is no JSON says nothing: `config.json` has been read before, and without the other
        // file a model can be used all the same.
        let settings = serde_json::from_str(&text).unwrap_or(Value::Null);
        let ends = of_settings(&settings);
        if !ends.is_empty() {
            return Ok(ends);
        }
    }
    Ok(BTreeSet::new())
}

/// `eos_token_id`, a number or a list of them, of a model or of the part for texts.
fn of_settings(settings: &Value) -> BTreeSet<u32> {
    let own = [settings, &settings["text_config"]];
    let own = own.map(|settings| &settings["eos_token_id"]);
    let Some(ids) = own.into_iter().find(|ids| !ids.is_null()) else {
        return BTreeSet::new();
    };
    let list = ids
        .as_array()
        .map_or(std::slice::from_ref(ids), Vec::as_slice);
    let ids = list.iter().filter_map(Value::as_u64);
    ids.filter_map(|id| u32::try_from(id).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::real_model;

    #[test]
    fn ends_are_those_of_the_generation_settings_or_else_of_the_model_s() {
        let folder = tempfile::tempdir().unwrap();
        let write =
            |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        let found = || {
            of_folder(folder.path())
                .unwrap()
                .into_iter()
                .collect::<Vec<_>>()
        };
        assert!(found().is_empty());
        write("config.json", r#"{"text_config":{"eos_token_id":[1,106]}}"#);
        assert_eq!(found(), [1, 106]);
        write("generation_config.json", r#"{"eos_token_id":null}"#);
        assert_eq!(found(), [1, 106]);
        write("generation_config.json", r#"{"eos_token_id":[9,7]}"#);
        assert_eq!(found(), [7, 9]);
    }

    #[test]
    fn a_gguf_file_names_its_end() {
        let Some(path) = real_model("a_gguf_file_names_its_end") else {
            return;
        };
        let checkpoint = Checkpoint::open(path.to_str().unwrap()).unwrap();
        let tokenizer = checkpoint.tokenizer().unwrap();
        let ends = checkpoint.end_tokens(&tokenizer).unwrap();
        assert_eq!(tokenizer.token_to_id("<|im_end|>"), ends.first().copied());
    }
}

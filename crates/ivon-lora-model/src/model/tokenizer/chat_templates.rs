//! The chat template of a Hugging Face folder, from the same places as in transformers 5:
//! `chat_template.jinja` and `additional_chat_templates/*.jinja`, else `chat_template` in
//! `tokenizer_config.json`, a string or a list of named ones.
//!
//! (`chat_template.json` is for the processors of multimodal models; tokenizers do not read it.)

use std::path::Path;

use serde_json::{Map, Value};

use crate::files;
use crate::model::error::ModelError;

/// The maximum size of a template in bytes.
const LONGEST: u64 = 1 << 20;
/// The maximum number of additional template files.
const MOST: usize = 100;

/// The templates of a folder.
#[derive(Debug, Default)]
pub(super) struct ChatTemplates {
    /// The only one, or the one named `default`.
    pub default: Option<String>,
    /// The names of the templates if none is the default.
    pub others: Vec<String>,
}

impl ChatTemplates {
    /// Reads them.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn read(folder: &Path, config: &Map<String, Value>) -> Result<Self, ModelError> {
        let others = additional(folder);
        let in_folder = others.iter().any(|name| name == "default");
        let places = [
            (true, "chat_template.jinja"),
            (in_folder, "additional_chat_templates/default.jinja"),
        ];
        for (is_there, name) in places {
            let path = folder.join(name);
            if is_there && path.exists() {
                return Ok(Self::only(files::read_text(&path, LONGEST)?));
            }
        }
        if !others.is_empty() {
            return Ok(Self {
                default: None,
                others,
            });
        }
        Ok(match config.get("chat_template") {
            Some(Value::String(template)) => Self::only(template.clone()),
            Some(templates) => Self::of_named(named(templates)),
            None => Self::default(),
        })
    }

    fn only(template: String) -> Self {
        Self {
            default: Some(template),
            others: Vec::new(),
        }
    }

    /// Of two with the same name the last counts, as in a dict.
    fn of_named(templates: Vec<(String, String)>) -> Self {
        let default = templates.iter().rfind(|(name, _)| name == "default");
        match default {
            Some((_, template)) => Self::only(template.clone()),
            None => Self {
                default: None,
                others: templates.into_iter().map(|(name, _)| name).collect(),
            },
        }
    }
}

/// Named templates from a list of objects or from one object.
fn named(templates: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().map(str::to_string);
    match templates {
        Value::Array(list) => list
            .iter()
            .filter_map(|one| Some((text(one.get("name")?)?, text(one.get("template")?)?)))
            .collect(),
        Value::Object(map) => map
            .iter()
            .filter_map(|(name, template)| Some((name.clone(), text(template)?)))
            .collect(),
        _ => Vec::new(),
    }
}

/// The names of the templates in `additional_chat_templates`.
fn additional(folder: &Path) -> Vec<String> {
    let Ok(entries) = folder.join("additional_chat_templates").read_dir() else {
        return Vec::new();
    };
    let names = entries.flatten().take(MOST).filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        name.strip_suffix(".jinja").map(str::to_string)
    });
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

//! What an adapter says of its base.

use std::path::Path;

use super::RunError;
use super::base::Base;
use crate::lora::read_peft_config;
use crate::posterior::Sidecar;

/// The base that an adapter folder names, as `--model` takes it: a name of the hub, or what a folder was called on
/// the machine where the adapter was trained. None if it names none.
///
/// # Errors
/// If a file of the folder is missing or malformed.
pub fn named_base(adapter: &Path) -> Result<Option<String>, RunError> {
    if let Some(sidecar) = Sidecar::read(adapter)? {
        let revision = sidecar.base.revision.map_or_else(String::new, |revision| format!("@{revision}"));
        return Ok(Some(sidecar.base.name + &revision));
    }
    Ok(read_peft_config(adapter)?.1)
}

/// What to warn of where an adapter of another program names another base of the hub than the one it is given.
pub(super) fn other_base(named: Option<&str>, base: &Base) -> Option<String> {
    let found = base.record.name.as_str();
    let named = named.filter(|named| is_hub_name(named) && is_hub_name(found) && !named.eq_ignore_ascii_case(found))?;
    Some(format!("the adapter names `{named}` as its base, `{found}` has the same shape: scores can differ"))
}

/// `org/name`, and nothing that a file of a repository or of this machine could be.
fn is_hub_name(name: &str) -> bool {
    let mut parts = name.split('/');
    let is_part = |part: Option<&str>| part.is_some_and(|part| !part.is_empty() && !part.starts_with(['.', '~']) && !part.contains(':'));
    is_part(parts.next()) && is_part(parts.next()) && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_looks_like_a_name_of_the_hub_is_compared() {
        assert!(is_hub_name("org/name-1.5"));
        for other in ["name", "/org/name", "./name", "../name", "org/name/file.gguf", "org/name:Q4_0", "org/", ""] {
            assert!(!is_hub_name(other), "{other}");
        }
    }

    #[test]
    fn a_base_is_named_by_the_adapters_own_configuration() {
        let golden = crate::testing::golden().join("tiny/llama/adapter");
        let folder = tempfile::tempdir().unwrap();
        let text = std::fs::read_to_string(golden.join("adapter_config.json")).unwrap();
        let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
        for (named, expected) in [(serde_json::json!("org/name"), Some("org/name")), (serde_json::Value::Null, None)] {
            config["base_model_name_or_path"] = named;
            std::fs::write(folder.path().join("adapter_config.json"), config.to_string()).unwrap();
            assert_eq!(named_base(folder.path()).unwrap().as_deref(), expected);
        }
        assert!(named_base(&folder.path().join("none")).is_err());
    }
}

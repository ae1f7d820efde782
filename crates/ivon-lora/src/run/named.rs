//! An adapter by its name → its folder, and what it says of its base.

use std::path::{Path, PathBuf};

use super::base::Base;
use super::folder::ADAPTER_FILES;
use super::train::Watch;
use super::{RunError, RunEvent};
use crate::lora::{self, read_peft_config};
use crate::model::{self, HubEvent, HubSettings};
use crate::posterior::Sidecar;

/// The folder of the adapter that was named: its own, that of its run, or a name of the hub, from
/// which it is fetched. `listen` hears of the download, and where another folder than the one that
/// was named is taken.
///
/// # Errors
/// As [`model::fetch_adapter`] and [`lora::locate_adapter`].
pub fn locate_adapter(
    named: &Path,
    listen: &mut dyn FnMut(HubEvent<'_>),
) -> Result<PathBuf, RunError> {
    let fetched = model::fetch_adapter(named, &ADAPTER_FILES, &HubSettings::from_env(), listen)?;
    let place = lora::locate_adapter(&fetched)?;
    if let Some(note) = &place.note {
        listen(HubEvent::Note(note));
    }
    Ok(place.folder)
}

/// Hands on what a download notes; its progress is shown by who fetches first.
pub(super) fn listen(event: HubEvent<'_>, watch: Watch<'_>) {
    if let HubEvent::Note(note) = event {
        watch(RunEvent::Note(note.into()));
    }
}

/// The base that an adapter folder names, as `--model` takes it: a name of the hub, or what a
/// folder was called on the machine where the adapter was trained. None if it names none.
///
/// # Errors
/// If a file of the folder is missing or malformed.
pub fn named_base(adapter: &Path) -> Result<Option<String>, RunError> {
    if let Some(sidecar) = Sidecar::read(adapter)? {
        let revision = sidecar
            .base
            .revision
            .map_or_else(String::new, |revision| format!("@{revision}"));
        return Ok(Some(sidecar.base.name + &revision));
    }
    Ok(read_peft_config(adapter)?.1)
}

/// What to warn of where an adapter of another program names another base of the hub than the one
/// it is given.
pub(super) fn other_base(named: Option<&str>, base: &Base) -> Option<String> {
    let found = base.record.name.as_str();
    let named = named.filter(|named| {
        is_hub_name(named) && is_hub_name(found) && !named.eq_ignore_ascii_case(found)
    })?;
    Some(format!(
        "the adapter names `{named}` as its base, `{found}` has the same shape: scores can differ"
    ))
}

/// `org/name`, and nothing that a file of a repository or of this machine could be.
fn is_hub_name(name: &str) -> bool {
    let mut parts = name.split('/');
    let is_part = |part: Option<&str>| {
        part.is_some_and(|part| {
            !part.is_empty() && !part.starts_with(['.', '~']) && !part.contains(':')
        })
    };
    is_part(parts.next()) && is_part(parts.next()) && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_looks_like_a_name_of_the_hub_is_compared() {
        assert!(is_hub_name("org/name-1.5"));
        for other in [
            "name",
            "/org/name",
            "./name",
            "../name",
            "org/name/file.gguf",
            "org/name:Q4_0",
            "org/",
            "",
        ] {
            assert!(!is_hub_name(other), "{other}");
        }
    }

    #[test]
    fn a_base_is_named_by_the_adapters_own_configuration() {
        let golden = crate::testing::golden().join("tiny/llama/adapter");
        let folder = tempfile::tempdir().unwrap();
        let text = std::fs::read_to_string(golden.join("adapter_config.json")).unwrap();
        let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
        for (named, expected) in [
            (serde_json::json!("org/name"), Some("org/name")),
            (serde_json::Value::Null, None),
        ] {
            config["base_model_name_or_path"] = named;
            std::fs::write(
                folder.path().join("adapter_config.json"),
                config.to_string(),
            )
            .unwrap();
            assert_eq!(named_base(folder.path()).unwrap().as_deref(), expected);
        }
        assert!(named_base(&folder.path().join("none")).is_err());
    }
}

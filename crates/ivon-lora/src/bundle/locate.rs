//! The name of an adapter → its folder, and the base that it names.

use std::path::{Path, PathBuf};

use super::BundleError;
use super::folder::FILES_BESIDE_PEFT;
use super::sidecar::Sidecar;
use crate::lora::{self, adapter_base};
use crate::model::{self, HubSettings};
use crate::watch::{Event, Watch};

/// The folder of an adapter, named by that folder, by its run's, or by a hub name, from which it is
/// fetched. `listen` hears about the download, and if the folder is not the one that was named.
///
/// # Errors
/// As [`model::fetch_adapter`] and [`lora::locate_adapter`].
pub fn locate_adapter(named: &Path, listen: Watch<'_>) -> Result<PathBuf, BundleError> {
    let fetched =
        model::fetch_adapter(named, &FILES_BESIDE_PEFT, &HubSettings::from_env(), listen)?;
    let place = lora::locate_adapter(&fetched)?;
    if let Some(note) = &place.note {
        listen(Event::Note(note.clone()));
    }
    Ok(place.folder)
}

/// The base that an adapter folder names, as `--model` takes it: a hub name, or the name of a folder on
/// the machine where the adapter was trained. None if it names none.
///
/// # Errors
/// If a file of the folder is missing or malformed.
pub fn named_base(adapter: &Path) -> Result<Option<String>, BundleError> {
    if let Some(sidecar) = Sidecar::read(adapter)? {
        let revision = sidecar
            .base
            .revision
            .map_or_else(String::new, |revision| format!("@{revision}"));
        return Ok(Some(sidecar.base.name + &revision));
    }
    Ok(adapter_base(adapter)?)
}

#[cfg(test)]
mod tests {
    use super::*;

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

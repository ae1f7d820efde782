//! Downloads an adapter from the hub: configuration, weights, and the other files of its folder.

use std::path::PathBuf;

use super::cache::cached_adapter;
use super::name::HubName;
use super::settings::HubSettings;
use super::snapshot::{Snapshot, explain};
use crate::model::error::ModelError;
use crate::sentence::{sentence, setting};
use crate::watch::{Event, Watch};

/// The files of every PEFT adapter.
pub(super) const NEEDED: [&str; 2] = ["adapter_config.json", "adapter_model.safetensors"];

/// Downloads the missing files of an adapter and returns its folder.
pub(super) fn download(
    name: &HubName,
    settings: &HubSettings,
    also: &[&str],
    listen: Watch<'_>,
) -> Result<PathBuf, ModelError> {
    let snapshot = match Snapshot::find(name, settings) {
        Ok(snapshot) => snapshot,
        Err(error) => {
            let error = explain(name, settings, error);
            return cached_adapter(name, settings, "")
                .inspect(|_| _ = listen(Event::Note(error.to_string())))
                .map_err(|_| error);
        }
    };
    check_files(name, &snapshot)?;
    for file in NEEDED {
        snapshot.fetch(file, listen)?;
    }
    for file in also.iter().filter(|file| has(&snapshot, file)) {
        snapshot.fetch(file, listen)?;
    }
    Ok(snapshot.folder.snapshot(&snapshot.listing.commit))
}

fn has(snapshot: &Snapshot<'_>, file: &str) -> bool {
    snapshot.listing.file(file).is_some()
}

/// The repository must have the files of an adapter.
fn check_files(name: &HubName, snapshot: &Snapshot<'_>) -> Result<(), ModelError> {
    let Some(absent) = NEEDED.into_iter().find(|file| !has(snapshot, file)) else {
        return Ok(());
    };
    let found = match ["adapter_model.bin", "config.json"].map(|file| has(snapshot, file)) {
        [true, _] => ", but `adapter_model.bin`, a pickle",
        [_, true] => ", but a whole model",
        _ => "",
    };
    let hint = sentence!(
        "choose the repository of an adapter with safetensors weights; a \
                 model goes to `{}`",
        setting("model")
    );
    let reason = format!("the repository holds no adapter: it has no `{absent}`{found}");
    Err(name.error(reason, hint))
}

//! Downloads an adapter from the hub: configuration, weights, and the other files of its folder.

use std::path::PathBuf;

use super::adapter_name::AdapterName;
use super::cache::{ADAPTER_FILES, cached_adapter};
use super::settings::HubSettings;
use super::snapshot::{Snapshot, explain};
use crate::model::error::ModelError;
use crate::sentence::{Sentence, sentence, setting};
use crate::watch::{Event, Watch};

/// The number of folders that a hint names.
const MOST_NAMED: usize = 5;

/// Downloads the missing files of an adapter and returns its folder.
pub(super) fn download(
    name: &AdapterName,
    settings: &HubSettings,
    also: &[&str],
    listen: Watch<'_>,
) -> Result<PathBuf, ModelError> {
    let snapshot = match Snapshot::find(&name.hub, settings) {
        Ok(snapshot) => snapshot,
        Err(error) => {
            let error = explain(&name.hub, settings, error);
            return cached_adapter(name, settings, "")
                .inspect(|_| _ = listen(Event::Note(error.to_string())))
                .map_err(|_| error);
        }
    };
    check_files(name, &snapshot)?;
    for file in ADAPTER_FILES {
        snapshot.fetch(&name.path(file), listen)?;
    }
    for file in also.iter().map(|file| name.path(file)) {
        if has(&snapshot, &file) {
            snapshot.fetch(&file, listen)?;
        }
    }
    let repository = snapshot.folder.snapshot(&snapshot.listing.commit);
    Ok(name.within(repository))
}

fn has(snapshot: &Snapshot<'_>, file: &str) -> bool {
    snapshot.listing.file(file).is_some()
}

/// The repository must have the files of an adapter.
fn check_files(name: &AdapterName, snapshot: &Snapshot<'_>) -> Result<(), ModelError> {
    let mut files = ADAPTER_FILES.into_iter().map(|file| name.path(file));
    let Some(absent) = files.find(|file| !has(snapshot, file)) else {
        return Ok(());
    };
    let is_there = |file: &str| has(snapshot, &name.path(file));
    let found = match ["adapter_model.bin", "config.json"].map(is_there) {
        [true, _] => ", but `adapter_model.bin`, a pickle",
        [_, true] => ", but a whole model",
        _ => "",
    };
    let place = match &name.folder {
        Some(folder) => format!("folder `{folder}` of the repository"),
        None => "repository".into(),
    };
    let reason = format!("the {place} holds no adapter: it has no `{absent}`{found}");
    Err(name.hub.error(reason, hint(name, snapshot)))
}

/// The folders of the repository with an adapter, if there are any.
fn hint(name: &AdapterName, snapshot: &Snapshot<'_>) -> Sentence {
    let files = snapshot.listing.files.iter();
    let folders = files.filter_map(|file| file.name.strip_suffix("/adapter_config.json"));
    let folders: Vec<String> = folders
        .take(MOST_NAMED)
        .map(|folder| format!("`{}/{folder}`", name.hub.repository))
        .collect();
    match folders.is_empty() {
        false => format!("it has adapters in folders: {}", folders.join(", ")).into(),
        true => sentence!(
            "choose the repository of an adapter with safetensors weights; a \
                     model goes to `{}`",
            setting("model")
        ),
    }
}

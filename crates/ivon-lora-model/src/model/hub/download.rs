//! Downloads a model's files, all of one commit, from the hub into the cache: small files first, so
//! that an unusable model is refused before its weights are requested.

use std::path::PathBuf;

use super::choice::Choice;
use super::headers::gguf_headers;
use super::name::HubName;
use super::purpose::Purpose;
use super::settings::HubSettings;
use super::snapshot::{Snapshot, unreachable_hub};
use crate::model::error::ModelError;
use crate::model::gguf::GgufCheckpoint;
use crate::model::tokenizer;
use crate::watch::Watch;

/// Downloads the missing files of a model and returns its folder or GGUF file.
pub(super) fn download(
    name: &HubName,
    settings: &HubSettings,
    purpose: Purpose,
    listen: Watch<'_>,
) -> Result<PathBuf, ModelError> {
    let snapshot = match Snapshot::find(name, settings) {
        Ok(snapshot) => snapshot,
        Err(error) => return unreachable_hub(name, settings, purpose, error, listen),
    };
    match snapshot.choose()? {
        Choice::Folder => snapshot.fetch_folder(purpose, listen),
        Choice::Gguf(parts) => snapshot.fetch_gguf(&parts, purpose, listen),
    }
}

impl Snapshot<'_> {
    fn fetch_folder(&self, purpose: Purpose, listen: Watch<'_>) -> Result<PathBuf, ModelError> {
        self.fetch_beside(listen)?;
        let folder = self.folder.snapshot(&self.listing.commit);
        let weights = self.weights(listen)?;
        if purpose == Purpose::Run && weights.iter().any(|file| !folder.join(file).exists()) {
            tokenizer::folder::read(&folder, &self.name.display())?;
        }
        for file in weights {
            self.fetch(&file, listen)?;
        }
        Ok(folder)
    }

    /// All parts of a GGUF model, starting with its headers, which show whether the model is
    /// usable.
    fn fetch_gguf(
        &self,
        parts: &[String],
        purpose: Purpose,
        listen: Watch<'_>,
    ) -> Result<PathBuf, ModelError> {
        let folder = self.folder.snapshot(&self.listing.commit);
        if parts.iter().any(|part| !folder.join(part).exists()) {
            let (headers, path) = gguf_headers(self, parts)?;
            let checkpoint = GgufCheckpoint::open(&path)?;
            if purpose == Purpose::Run {
                tokenizer::gguf::read(checkpoint.file())?;
            }
            drop((checkpoint, headers));
        }
        for part in parts {
            self.fetch(part, listen)?;
        }
        Ok(folder.join(&parts[0]))
    }
}

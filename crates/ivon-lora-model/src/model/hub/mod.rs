//! A hub name → the files of the model, downloaded or from the cache shared by all Hugging Face
//! tools.
//!
//! A name is `org/name[@revision]`, `org/name:QUANT`, `org/name/FILE.gguf` or the URL of a page or
//! file on the hub ([`HubName`]); that of an adapter may have a folder, `org/name/FOLDER`. The environment variables are those of `huggingface_hub`
//! ([`HubSettings`]).

mod settings;
mod purpose;
mod name;
mod adapter_name;
mod listing;
mod choice;
mod cache;

#[cfg(feature = "hub")]
mod request;
#[cfg(feature = "hub")]
mod fetch;
#[cfg(feature = "hub")]
mod snapshot;
#[cfg(feature = "hub")]
pub(super) mod headers;
#[cfg(feature = "hub")]
mod download;
#[cfg(feature = "hub")]
mod adapter;
#[cfg(all(test, feature = "hub"))]
mod testing;
#[cfg(all(test, feature = "hub"))]
mod tests;

use std::path::{Path, PathBuf};

use adapter_name::AdapterName;
pub use listing::{HubFile, HubListing};
pub(super) use name::HubName;
pub use purpose::Purpose;
pub use settings::HubSettings;

use super::error::ModelError;
use crate::watch::Watch;

/// The local folder (or GGUF file) of a model; downloads what is missing unless offline.
///
/// # Errors
/// [`ModelError::Hub`] with a hint, or the reason why the configuration or the tokenizer is
/// refused.
pub(super) fn locate(
    name: &HubName,
    settings: &HubSettings,
    purpose: Purpose,
    listen: Watch<'_>,
) -> Result<PathBuf, ModelError> {
    if settings.offline {
        return cache::cached(name, settings, purpose, OFFLINE);
    }
    #[cfg(feature = "hub")]
    return download::download(name, settings, purpose, listen);
    #[cfg(not(feature = "hub"))]
    {
        let _ = listen;
        cache::cached(name, settings, purpose, "this build cannot download models")
    }
}

/// The local folder of an adapter: `path` itself if it exists, else the adapter of this name on the
/// hub, with those of the files in `also` that it has.
///
/// # Errors
/// [`ModelError::Hub`] with a hint.
pub fn fetch_adapter(
    path: &Path,
    also: &[&str],
    settings: &HubSettings,
    listen: Watch<'_>,
) -> Result<PathBuf, ModelError> {
    let text = path.to_str().filter(|_| path.symlink_metadata().is_err());
    let name = text.map(|text| AdapterName::read(text, settings));
    let Some(name) = name.transpose()?.flatten() else {
        return Ok(path.into());
    };
    if settings.offline {
        return cache::cached_adapter(&name, settings, OFFLINE);
    }
    #[cfg(feature = "hub")]
    return adapter::download(&name, settings, also, listen);
    #[cfg(not(feature = "hub"))]
    {
        let _ = (also, listen);
        cache::cached_adapter(&name, settings, "this build cannot download adapters")
    }
}

const OFFLINE: &str = "HF_HUB_OFFLINE forbids the download";

//! A commit of a repository on the hub, whose files are fetched into the cache one by one.

use std::io;
use std::path::PathBuf;

use super::cache::{CacheFolder, cached};
use super::choice::{Choice, choose, weights};
use super::fetch::{FetchError, Source, persist};
use super::listing::{HubFile, HubListing};
use super::name::HubName;
use super::purpose::Purpose;
use super::request::{RequestError, Server};
use super::settings::HubSettings;
use crate::files;
use crate::model::companions::is_companion;
use crate::model::config::DecoderConfig;
use crate::model::error::ModelError;
use crate::model::safetensors::{INDEX, indexed_files};
use crate::watch::{Event, Watch};

/// The maximum size of the list of files; a hundred thousand files need much less.
const LONGEST_LISTING: u64 = 64 << 20;
/// The maximum size of a config.json, which is usually a few kilobytes.
const LONGEST_CONFIG: u64 = 10 << 20;

/// A commit of a repository: its files, and the folder for them.
pub(super) struct Snapshot<'a> {
    pub name: &'a HubName,
    pub settings: &'a HubSettings,
    pub server: Server<'a>,
    pub folder: CacheFolder,
    pub listing: HubListing,
}

impl<'a> Snapshot<'a> {
    /// Requests the commit of the revision and its files, and records the commit in the cache.
    pub fn find(name: &'a HubName, settings: &'a HubSettings) -> Result<Self, FetchError> {
        let folder = CacheFolder::of(name, settings).map_err(FetchError::Model)?;
        let server = Server::new(settings);
        let revision = name.revision().replace('/', "%2F");
        let address = format!(
            "{}/api/models/{}/revision/{revision}?blobs=true",
            settings.endpoint, name.repository
        );
        // A cached model need not wait for a hub that does not respond.
        let is_cached = folder.snapshot_of(name.revision()).is_some();
        let ask = || -> Result<Vec<u8>, FetchError> {
            Ok(server
                .get(&address, &mut |_| None)?
                .bytes(LONGEST_LISTING)?)
        };
        let answer = if is_cached { ask() } else { persist(|_| ask()) }?;
        let listing =
            HubListing::parse(&answer).map_err(|reason| RequestError::Answer { reason })?;
        // A read-only cache is fine as long as no file is missing from it.
        let _ = folder.note_commit(name.revision(), &listing.commit);
        Ok(Self {
            name,
            settings,
            server,
            folder,
            listing,
        })
    }

    pub fn names(&self) -> Vec<String> {
        self.listing
            .files
            .iter()
            .map(|file| file.name.clone())
            .collect()
    }

    pub fn choose(&self) -> Result<Choice, ModelError> {
        choose(self.name, &self.names())
    }

    pub fn source(&self) -> Source<'_> {
        Source {
            settings: self.settings,
            server: &self.server,
            folder: &self.folder,
            repository: &self.name.repository,
            commit: &self.listing.commit,
        }
    }

    /// The path of a file in the cache, downloaded if it is missing.
    pub fn fetch(&self, file: &str, listen: Watch<'_>) -> Result<PathBuf, ModelError> {
        self.try_fetch(file, listen)
            .map_err(|error| explain(self.name, self.settings, error))
    }

    fn try_fetch(&self, file: &str, listen: Watch<'_>) -> Result<PathBuf, FetchError> {
        let plain = || HubFile {
            name: file.into(),
            size: None,
            sha256: None,
        };
        let file = self.listing.file(file).cloned().unwrap_or_else(plain);
        self.source()
            .fetch(&file, listen)
            .map_err(|error| match error {
                FetchError::Request(RequestError::Status { code: 404, .. }) => {
                    RequestError::Answer {
                        reason: format!(
                            "`{}` is in the list of files and not there (status 404)",
                            file.name
                        ),
                    }
                    .into()
                }
                other => other,
            })
    }

    /// [`Snapshot::fetch`] for an optional file.
    pub fn fetch_companion(&self, file: &str, listen: Watch<'_>) -> Result<(), ModelError> {
        match self.try_fetch(file, listen) {
            Ok(_) => Ok(()),
            // A read-only cache filled by another program.
            Err(FetchError::Cache(error)) if is_unwritable(&error) && file != "tokenizer.json" => {
                Ok(())
            }
            Err(error) => Err(explain(self.name, self.settings, error)),
        }
    }

    /// Downloads the configuration and the other small files; refuses unsupported families.
    pub fn fetch_beside(&self, listen: Watch<'_>) -> Result<(), ModelError> {
        let config = self.fetch("config.json", listen)?;
        DecoderConfig::from_json(&files::read_text(&config, LONGEST_CONFIG)?, "config.json")?;
        for file in self
            .listing
            .files
            .iter()
            .filter(|file| is_companion(&file.name))
        {
            self.fetch_companion(&file.name, listen)?;
        }
        Ok(())
    }

    /// The files of the weights; downloads the index if they depend on it.
    pub fn weights(&self, listen: Watch<'_>) -> Result<Vec<String>, ModelError> {
        weights(self.name, &self.names(), || {
            indexed_files(&self.fetch(INDEX, listen)?)
        })
    }
}

/// Falls back to the cache for a hub that does not respond or refuses this user; the error matters
/// only if the cache lacks the model.
pub(super) fn unreachable_hub(
    name: &HubName,
    settings: &HubSettings,
    purpose: Purpose,
    error: FetchError,
    listen: Watch<'_>,
) -> Result<PathBuf, ModelError> {
    let is_known = !matches!(
        error,
        FetchError::Request(RequestError::Status { code: 404, .. }) | FetchError::Model(_)
    );
    let error = explain(name, settings, error);
    match cached(name, settings, purpose, "")
        .ok()
        .filter(|_| is_known)
    {
        None => Err(error),
        Some(path) => {
            let revision = name.revision();
            listen(Event::Note(format!(
                "{error}; revision `{revision}` is taken from the cache (HF_HUB_OFFLINE=1 does not ask)"
            )));
            Ok(path)
        }
    }
}

fn is_unwritable(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
    )
}

/// The message and the hint for a failed request.
pub(super) fn explain(name: &HubName, settings: &HubSettings, error: FetchError) -> ModelError {
    let server = settings.server();
    let spelling = "check the spelling (there is no folder or file of that name here either)";
    match error {
        FetchError::Model(error) => error,
        FetchError::Contents(reason) => name.error(reason, "try again; if it stays so, the server or a proxy before it changes the file"),
        FetchError::Cache(error) => name.error(
            format!("the cache cannot be written, {error}"),
            "set HF_HOME to a folder that can be written and has room",
        ),
        FetchError::Request(RequestError::Answer { reason }) => name.error(
            format!("the download from {server} failed, {reason}"),
            "is HF_ENDPOINT a hub, and does no proxy or sign-in page answer in its place?",
        ),
        FetchError::Request(RequestError::Network { reason, .. }) => name.error(
            format!("the download from {server} failed, {reason}"),
            "there is no folder or file of that name here, so it was looked for on the hub: check the path (one that \
             a run keeps counts from where the run was made), or the network and HF_ENDPOINT; HF_HUB_OFFLINE=1 uses what was downloaded before",
        ),
        FetchError::Request(RequestError::Status { code, host, is_own }) => match code {
            401 | 403 if !is_own => name.error(
                format!("{server} sent on to {host}, which does not let everyone read it (status {code})"),
                format!("the token is for {server} and was not sent to {host}; set HF_ENDPOINT to the hub that the token is for"),
            ),
            401 if settings.token.is_none() => name.error(
                format!("{server} does not let everyone read it, or does not know it (status 401)"),
                format!("{spelling}; a private or gated model needs HF_TOKEN"),
            ),
            401 | 403 => name.error(
                format!("{server} refused the token (status {code})"),
                "is HF_TOKEN still valid, and have the model's terms been accepted on its page?",
            ),
            404 => name.error(format!("{server} knows no such model or revision `{}`", name.revision()), spelling),
            429 => name.error(format!("{host} has been asked too often (status 429)"), "try again in some minutes, with HF_TOKEN set"),
            code => name.error(format!("{host} answered with status {code}"), "try again later"),
        },
    }
}

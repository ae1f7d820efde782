//! Downloads only the headers of weights on the hub, by range requests, into files of the right
//! length but with no other contents, which the readers of this room open like any other file.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::choice::Choice;
use super::fetch::{FetchError, persist};
use super::name::HubName;
use super::purpose::Purpose;
use super::request::{Range, RequestError};
use super::settings::HubSettings;
use super::snapshot::{Snapshot, explain, unreachable_hub};
use crate::files::FileError;
use crate::model::companions::is_companion;
use crate::model::error::ModelError;
use crate::model::gguf::GgufFile;
use crate::model::gguf::config::DIVISORS;
use crate::watch::Watch;

/// The size of the first request: enough for the header of most safetensors files.
const FIRST: u64 = 1 << 18;
/// The maximum size of a GGUF header to download; with the largest published vocabulary it has
/// about 20 MB.
const LONGEST_GGUF: u64 = 256 << 20;
/// The limit is that for a local file.
const LONGEST_SAFETENSORS: u64 = 100_000_008;

/// A folder that is deleted when this is dropped.
#[derive(Debug)]
pub(in crate::model) struct TemporaryFolder(PathBuf);

impl TemporaryFolder {
    fn new() -> Result<Self, ModelError> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("ivon-lora-headers-{}-{number}", std::process::id()));
        // `create_dir`, not `create_dir_all`: it fails for a folder that somebody else has created.
        fs::create_dir(&path).map_err(|source| FileError::Io {
            action: "create",
            path: path.clone(),
            source,
        })?;
        Ok(Self(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The folder or file of a model in the cache if its weights are there, else one with their headers
/// only.
///
/// # Errors
/// [`ModelError::Hub`], or the reason why the configuration is refused.
pub(in crate::model) fn locate(
    name: &HubName,
    settings: &HubSettings,
    listen: Watch<'_>,
) -> Result<(PathBuf, Option<TemporaryFolder>), ModelError> {
    let snapshot = match Snapshot::find(name, settings) {
        Ok(snapshot) => snapshot,
        Err(error) => {
            let path = unreachable_hub(name, settings, Purpose::Merge, error, listen)?;
            return Ok((path, None));
        }
    };
    let cached = snapshot.folder.snapshot(&snapshot.listing.commit);
    let has = |files: &[String]| files.iter().all(|file| cached.join(file).exists());
    match snapshot.choose()? {
        Choice::Gguf(parts) if has(&parts) => Ok((cached.join(&parts[0]), None)),
        Choice::Gguf(parts) => {
            gguf_headers(&snapshot, &parts).map(|(folder, path)| (path, Some(folder)))
        }
        Choice::Folder => {
            snapshot.fetch_beside(listen)?;
            let weights = snapshot.weights(listen)?;
            if has(&weights) {
                return Ok((cached, None));
            }
            folder_headers(&snapshot, &weights).map(|folder| (folder.path().into(), Some(folder)))
        }
    }
}

/// A folder with the configuration, the tokenizer and the headers of the weights.
fn folder_headers(
    snapshot: &Snapshot<'_>,
    weights: &[String],
) -> Result<TemporaryFolder, ModelError> {
    let cached = snapshot.folder.snapshot(&snapshot.listing.commit);
    let folder = TemporaryFolder::new()?;
    let mut names = snapshot.names();
    names.retain(|name| name == "config.json" || is_companion(name));
    for name in names.iter().filter(|name| cached.join(name).exists()) {
        let to = folder.path().join(name);
        fs::copy(cached.join(name), &to).map_err(FileError::io("write", &to))?;
    }
    for file in weights {
        let beginning = Beginning {
            snapshot,
            file,
            path: folder.path().join(file),
        };
        beginning
            .safetensors()
            .map_err(|error| explain(snapshot.name, snapshot.settings, error))?;
    }
    Ok(folder)
}

/// A folder with the headers of the parts of a GGUF model, and the path of the first part.
pub(super) fn gguf_headers(
    snapshot: &Snapshot<'_>,
    parts: &[String],
) -> Result<(TemporaryFolder, PathBuf), ModelError> {
    let folder = TemporaryFolder::new()?;
    let place = |part: &String| folder.path().join(part.rsplit('/').next().unwrap_or(part));
    for part in parts {
        let beginning = Beginning {
            snapshot,
            file: part,
            path: place(part),
        };
        beginning
            .gguf()
            .map_err(|error| explain(snapshot.name, snapshot.settings, error))?;
    }
    let first = place(&parts[0]);
    Ok((folder, first))
}

/// A file on the hub whose start is downloaded, and its destination.
struct Beginning<'a> {
    snapshot: &'a Snapshot<'a>,
    file: &'a str,
    path: PathBuf,
}

impl Beginning<'_> {
    /// Downloads the header of a safetensors file, which starts with its length.
    fn safetensors(&self) -> Result<(), FetchError> {
        let (bytes, _) = self.read(FIRST)?;
        let length = bytes
            .first_chunk::<8>()
            .map_or(0, |length| u64::from_le_bytes(*length).saturating_add(8));
        if length > bytes.len() as u64 && length <= LONGEST_SAFETENSORS {
            self.read(length)?;
        }
        Ok(())
    }

    /// Downloads the header of a GGUF file, whose length is not stated: more is read until the
    /// header ends before the end of the data.
    fn gguf(&self) -> Result<(), FetchError> {
        let mut wanted = 4 * FIRST;
        loop {
            let (bytes, total) = self.read(wanted)?;
            let here = bytes.len() as u64;
            // Beyond the downloaded part the file is all zeros, and a header that runs into them
            // also ends beyond it.
            let file = GgufFile::open(&self.path).ok();
            let end = file.and_then(|file| end_of_header(&file));
            let is_whole = end.is_some_and(|end| end <= here);
            if is_whole || here < wanted || wanted >= total.min(LONGEST_GGUF) {
                return Ok(());
            }
            wanted = (4 * wanted).min(total).min(LONGEST_GGUF);
        }
    }

    /// Downloads this many bytes, or fewer if the file is shorter, and writes them; also returns
    /// the length of the file.
    fn read(&self, count: u64) -> Result<(Vec<u8>, u64), FetchError> {
        let cached = self.snapshot.source().path(self.file);
        let (bytes, total) = match File::open(&cached) {
            Ok(file) => {
                let total = file.metadata()?.len();
                (limited(file, count)?, total)
            }
            Err(_) => persist(|_| self.ask(count))?,
        };
        let mut file = File::create(&self.path)?;
        file.write_all(&bytes)?;
        // A sparse file: the rest takes no space, and reads as zeros.
        file.set_len(total)?;
        Ok((bytes, total))
    }

    fn ask(&self, count: u64) -> Result<(Vec<u8>, u64), FetchError> {
        let source = self.snapshot.source();
        let range = Range {
            first: 0,
            last: Some(count - 1),
        };
        let mut answer = source
            .server
            .get(&source.address(self.file), &mut |_| Some(range))?;
        let total = answer.facts.size;
        let read = limited(answer.reader(), count);
        let bytes = read.map_err(|error| RequestError::interrupted(error.to_string()))?;
        let expected = total.map_or(bytes.len() as u64, |total| total.min(count));
        if bytes.len() as u64 != expected {
            let reason = format!(
                "`{}` came with {} bytes, expected {expected}",
                self.file,
                bytes.len()
            );
            return Err(RequestError::interrupted(reason).into());
        }
        let total = total.unwrap_or(bytes.len() as u64);
        Ok((bytes, total))
    }
}

/// The end of what describes the decoder in a GGUF file: the position of the data after the header,
/// or the end of the divisors of rotary frequencies, which are among the first tensors. None if it
/// has no tensors.
fn end_of_header(file: &GgufFile) -> Option<u64> {
    let starts = file.tensors().values().map(|tensor| tensor.bytes.start);
    let divisors = DIVISORS.iter().filter_map(|name| file.tensors().get(*name));
    let ends = divisors.map(|tensor| tensor.bytes.end as u64);
    let near = ends.filter(|end| *end <= LONGEST_GGUF).max();
    starts
        .min()
        .map(|start| near.unwrap_or(0).max(start as u64))
}

fn limited(reader: impl Read, count: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(count).read_to_end(&mut bytes)?;
    Ok(bytes)
}

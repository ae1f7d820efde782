//! Downloads one file from the hub into a blob of the cache, and links it into the snapshot.
//!
//! A blob grows under a temporary name; an interrupted transfer is resumed, in this call or a later
//! one. Its length and, if the hub states it, its SHA-256 are checked before it gets its final
//! name.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::cache::CacheFolder;
use super::listing::HubFile;
use super::request::{Answer, Facts, Range, RequestError, Server};
use super::settings::HubSettings;
use crate::model::error::ModelError;
use crate::watch::{Event, Watch};

/// How often an interrupted transfer is resumed.
const RETRIES: u32 = 4;
/// The pause before the first retry; it doubles with each.
const PAUSE: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 500 });
/// The interval at which a blob downloaded by another process is checked.
const LOOK: Duration = Duration::from_millis(if cfg!(test) { 5 } else { 200 });

/// Where a file comes from and where it is stored.
pub(super) struct Source<'a> {
    pub settings: &'a HubSettings,
    pub server: &'a Server<'a>,
    pub folder: &'a CacheFolder,
    /// `org/name`.
    pub repository: &'a str,
    pub commit: &'a str,
}

/// Why a file could not be fetched.
#[derive(Debug)]
pub(super) enum FetchError {
    Request(RequestError),
    /// The contents are wrong.
    Contents(String),
    /// The cache cannot be written.
    Cache(io::Error),
    Model(ModelError),
}

impl From<RequestError> for FetchError {
    fn from(error: RequestError) -> Self {
        Self::Request(error)
    }
}

impl From<io::Error> for FetchError {
    fn from(error: io::Error) -> Self {
        Self::Cache(error)
    }
}

impl FetchError {
    /// Whether a retry may help.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Request(RequestError::Network { is_passing, .. }) => *is_passing,
            Self::Request(RequestError::Status { code, .. }) => {
                matches!(code, 408 | 429 | 500 | 502 | 503 | 504)
            }
            _ => false,
        }
    }
}

/// Repeats a step while its error may be temporary; `has_moved` resets the count of errors.
pub(super) fn persist<T>(
    mut step: impl FnMut(&mut bool) -> Result<T, FetchError>,
) -> Result<T, FetchError> {
    let mut failures = 0;
    loop {
        let mut has_moved = false;
        match step(&mut has_moved) {
            Err(error) if error.is_passing() => {
                failures = if has_moved { 1 } else { failures + 1 };
                if failures > RETRIES {
                    return Err(error);
                }
                std::thread::sleep(PAUSE * 2u32.pow(failures - 1));
            }
            result => return result,
        }
    }
}

/// What earlier attempts found out about a blob.
#[derive(Debug, Default)]
struct Attempts {
    etag: Option<String>,
    /// The contents were wrong once.
    was_wrong: bool,
}

impl Source<'_> {
    /// The path of a file in the cache, downloaded if it is missing.
    ///
    /// # Errors
    /// [`FetchError`].
    pub fn fetch(&self, file: &HubFile, listen: Watch<'_>) -> Result<PathBuf, FetchError> {
        let path = self.path(&file.name);
        if path.exists() {
            return Ok(path);
        }
        let mut attempts = Attempts::default();
        loop {
            let found = persist(|has_moved| self.attempt(file, &mut attempts, has_moved, listen))?;
            if let Some(path) = found {
                return Ok(path);
            }
        }
    }

    /// The path of a file in the snapshot.
    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.snapshot(self.commit).join(file)
    }

    /// The URL of a file on the hub.
    pub fn address(&self, file: &str) -> String {
        format!(
            "{}/{}/resolve/{}/{file}",
            self.settings.endpoint, self.repository, self.commit
        )
    }

    /// Makes one request and saves what it returns; `None` if another request is needed, now that
    /// more is known.
    fn attempt(
        &self,
        file: &HubFile,
        attempts: &mut Attempts,
        has_moved: &mut bool,
        listen: Watch<'_>,
    ) -> Result<Option<PathBuf>, FetchError> {
        let Some(answer) = self.ask(file, attempts)? else {
            return Ok(None);
        };
        let etag = answer
            .facts
            .etag
            .clone()
            .unwrap_or_else(|| unnamed(self.commit, &file.name));
        let snapshot = self.folder.snapshot(self.commit);
        if self.folder.blob(&etag).exists() {
            return Ok(Some(self.folder.link(&etag, &snapshot, &file.name, false)?));
        }
        self.folder.make_blobs()?;
        let Some(lock) = self.folder.lock(&etag)? else {
            drop(answer);
            std::thread::sleep(LOOK);
            return Ok(None);
        };
        let was_known = attempts.etag.replace(etag.clone()).is_some();
        // A part of it was present, which was not known before the request; or another process has
        // worked on it since.
        let grown = self.grown(&etag);
        if answer.first == 0 && grown > 0 && !was_known || answer.first > 0 && answer.first != grown
        {
            return Ok(None);
        }
        let out = self.open_partial(&etag, answer.first)?;
        let size = grow(file, out, answer, has_moved, listen)?;
        if let Err(error) = self.check(file, &self.folder.partial(&etag), size) {
            fs::remove_file(self.folder.partial(&etag))?;
            return if std::mem::replace(&mut attempts.was_wrong, true) {
                Err(error)
            } else {
                Ok(None)
            };
        }
        fs::rename(self.folder.partial(&etag), self.folder.blob(&etag))?;
        let path = self.folder.link(&etag, &snapshot, &file.name, true)?;
        drop(lock);
        Ok(Some(path))
    }

    /// Requests a file, or the rest of it if a part is present; `None` if that part does not belong
    /// to it.
    fn ask(&self, file: &HubFile, attempts: &mut Attempts) -> Result<Option<Answer>, FetchError> {
        let mut part = None;
        let known = attempts.etag.clone();
        let answer = self
            .server
            .get(&self.address(&file.name), &mut |facts: &Facts| {
                let etag = facts.etag.as_ref().or(known.as_ref())?;
                let grown = self.grown(etag);
                // A range past the end would be an error, so a complete file is requested again and
                // the answer discarded.
                if grown == 0 || facts.size.or(file.size).is_some_and(|size| grown >= size) {
                    return None;
                }
                part = Some(etag.clone());
                Some(Range {
                    first: grown,
                    last: None,
                })
            });
        let answer = match (answer, part) {
            (Err(error @ RequestError::Status { code: 416, .. }), Some(etag)) => {
                fs::remove_file(self.folder.partial(&etag))?;
                return if std::mem::replace(&mut attempts.was_wrong, true) {
                    Err(error.into())
                } else {
                    Ok(None)
                };
            }
            (answer, _) => answer?,
        };
        match (file.size, answer.facts.size) {
            (Some(said), Some(found)) if said != found => Err(FetchError::Contents(format!(
                "`{}` is offered with {found} bytes, expected {said}",
                file.name
            ))),
            _ => Ok(Some(answer)),
        }
    }

    /// The number of bytes left by an earlier transfer of this blob.
    fn grown(&self, etag: &str) -> u64 {
        self.folder
            .partial(etag)
            .metadata()
            .map_or(0, |data| data.len())
    }

    /// Opens the partial file of a blob for writing from byte `first` on.
    fn open_partial(&self, etag: &str, first: u64) -> io::Result<File> {
        let mut options = File::options();
        options.create(true).write(true);
        let options = match first {
            0 => options.truncate(true),
            _ => options.append(true),
        };
        options.open(self.folder.partial(etag))
    }

    /// Checks the contents against what the hub states about them.
    fn check(&self, file: &HubFile, path: &Path, size: Option<u64>) -> Result<(), FetchError> {
        let found = path.metadata()?.len();
        if let Some(size) = size.filter(|size| *size != found) {
            return Err(FetchError::Contents(format!(
                "`{}` came with {found} bytes, expected {size}",
                file.name
            )));
        }
        let Some(expected) = &file.sha256 else {
            return Ok(());
        };
        let found = sha256(path)?;
        if &found == expected {
            return Ok(());
        }
        Err(FetchError::Contents(format!(
            "`{}` came with the SHA-256 {found}, expected {expected}",
            file.name
        )))
    }
}

/// Appends the body of a response to the file; returns the expected length of the file, if it is
/// known.
fn grow(
    file: &HubFile,
    mut out: File,
    mut answer: Answer,
    has_moved: &mut bool,
    listen: Watch<'_>,
) -> Result<Option<u64>, FetchError> {
    let size = answer.facts.size.or(file.size);
    let mut received = answer.first;
    report_progress(file, received, size, listen)?;
    let mut buffer = vec![0; 1 << 17];
    let mut reader = answer.reader();
    while let Some(count) = read_some(&mut reader, &mut buffer)? {
        out.write_all(&buffer[..count])?;
        *has_moved = true;
        received += count as u64;
        if size.is_some_and(|size| received > size) {
            break;
        }
        report_progress(file, received, size, listen)?;
    }
    out.sync_all()?;
    match size {
        Some(size) if received < size => {
            let name = &file.name;
            let reason = format!("`{name}` came with {received} bytes, expected {size}");
            Err(RequestError::interrupted(reason).into())
        }
        _ => Ok(size),
    }
}

/// Reports the progress; an error if the download is to stop.
fn report_progress(
    file: &HubFile,
    received: u64,
    size: Option<u64>,
    listen: Watch<'_>,
) -> Result<(), FetchError> {
    let event = Event::Received {
        file: &file.name,
        received,
        total: size.unwrap_or(0),
    };
    match listen(event) {
        true => Ok(()),
        false => Err(FetchError::Model(ModelError::Stopped {
            file: file.name.clone(),
        })),
    }
}

/// The next bytes of a response, however many are available; none at its end.
fn read_some(reader: &mut impl Read, buffer: &mut [u8]) -> Result<Option<usize>, RequestError> {
    loop {
        return match reader.read(buffer) {
            Ok(0) => Ok(None),
            Ok(count) => Ok(Some(count)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => Err(RequestError::Network {
                reason: error.to_string(),
                is_passing: true,
            }),
        };
    }
}

/// The name of a blob for which the server sends no ETag.
fn unnamed(commit: &str, file: &str) -> String {
    hexadecimal(&Sha256::digest(format!("{commit}/{file}")))
}

fn sha256(path: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 1 << 17];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hexadecimal(&hash.finalize())),
            count => hash.update(&buffer[..count]),
        }
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

//! The file of a run's records, one line of JSON for each.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};

use super::TrainError;
use crate::files::FileError;

/// The name of the file in a run's folder.
pub const METRICS_FILE: &str = "metrics.jsonl";

/// `metrics.jsonl`, open for appending.
pub struct MetricsFile {
    file: File,
    path: PathBuf,
}

impl MetricsFile {
    pub fn open(path: &Path) -> Result<Self, TrainError> {
        let opened = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .open(path);
        let file = opened.map_err(|source| FileError::Io {
            action: "write",
            path: path.into(),
            source,
        })?;
        Ok(Self {
            file,
            path: path.into(),
        })
    }

    fn checked<T>(&self, result: io::Result<T>) -> Result<T, TrainError> {
        result.map_err(|source| {
            FileError::Io {
                action: "write",
                path: self.path.clone(),
                source,
            }
            .into()
        })
    }

    pub fn append(&mut self, record: &impl serde::Serialize) -> Result<(), TrainError> {
        let malformed = |error: serde_json::Error| TrainError::Record {
            path: self.path.clone(),
            reason: error.to_string(),
        };
        let mut line = serde_json::to_vec(record).map_err(malformed)?;
        line.push(b'\n');
        let written = self.file.write_all(&line);
        self.checked(written)
    }

    pub fn bytes(&mut self) -> Result<u64, TrainError> {
        let end = self.file.seek(io::SeekFrom::End(0));
        self.checked(end)
    }

    pub fn sync(&self) -> Result<(), TrainError> {
        self.checked(self.file.sync_data())
    }

    /// Truncates the file to `bytes`: what follows are records of steps that a resumed run repeats.
    pub fn cut(&mut self, bytes: u64) -> Result<(), TrainError> {
        let len = self.bytes()?;
        self.checked(self.file.set_len(bytes.min(len)))
    }
}

//! The folder of a run: its lock, its files, and whose run it is.

use std::fs::File;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Provenance, RunConfig, RunError};
use crate::files::{self, FileError};
use crate::method::Method;
use crate::train::{CHECKPOINTS_FOLDER, Checkpoints, METRICS_FILE, TrainError};

/// The file with the resolved settings of a run.
pub const RUN_FILE: &str = "run.toml";
/// The file with the ids of the rows of each role.
pub const SPLITS_FILE: &str = "splits.json";
/// The file with the cost of a run.
pub const COST_FILE: &str = "cost.json";
/// The folder of the adapter.
pub const ADAPTER_FOLDER: &str = crate::lora::FOLDER_IN_RUN;
const LOCK_FILE: &str = ".lock";
const LARGEST_RUN: u64 = 16 << 20;

/// How a run begins in its folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At its first step, in a folder without a run.
    New,
    /// At the newest checkpoint of the same run, or else at its first step.
    Resumed,
    /// The same, except that a run without a checkpoint is replaced, and that there may be no run
    /// yet.
    WhereItWas,
}

/// A run's folder, locked while it is held.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// Whether the run goes on from a checkpoint.
    pub resumes: bool,
    /// What the run that goes on was started with; none for a new run.
    pub started: Option<Provenance>,
    /// The method of that run, with every setting chosen.
    pub optimizer: Option<Method>,
    _lock: File,
}

impl RunFolder {
    /// Takes a folder for a run.
    ///
    /// # Errors
    /// If another process writes it, if it holds a run and the run is to be new, if there is none to
    /// resume, or if it holds another run.
    pub fn take(path: &Path, config: &RunConfig, start: Start) -> Result<Self, RunError> {
        files::create_folder(path)?;
        let lock = lock(path)?;
        // From here on, no other process changes the folder.
        files::remove_leftovers(path);
        let checkpoints = Checkpoints::new(path.join(CHECKPOINTS_FOLDER), 1);
        let has_checkpoint = checkpoints.newest().is_some();
        let settings = path.join(RUN_FILE);
        if start == Start::Resumed && !has_checkpoint && !settings.exists() {
            return Err(TrainError::NothingToResume { path: path.into() }.into());
        }
        let started = match (settings.exists(), start) {
            (false, _) => None,
            (true, Start::New) => {
                return Err(RunError::FolderHoldsRun {
                    folder: path.into(),
                });
            }
            (true, Start::WhereItWas) if !has_checkpoint => {
                remove_run(path)?;
                None
            }
            (true, Start::Resumed | Start::WhereItWas) => Some(same_run(path, config)?),
        };
        let (optimizer, started) = match started {
            Some(run) => (Some(run.optimizer), run.provenance),
            None => (None, None),
        };
        Ok(Self {
            optimizer,
            path: path.into(),
            // A run that was killed before its first checkpoint goes on at its first step.
            resumes: start != Start::New && has_checkpoint,
            started,
            _lock: lock,
        })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the settings.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_settings(&self, config: &RunConfig) -> Result<(), RunError> {
        let path = self.path.join(RUN_FILE);
        let text = toml::to_string_pretty(config).map_err(|error| RunError::Malformed {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        Ok(files::write_bytes(&path, text.as_bytes())?)
    }

    /// Writes a value as JSON.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_json(&self, name: &str, value: &impl Serialize) -> Result<PathBuf, RunError> {
        let path = self.path.join(name);
        files::write_json(&path, value)?;
        Ok(path)
    }
}

/// Locks a folder for this process.
fn lock(folder: &Path) -> Result<File, RunError> {
    let path = folder.join(LOCK_FILE);
    let refused = |source| FileError::Io {
        action: "write",
        path: path.clone(),
        source,
    };
    let lock = File::create(&path).map_err(refused)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(std::fs::TryLockError::WouldBlock) => Err(RunError::FolderInUse {
            folder: folder.into(),
        }),
        Err(std::fs::TryLockError::Error(source)) => Err(refused(source).into()),
    }
}

/// Removes the files of a run that has no checkpoint.
fn remove_run(folder: &Path) -> Result<(), FileError> {
    std::fs::remove_file(folder.join(RUN_FILE)).map_err(|source| FileError::Io {
        action: "replace",
        path: folder.into(),
        source,
    })?;
    let _ = std::fs::remove_file(folder.join(METRICS_FILE));
    Ok(())
}

/// Checks that the run of a folder is this one, and returns what it was started with.
fn same_run(folder: &Path, config: &RunConfig) -> Result<RunConfig, RunError> {
    let started = read_run(&folder.join(RUN_FILE))?;
    let differences = config.trajectory_differences(&started);
    match differences.is_empty() {
        true => Ok(started),
        false => Err(RunError::OtherSettings {
            folder: folder.into(),
            differences,
        }),
    }
}

/// Reads the settings of a run.
///
/// # Errors
/// If the file cannot be read or does not hold settings.
pub fn read_run(path: &Path) -> Result<RunConfig, RunError> {
    let text = files::read_text(path, LARGEST_RUN)?;
    toml::from_str(&text).map_err(|error| RunError::Malformed {
        path: path.into(),
        reason: error.message().to_string(),
    })
}

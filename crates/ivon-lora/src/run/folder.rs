//! The folder of a run: its lock, its settings, and the adapter folder that leaves it.

use std::fs::File;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Provenance, RunConfig, RunError};
use crate::files::{self, FileError};
use crate::train::{CHECKPOINTS_FOLDER, Checkpoints, METRICS_FILE, TrainError};

/// The resolved settings of a run.
pub const RUN_FILE: &str = "run.toml";
/// The ids of the rows of each role.
pub const SPLITS_FILE: &str = "splits.json";
/// Times, and numbers stored.
pub const COST_FILE: &str = "cost.json";
/// The adapter with its posterior.
pub const ADAPTER_FOLDER: &str = crate::lora::FOLDER_IN_RUN;
const LOCK_FILE: &str = ".lock";
const LARGEST_RUN: u64 = 16 << 20;

/// How a run begins in its folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// From its first step, in a folder that holds no run.
    New,
    /// Where the same run was stopped: at its newest checkpoint, else at its first step.
    Resumed,
    /// The same, but what another run left there before its first checkpoint is replaced, and so
    /// may there be no run yet.
    WhereItWas,
}

/// A run's folder, locked while it is held.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// Whether the run goes on from a checkpoint.
    pub resumes: bool,
    /// What the run that goes on was made with; none of one that begins.
    pub started: Option<Provenance>,
    _lock: File,
}

impl RunFolder {
    /// Takes a folder for a run.
    ///
    /// # Errors
    /// If another process writes it, it holds a run and is to be new, none and is to be resumed, or
    /// another run.
    pub fn take(path: &Path, config: &RunConfig, start: Start) -> Result<Self, RunError> {
        files::create_folder(path)?;
        let lock_path = path.join(LOCK_FILE);
        let refused = |source| FileError::Io {
            action: "write",
            path: lock_path.clone(),
            source,
        };
        let lock = File::create(&lock_path).map_err(refused)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => {
                return Err(RunError::FolderInUse {
                    folder: path.into(),
                });
            }
            Err(std::fs::TryLockError::Error(source)) => return Err(refused(source).into()),
        }
        // From here on nobody else changes what is in it.
        files::remove_leftovers(path);
        let has_checkpoint = Checkpoints::new(path.join(CHECKPOINTS_FOLDER), 1)
            .newest()
            .is_some();
        // A run that was killed before its first checkpoint is taken up at its first step.
        let resumes = start != Start::New && has_checkpoint;
        let mut folder = Self {
            path: path.into(),
            resumes,
            started: None,
            _lock: lock,
        };
        let settings = path.join(RUN_FILE);
        if start == Start::Resumed && !has_checkpoint && !settings.exists() {
            return Err(TrainError::NothingToResume { path: path.into() }.into());
        }
        match (settings.exists(), start) {
            (true, Start::New) => {
                return Err(RunError::FolderHoldsRun {
                    folder: path.into(),
                });
            }
            (true, Start::WhereItWas) if !has_checkpoint => {
                std::fs::remove_file(&settings).map_err(|source| FileError::Io {
                    action: "replace",
                    path: path.into(),
                    source,
                })?;
                let _ = std::fs::remove_file(path.join(METRICS_FILE));
            }
            (true, Start::Resumed | Start::WhereItWas) => {
                let started = read_run(&settings)?;
                let differences = config.trajectory_differences(&started);
                if !differences.is_empty() {
                    return Err(RunError::OtherSettings {
                        folder: path.into(),
                        differences,
                    });
                }
                folder.started = started.provenance;
            }
            (false, _) => {}
        }
        Ok(folder)
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

/// Reads the settings of a run.
///
/// # Errors
/// If the file cannot be read or is not a run's.
pub fn read_run(path: &Path) -> Result<RunConfig, RunError> {
    let text = files::read_text(path, LARGEST_RUN)?;
    toml::from_str(&text).map_err(|error| RunError::Malformed {
        path: path.into(),
        reason: error.message().to_string(),
    })
}

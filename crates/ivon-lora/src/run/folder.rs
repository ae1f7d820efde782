//! The folder of a run: its lock, its files, and whose run it is.

use std::fs::File;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Provenance, RunConfig, RunError};
use crate::files::{self, FileError};
use crate::method::Method;
use crate::ranks::Team;
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
    /// Whether this process writes it, and not the first of several ranks.
    writes: bool,
    _lock: Option<File>,
}

/// What the first of several ranks tells the others of the folder that it has taken.
#[derive(Clone, Serialize, Deserialize)]
struct TakenFolder {
    resumes: bool,
    started: Option<Provenance>,
    optimizer: Option<Method>,
}

impl RunFolder {
    /// Takes a folder for a run.
    ///
    /// # Errors
    /// If another process writes it, if it holds a run and the run is to be new, if there is none to
    /// resume, or if it holds another run.
    pub fn take(path: &Path, config: &RunConfig, start: Start) -> Result<Self, RunError> {
        files::create_folder(path)?;
        let lock = lock(path, start)?;
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
            writes: true,
            _lock: lock,
        })
    }

    /// Takes a folder for a run of several ranks, of which the first writes it.
    ///
    /// # Errors
    /// As [`take`](Self::take), on all ranks.
    pub fn take_over(
        team: Option<&Team<'_>>,
        path: &Path,
        config: &RunConfig,
        start: Start,
    ) -> Result<Self, RunError> {
        let Some(team) = team else {
            return Self::take(path, config, start);
        };
        let mut own = None;
        let taken = team.from_first(|| {
            let folder = Self::take(path, config, start)?;
            let taken = TakenFolder {
                resumes: folder.resumes,
                started: folder.started.clone(),
                optimizer: folder.optimizer.clone(),
            };
            own = Some(folder);
            Ok::<_, RunError>(taken)
        })?;
        Ok(own.unwrap_or_else(|| Self {
            path: path.into(),
            resumes: taken.resumes,
            started: taken.started,
            optimizer: taken.optimizer,
            writes: false,
            _lock: None,
        }))
    }

    /// Whether this process writes it.
    pub fn writes(&self) -> bool {
        self.writes
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
        if !self.writes {
            return Ok(());
        }
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
        if self.writes {
            files::write_json(&path, value)?;
        }
        Ok(path)
    }
}

/// Locks a folder for this process. A comparison holds a claim on it already, and may be on a file
/// system without locks.
fn lock(folder: &Path, start: Start) -> Result<Option<File>, RunError> {
    let path = folder.join(LOCK_FILE);
    let refused = |source| FileError::Io {
        action: "write",
        path: path.clone(),
        source,
    };
    let lock = File::create(&path).map_err(refused)?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(std::fs::TryLockError::Error(error))
            if start == Start::WhereItWas && has_no_locks(&error) =>
        {
            Ok(None)
        }
        Err(std::fs::TryLockError::WouldBlock) => Err(RunError::FolderInUse {
            folder: folder.into(),
        }),
        Err(std::fs::TryLockError::Error(source)) => Err(refused(source).into()),
    }
}

/// Whether a file system has no locks, rather than refusing one.
fn has_no_locks(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::Unsupported || error.raw_os_error() == Some(libc::ENOLCK)
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

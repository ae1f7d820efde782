//! Checkpoints: everything that the next steps depend on, in a folder that is written as a whole or
//! not at all.
//!
//! `checkpoints/step-20/` holds the adapter (`mean.safetensors`), the optimizer's state
//! (`optimizer.bin`) and the run's position (`progress.json`). A folder under its final name is
//! complete; anything else is left over from an interrupted write and is ignored.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::{Optimizer, TrainError};
use crate::files::{self, FileError};
use crate::lora::{Adapter, read_matrices, write_matrices};
use crate::model::DecoderConfig;

const MEAN: &str = "mean.safetensors";
const STATE: &str = "optimizer.bin";
const PROGRESS: &str = "progress.json";
/// Name of the folder of the best step so far.
const BEST: &str = "best";
const LARGEST_STATE: u64 = 64 << 30;

/// The position of a run: how far it has come.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// Steps taken.
    pub step: u64,
    /// The last step that was scored on tune.
    pub evaluated: u64,
    /// Bytes of `metrics.jsonl` that belong to these steps.
    pub metrics_bytes: u64,
    /// The best evaluation so far: its step and its loss (lower is better).
    pub best: Option<(u64, f64)>,
    /// Evaluations since the best one.
    pub without_gain: u64,
}

/// The folder of a run's checkpoints.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    folder: PathBuf,
    keep: usize,
}

/// What a checkpoint holds.
#[derive(Debug)]
pub struct SavedStep {
    /// The run's position.
    pub position: Position,
    /// The weights.
    pub adapter: Adapter,
    /// The optimizer's state.
    pub state: Vec<u8>,
}

impl Checkpoints {
    /// The checkpoints in `folder`, of which the newest `keep` are kept.
    pub fn new(folder: PathBuf, keep: usize) -> Self {
        Self {
            folder,
            keep: keep.max(1),
        }
    }

    /// Writes a checkpoint and removes the oldest ones.
    ///
    /// # Errors
    /// If it cannot be written; older checkpoints are then untouched.
    pub fn save(
        &self,
        position: &Position,
        optimizer: &dyn Optimizer,
    ) -> Result<PathBuf, TrainError> {
        let folder = self.folder.join(format!("step-{}", position.step));
        self.write(&folder, position, optimizer)?;
        for (_, old) in self.complete()?.into_iter().rev().skip(self.keep) {
            let _ = std::fs::remove_dir_all(old);
        }
        Ok(folder)
    }

    /// Keeps this step as the best one.
    ///
    /// # Errors
    /// If it cannot be written; the best step so far is then untouched.
    pub fn save_best(
        &self,
        position: &Position,
        optimizer: &dyn Optimizer,
    ) -> Result<(), TrainError> {
        self.write(&self.folder.join(BEST), position, optimizer)
    }

    fn write(
        &self,
        folder: &Path,
        position: &Position,
        optimizer: &dyn Optimizer,
    ) -> Result<(), TrainError> {
        files::create_folder(&self.folder)?;
        files::write_folder(folder, |folder| {
            let matrices: BTreeMap<_, _> = optimizer.adapter().to_matrices()?.into_iter().collect();
            write_matrices(&folder.join(MEAN), &matrices, BTreeMap::new())?;
            files::write_bytes(&folder.join(STATE), &optimizer.state()?)?;
            let position = serde_json::to_vec_pretty(position).unwrap_or_default();
            Ok::<_, TrainError>(files::write_bytes(&folder.join(PROGRESS), &position)?)
        })
    }

    /// The complete checkpoints by step, oldest first.
    fn complete(&self) -> Result<Vec<(u64, PathBuf)>, TrainError> {
        let entries = match std::fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => {
                return Err(FileError::Io {
                    action: "read",
                    path: self.folder.clone(),
                    source,
                }
                .into());
            }
        };
        let step = |path: &Path| {
            path.file_name()?
                .to_str()?
                .strip_prefix("step-")?
                .parse::<u64>()
                .ok()
        };
        let mut found: Vec<(u64, PathBuf)> = entries
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter_map(|path| Some((step(&path)?, path)))
            .collect();
        found.sort();
        Ok(found)
    }

    /// The step of the newest complete checkpoint.
    pub fn newest(&self) -> Option<u64> {
        self.complete().ok()?.last().map(|(step, _)| *step)
    }

    /// Reads the newest complete checkpoint.
    ///
    /// # Errors
    /// [`TrainError::NothingToResume`] if there is none; [`TrainError::Checkpoint`] if it cannot be
    /// used.
    pub fn load_newest(
        &self,
        decoder: &DecoderConfig,
        device: &Device,
    ) -> Result<SavedStep, TrainError> {
        let (_, folder) = self
            .complete()?
            .pop()
            .ok_or_else(|| TrainError::NothingToResume {
                path: self.folder.clone(),
            })?;
        read(&folder, decoder, device)
    }

    /// Reads the best step, if one was kept.
    ///
    /// # Errors
    /// If it cannot be used.
    pub fn load_best(
        &self,
        decoder: &DecoderConfig,
        device: &Device,
    ) -> Result<Option<SavedStep>, TrainError> {
        let folder = self.folder.join(BEST);
        folder
            .exists()
            .then(|| read(&folder, decoder, device))
            .transpose()
    }
}

fn read(folder: &Path, decoder: &DecoderConfig, device: &Device) -> Result<SavedStep, TrainError> {
    let unusable = |reason: String| TrainError::Checkpoint {
        path: folder.into(),
        reason,
    };
    let position = files::read_text(&folder.join(PROGRESS), 1 << 20)
        .map_err(|error| unusable(error.to_string()))?;
    let position = serde_json::from_str(&position)
        .map_err(|error| unusable(format!("`{PROGRESS}`: {error}")))?;
    let (matrices, _) =
        read_matrices(&folder.join(MEAN)).map_err(|error| unusable(error.to_string()))?;
    // Only the weights are read; the factor of B A is that of the run that resumes.
    let adapter = Adapter::from_matrices(matrices, 1.0, decoder, device)
        .map_err(|error| unusable(error.to_string()))?;
    let state = files::read_bytes(&folder.join(STATE), LARGEST_STATE)
        .map_err(|error| unusable(error.to_string()))?;
    Ok(SavedStep {
        position,
        adapter,
        state,
    })
}

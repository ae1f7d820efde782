//! The layout of a comparison's folder: a folder for each trial and each cell, named by its id, and
//! for each of them one with what processes tell each other about it.

use std::path::{Path, PathBuf};

/// The id of a trial of a method on a task: `trials/sst2/ivon/003`.
pub(super) fn trial_id(task: &str, method: &str, trial: u32) -> String {
    let (task, method) = (folder_name(task), folder_name(method));
    format!("trials/{task}/{method}/{trial:03}")
}

/// The id of a cell, a method on a task with one seed: `cells/sst2/ivon/21`.
pub(super) fn cell_id(task: &str, method: &str, seed: u64) -> String {
    let (task, method) = (folder_name(task), folder_name(method));
    format!("cells/{task}/{method}/{seed}")
}

/// The folder of a cell.
pub(super) fn cell_folder(out: &Path, task: &str, method: &str, seed: u64) -> PathBuf {
    out.join(cell_id(task, method, seed))
}

/// Where the claims on a run are, and why it failed.
pub(super) fn claims_folder(out: &Path, id: &str) -> PathBuf {
    out.join("claims").join(id)
}

/// A name as part of a path: only lower-case letters, digits and dashes.
pub(super) fn folder_name(name: &str) -> String {
    let dashed: String = name
        .chars()
        .map(|letter| {
            if letter.is_ascii_alphanumeric() {
                letter.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .collect();
    dashed
        .split('-')
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("-")
}

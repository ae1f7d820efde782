//! The layout of a comparison's folder: a folder for each trial and each cell.

use std::path::{Path, PathBuf};

/// The folder of a trial of a method on a task.
pub(super) fn trial_folder(out: &Path, task: &str, method: &str, trial: u32) -> PathBuf {
    out.join("trials")
        .join(folder_name(task))
        .join(folder_name(method))
        .join(format!("{trial:03}"))
}

/// The folder of a cell: a method on a task with one seed.
pub(super) fn cell_folder(out: &Path, task: &str, method: &str, seed: u64) -> PathBuf {
    out.join("cells")
        .join(folder_name(task))
        .join(folder_name(method))
        .join(seed.to_string())
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

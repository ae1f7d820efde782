//! All that a comparison's table is made of, and the table with what is missing from it.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::CompareError;
use super::chosen::Trial;
use super::results::TaskResults;
use super::rows::TaskRows;
use super::table::ComparisonTable;
use ivon_lora::files;
use ivon_lora::run::RunError;

/// The file with the whole comparison, from which its page is made.
pub const COMPARISON_FILE: &str = "comparison.json";
const LARGEST: u64 = 64 << 20;

/// All that a comparison's table is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct ComparisonResults {
    /// The file of the comparison, as TOML.
    pub(super) file: String,
    /// Whether every row of a method has a second one with the temperature that was chosen on
    /// *calibrate*.
    pub(super) temperature: bool,
    /// The row from which differences of all others are shown.
    pub(super) against: Option<String>,
    pub(super) tasks: Vec<TaskResults>,
    pub(super) trials: Vec<Trial>,
    pub(super) failed: Vec<FailedCell>,
    pub(super) is_interrupted: bool,
}

/// The results of a comparison.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Comparison {
    /// The table.
    pub table: ComparisonTable,
    /// Every trial, including failed ones.
    pub trials: Vec<Trial>,
    /// Cells and files that are missing from the table, and why.
    pub failed: Vec<FailedCell>,
    /// Whether it was stopped before its end.
    pub is_interrupted: bool,
}

/// A trial or a cell that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedCell {
    /// `sst2, IVON, seed 21`.
    pub name: String,
    /// What went wrong.
    pub reason: String,
}

impl ComparisonResults {
    /// The table of these results.
    ///
    /// # Errors
    /// If predictions are no distributions over the labels' choices.
    pub fn comparison(&self) -> Result<Comparison, CompareError> {
        let rows = |task| TaskRows::new(task, self.temperature);
        let tasks = self.tasks.iter().map(rows).collect::<Result<Vec<_>, _>>()?;
        Ok(Comparison {
            table: ComparisonTable::new(&tasks, self.against.as_deref()),
            trials: self.trials.clone(),
            failed: self.failed.clone(),
            is_interrupted: self.is_interrupted,
        })
    }
}

impl Comparison {
    /// Reads [`COMPARISON_FILE`] of a comparison's folder.
    ///
    /// # Errors
    /// If it cannot be read or is malformed.
    pub fn read(folder: &Path) -> Result<Self, CompareError> {
        let path = folder.join(COMPARISON_FILE);
        let text = files::read_text(&path, LARGEST)?;
        Ok(
            serde_json::from_str(&text).map_err(|error| RunError::Malformed {
                path,
                reason: error.to_string(),
            })?,
        )
    }
}

//! How a data set came about: its files, the roles they play, what was left out.

use std::collections::BTreeMap;

use serde::Serialize;

use super::account::Drops;
use super::folder::Split;
use super::role::Role;

/// How a data set came about.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LoadReport {
    /// The task.
    pub task: String,
    /// The files that were read.
    pub files: Vec<FileReport>,
    /// Where the rows of each role come from.
    pub sources: BTreeMap<Role, Split>,
    /// The roles that were carved from the training file.
    pub carved: Vec<Role>,
    /// Whether validation is the test set.
    pub validation_is_test: bool,
    /// Whether the file named test was set aside, since its labels are not public.
    pub test_is_unlabelled: bool,
    /// Rows left out, and why.
    pub dropped: Drops,
    /// Rows beyond the limits, by role.
    pub beyond_limit: BTreeMap<Role, usize>,
    /// What the user should know, a sentence each.
    pub notes: Vec<String>,
}

/// A file that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileReport {
    /// Its path, as it was given or found.
    pub path: String,
    /// What it is by its name.
    pub split: Split,
    /// Its number of rows.
    pub rows: usize,
    /// The SHA-256 of its bytes, in hexadecimal.
    pub sha256: String,
}

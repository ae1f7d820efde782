//! How a data set was obtained: its files, their roles, and the dropped rows.

use std::collections::BTreeMap;

use serde::Serialize;

use super::account::Drops;
use super::folder::Split;
use super::role::Role;

/// How a data set was obtained.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LoadReport {
    /// The task.
    pub task: String,
    /// The files that were read.
    pub files: Vec<FileReport>,
    /// The split from which each role was read.
    pub sources: BTreeMap<Role, Split>,
    /// The roles that were carved from the training file.
    pub carved: Vec<Role>,
    /// Whether validation is the test set.
    pub validation_is_test: bool,
    /// Whether the test file was ignored because its labels are not public.
    pub test_is_unlabelled: bool,
    /// The dropped rows, by reason.
    pub dropped: Drops,
    /// Rows beyond the limits, by role.
    pub beyond_limit: BTreeMap<Role, usize>,
    /// Notes for the user, a sentence each.
    pub notes: Vec<String>,
    /// Possible problems, a sentence each.
    pub warnings: Vec<String>,
}

/// A file that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileReport {
    /// Its path.
    pub path: String,
    /// The split it is named after.
    pub split: Split,
    /// Its number of rows.
    pub rows: usize,
    /// The SHA-256 of its bytes, in hexadecimal.
    pub sha256: String,
}

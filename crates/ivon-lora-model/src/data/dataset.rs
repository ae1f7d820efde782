//! A data set in its four roles: finds files, turns rows into examples, removes leaks and carves
//! missing roles.
//!
//! 1. Each file has the role it is named after. If there is no test file, or its labels are not
//!    public, validation is the test set; otherwise it is tune, unless there is a tune file.
//! 2. If a row's prompt or group also occurs in a later role (train, tune, calibrate, test), the
//!    row is dropped from the earlier one: the test set stays whole, train gives way.
//! 3. Roles without a file are carved from the training file, see `split`.
//! 4. Limits keep the first examples of each role in file order, not counting rows that the task
//!    drops.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::account::Tally;
use super::config::DataConfig;
use super::error::DataError;
use super::folder::{Split, SplitFiles, find_files};
use super::load_report::{FileReport, LoadReport};
use super::read::{Continue, Row, for_each_row};
use super::role::Role;
use super::roles;
use super::source::Source;
use super::task::{DropReason, Example, Task, TaskReader};
use crate::files::FileError;

/// Examples in four roles.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// For training.
    pub train: Vec<Example>,
    /// For choosing settings and early stopping.
    pub tune: Vec<Example>,
    /// For choosing scale, temperature and thresholds.
    pub calibrate: Vec<Example>,
    /// For the final scores.
    pub test: Vec<Example>,
    /// How they were obtained.
    pub report: LoadReport,
}

/// The row ids of each role, for saving.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleIds {
    /// Of train.
    pub train: Vec<String>,
    /// Of tune.
    pub tune: Vec<String>,
    /// Of calibrate.
    pub calibrate: Vec<String>,
    /// Of test.
    pub test: Vec<String>,
}

impl Dataset {
    /// A data set from rows in memory; each row has its fields by name, each split is named as its
    /// file would be. Missing roles are carved according to the settings; their path is ignored.
    ///
    /// # Errors
    /// If a row does not fit the task, missing roles cannot be carved, or no role has an example.
    pub fn from_rows(
        config: &DataConfig,
        task: &Task,
        rows: BTreeMap<Split, Vec<serde_json::Map<String, serde_json::Value>>>,
    ) -> Result<Self, DataError> {
        let reader = task.reader()?;
        let mut sources = BTreeMap::new();
        for (split, rows) in rows {
            sources.insert(split, Source::of_rows(split.name(), rows, &reader)?);
        }
        assemble(config, task, sources, LoadReport::default())
    }

    fn from_roles(mut roles: roles::Roles, report: LoadReport) -> Self {
        let mut take = |role| roles.remove(&role).unwrap_or_default();
        Self {
            train: take(Role::Train),
            tune: take(Role::Tune),
            calibrate: take(Role::Calibrate),
            test: take(Role::Test),
            report,
        }
    }

    /// The examples of a role.
    pub fn role(&self, role: Role) -> &[Example] {
        match role {
            Role::Train => &self.train,
            Role::Tune => &self.tune,
            Role::Calibrate => &self.calibrate,
            Role::Test => &self.test,
        }
    }

    /// The examples of a role that must not be empty.
    ///
    /// # Errors
    /// [`DataError::EmptyRole`] with the reason.
    pub fn required(&self, role: Role) -> Result<&[Example], DataError> {
        let examples = self.role(role);
        if examples.is_empty() {
            let dropped = self.report.dropped.total();
            let reason = match (self.report.sources.get(&role), role) {
                (Some(split), _) => {
                    format!("{dropped} rows of the {split} file and others were left out")
                }
                (None, Role::Train) => "no file is named train".into(),
                (None, _) => {
                    "no file is named so, and none were carved from a training file".into()
                }
            };
            return Err(DataError::EmptyRole { role, reason });
        }
        Ok(examples)
    }

    /// The row ids of each role.
    pub fn ids(&self) -> RoleIds {
        let ids = |role| {
            self.role(role)
                .iter()
                .map(|example| example.id.clone())
                .collect()
        };
        RoleIds {
            train: ids(Role::Train),
            tune: ids(Role::Tune),
            calibrate: ids(Role::Calibrate),
            test: ids(Role::Test),
        }
    }
}

/// Loads a data set.
///
/// # Errors
/// Any problem with settings, files or rows; [`DataError::EmptySet`] if no role has an example.
pub fn load(config: &DataConfig, task: &Task) -> Result<Dataset, DataError> {
    config.validate()?;
    let reader = task.reader()?.with_id_field(config.id_field.as_deref());
    let mut report = LoadReport::default();
    let mut sources = BTreeMap::new();
    for files in find_files(&config.path, &task.name)? {
        if files.split == Split::Test && config.test_from == Some(Split::Validation) {
            continue;
        }
        let mut source = read_source(
            &files,
            &reader,
            config.group_field.as_deref(),
            &mut report.files,
        )?;
        source.notes.extend(files.alone(&task.name)?);
        sources.insert(files.split, source);
    }
    assemble(config, task, sources, report)
}

/// Reads the files of one split. Every row needs a label, unless no row of a test split has one.
fn read_source(
    files: &SplitFiles,
    reader: &TaskReader,
    group_field: Option<&str>,
    reports: &mut Vec<FileReport>,
) -> Result<Source, DataError> {
    let mut source = Source {
        unlabelled: files.split == Split::Test,
        ..Source::default()
    };
    let mut first_withheld = None;
    for path in &files.paths {
        let mut rows = 0;
        let notes = for_each_row(path, &mut |row| {
            rows += 1;
            let is_withheld = reader.is_withheld(&row);
            if is_withheld {
                first_withheld.get_or_insert_with(|| missing_label(reader, &row));
            } else {
                source.unlabelled = false;
            }
            match first_withheld.take_if(|_| !source.unlabelled) {
                Some(error) => return Err(error),
                None if is_withheld => {}
                None => source.add(reader, row, group_field)?,
            }
            Ok(Continue::Yes)
        })?;
        source.notes.extend(notes);
        let name = path.display().to_string();
        if rows == 0 {
            let what = format!("`{name}`");
            return Err(DataError::EmptySet { what });
        }
        reports.push(FileReport {
            path: name,
            split: files.split,
            rows,
            sha256: sha256(path)?,
        });
    }
    Ok(source)
}

/// The error for a row without a label.
fn missing_label(reader: &TaskReader, row: &Row) -> DataError {
    let (at, field) = (row.place.clone(), reader.task().label_field().to_string());
    let value = row.fields.get(&field);
    match value.or_else(|| row.fields.get("answerKey")) {
        None => DataError::MissingField {
            at,
            field,
            found: row.names(),
        },
        Some(_) => DataError::MissingLabel { at, field },
    }
}

/// Assigns sources to roles: what [`load`] does after reading. `report` already lists the files
/// read.
///
/// # Errors
/// If missing roles cannot be carved, or no role has an example.
pub fn assemble(
    config: &DataConfig,
    task: &Task,
    mut sources: BTreeMap<Split, Source>,
    mut report: LoadReport,
) -> Result<Dataset, DataError> {
    config.validate()?;
    report.task = task.name.clone();
    sources
        .values()
        .for_each(|source| report.dropped.merge(&source.dropped));
    let accounts: Vec<(Split, Vec<String>)> = sources
        .iter()
        .map(|(split, source)| (*split, source.account(&format!("the {split} file"))))
        .collect();
    let mut roles = roles::assign(config, &mut sources, &mut report);
    report.notes.extend(
        accounts
            .into_iter()
            .filter(|(split, _)| report.sources.values().any(|used| used == split))
            .flat_map(|(_, said)| said),
    );
    roles::close_leaks(&mut roles, &mut report);
    roles::carve_missing(config, task, &mut roles, &mut report)?;
    roles::limit(config, &mut roles, &mut report);
    if roles.values().all(Vec::is_empty) {
        return Err(nothing_left(config, &report));
    }
    Ok(Dataset::from_roles(roles, report))
}

/// The error for a data set without a usable row, with the number of rows dropped for each reason.
fn nothing_left(config: &DataConfig, report: &LoadReport) -> DataError {
    let said = |(reason, rows): (&DropReason, &Tally)| {
        format!(", {} rows left out: {reason} ({rows})", rows.count)
    };
    let why = report.dropped.iter().map(said).collect::<String>();
    DataError::EmptySet {
        what: format!("`{}`{why}: it", config.path.display()),
    }
}

/// The SHA-256 of a file.
pub fn sha256(path: &Path) -> Result<String, DataError> {
    let refused = FileError::io("read", path);
    let mut file = std::fs::File::open(path).map_err(refused)?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 18]);
    loop {
        match file.read(&mut buffer).map_err(refused)? {
            0 => {
                return Ok(hash
                    .finalize()
                    .iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect());
            }
            read => hash.update(&buffer[..read]),
        }
    }
}

#[cfg(test)]
mod tests;

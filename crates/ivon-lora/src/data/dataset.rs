//! A data set in its four roles: files found, rows turned into examples, leaks closed, missing
//! roles carved.
//!
//! 1. Each file plays the role it is named after. Without a test file (or when its labels are not
//!    public) validation is the test set; beside one it is tune, if no file is named so.
//! 2. A row whose prompt, or whose group, also stands in a role further on (train, tune, calibrate,
//!    test) is left out of the earlier one: test stays whole, train gives way.
//! 3. Roles that no file provides are carved from the training file, see [`carve`].
//! 4. Limits keep the first rows of each role in file order, after the task has left out what it
//!    does not ask.

use std::collections::{BTreeMap, HashSet};
use std::io::Read;
use std::path::Path;

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::account::{Counted, Drops};
use super::config::DataConfig;
use super::error::DataError;
use super::folder::{Split, SplitFiles, find_files};
use super::read::{Continue, for_each_row};
use super::role::Role;
use super::source::Source;
use super::split::{Ties, carve};
use super::task::{DropReason, Example};
use super::task::{Form, Prepared, Task};
use crate::files::FileError;

/// Examples in four roles.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// To learn from.
    pub train: Vec<Example>,
    /// To choose settings and stop early by.
    pub tune: Vec<Example>,
    /// To choose scale, temperature and thresholds by.
    pub calibrate: Vec<Example>,
    /// To be scored on, once.
    pub test: Vec<Example>,
    /// How they came about.
    pub report: LoadReport,
}

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

/// The ids of each role's rows, for saving.
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
    /// The examples of rows in memory, the fields of each by name, by what a file of them would be
    /// called. Roles without rows are carved as the settings say, whose path is not looked at.
    ///
    /// # Errors
    /// If a row is none of the task, missing roles cannot be carved, or no role has an example.
    pub fn from_rows(
        config: &DataConfig,
        task: &Task,
        rows: BTreeMap<Split, Vec<serde_json::Map<String, serde_json::Value>>>,
    ) -> Result<Self, DataError> {
        let prepared = task.prepare()?;
        let mut sources = BTreeMap::new();
        for (split, rows) in rows {
            sources.insert(split, Source::of_rows(split.name(), rows, &prepared)?);
        }
        assemble(config, task, sources, LoadReport::default())
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

    /// The examples of a role that must have some.
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

    /// The ids of each role's rows.
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

/// Loads a data set: the entry to this room.
///
/// # Errors
/// Whatever is wrong with settings, files or rows; [`DataError::EmptySet`] if no role has an
/// example.
pub fn load(config: &DataConfig, task: &Task) -> Result<Dataset, DataError> {
    config.validate()?;
    let prepared = task.prepare()?.with_id_field(config.id_field.as_deref());
    let mut report = LoadReport::default();
    let mut sources = BTreeMap::new();
    for files in find_files(&config.path, &task.name)? {
        if files.split == Split::Test && config.test_from == Some(Split::Validation) {
            continue;
        }
        let mut source = read_source(
            &files,
            &prepared,
            config.group_field.as_deref(),
            &mut report.files,
        )?;
        source.notes.extend(files.alone(&task.name)?);
        sources.insert(files.split, source);
    }
    assemble(config, task, sources, report)
}

/// Reads the files of one split. All rows need labels, unless it is a test split of which none has.
fn read_source(
    files: &SplitFiles,
    prepared: &Prepared,
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
            if prepared.is_withheld(&row) {
                let field = prepared.task().label_field();
                let error = || match row
                    .fields
                    .get(field)
                    .or_else(|| row.fields.get("answerKey"))
                {
                    None => DataError::MissingField {
                        at: row.place.clone(),
                        field: field.into(),
                        found: row.names(),
                    },
                    Some(_) => DataError::MissingLabel {
                        at: row.place.clone(),
                        field: field.into(),
                    },
                };
                if !source.unlabelled {
                    return Err(error());
                }
                first_withheld.get_or_insert_with(error);
            } else {
                if let Some(error) = first_withheld.take() {
                    return Err(error);
                }
                source.unlabelled = false;
                source.add(prepared, row, group_field)?;
            }
            Ok(Continue::Yes)
        })?;
        source.notes.extend(notes);
        reports.push(FileReport {
            path: path.display().to_string(),
            split: files.split,
            rows,
            sha256: sha256(path)?,
        });
        if rows == 0 {
            return Err(DataError::EmptySet {
                what: format!("`{}`", path.display()),
            });
        }
    }
    Ok(source)
}

/// Puts sources into roles: what [`load`] does after reading. `report` holds the files already
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
    let mut roles = cast(config, &mut sources, &mut report);
    report.notes.extend(
        accounts
            .into_iter()
            .filter(|(split, _)| report.sources.values().any(|used| used == split))
            .flat_map(|(_, said)| said),
    );
    close_leaks(&mut roles, &mut report);
    carve_missing(config, task, &mut roles, &mut report)?;
    for role in Role::ALL {
        let limit = if role == Role::Train {
            config.train_limit
        } else {
            config.eval_limit
        };
        let examples = roles.entry(role).or_default();
        if let Some(limit) = limit.filter(|limit| *limit < examples.len()) {
            report.beyond_limit.insert(role, examples.len() - limit);
            examples.truncate(limit);
        }
    }
    if roles.values().all(Vec::is_empty) {
        let said = |(reason, rows): (&DropReason, &Counted)| {
            format!(", {} rows left out: {reason} ({rows})", rows.count)
        };
        let why = report.dropped.iter().map(said).collect::<String>();
        return Err(DataError::EmptySet {
            what: format!("`{}`{why}: it", config.path.display()),
        });
    }
    let mut take = |role| roles.remove(&role).unwrap_or_default();
    let (train, tune, calibrate, test) = (
        take(Role::Train),
        take(Role::Tune),
        take(Role::Calibrate),
        take(Role::Test),
    );
    Ok(Dataset {
        train,
        tune,
        calibrate,
        test,
        report,
    })
}

/// Gives each source the role that its name asks for.
fn cast(
    config: &DataConfig,
    sources: &mut BTreeMap<Split, Source>,
    report: &mut LoadReport,
) -> BTreeMap<Role, Vec<Example>> {
    if sources
        .get(&Split::Test)
        .is_some_and(|test| test.unlabelled)
    {
        sources.remove(&Split::Test);
        report.test_is_unlabelled = true;
        report
            .notes
            .push("the test file has no labels and is left aside".into());
    }
    let wants_validation = config.test_from == Some(Split::Validation);
    let validation_is_test = sources.contains_key(&Split::Validation)
        && (wants_validation
            || (config.test_from.is_none() && !sources.contains_key(&Split::Test)));
    report.validation_is_test = validation_is_test;
    let mut plan = vec![
        (Role::Train, Split::Train),
        (Role::Tune, Split::Tune),
        (Role::Calibrate, Split::Calibrate),
    ];
    if validation_is_test {
        report.notes.push(if wants_validation {
            "validation is the test set, as asked for".into()
        } else {
            "no test file is there, so validation is the test set".into()
        });
        plan.push((Role::Test, Split::Validation));
    } else {
        plan.push((Role::Test, Split::Test));
        if sources.contains_key(&Split::Validation) {
            if sources.contains_key(&Split::Tune) {
                report.notes.push(
                    "the validation file is not used, since there are files for tune and test"
                        .into(),
                );
            } else {
                plan.push((Role::Tune, Split::Validation));
            }
        }
    }
    let mut roles = BTreeMap::new();
    for (role, split) in plan {
        if let Some(source) = sources.remove(&split) {
            report.sources.insert(role, split);
            roles.insert(role, source.examples);
        }
    }
    roles
}

/// Leaves out of each role what also stands in a later one.
fn close_leaks(roles: &mut BTreeMap<Role, Vec<Example>>, report: &mut LoadReport) {
    let (mut texts, mut groups): (
        BTreeMap<Role, HashSet<String>>,
        BTreeMap<Role, HashSet<String>>,
    ) = Default::default();
    for (role, examples) in roles.iter_mut().rev() {
        let before = examples.len();
        let mut dropped = Drops::default();
        examples.retain(|example| {
            let text = example.prompt.text();
            let text_in = texts
                .iter()
                .find(|(_, texts)| texts.contains(&text))
                .map(|(role, _)| *role);
            let group_in = || {
                groups.iter().find(|(_, groups)| {
                    example
                        .group
                        .as_ref()
                        .is_some_and(|group| groups.contains(group))
                })
            };
            let reason = match text_in {
                Some(role) => Some(DropReason::TextAlsoIn(role)),
                None => group_in().map(|(role, _)| DropReason::GroupAlsoIn(*role)),
            };
            let kept = reason.is_none();
            reason
                .into_iter()
                .for_each(|reason| dropped.add(reason, &example.id));
            kept
        });
        report.notes.extend(dropped.sentences(role.name(), before));
        report.dropped.merge(&dropped);
        if *role == Role::Train {
            break;
        }
        texts.insert(
            *role,
            examples
                .iter()
                .map(|example| example.prompt.text())
                .collect(),
        );
        groups.insert(
            *role,
            examples
                .iter()
                .filter_map(|example| example.group.clone())
                .collect(),
        );
    }
}

/// Carves the roles that no file provides from train, if there is a train file.
fn carve_missing(
    config: &DataConfig,
    task: &Task,
    roles: &mut BTreeMap<Role, Vec<Example>>,
    report: &mut LoadReport,
) -> Result<(), DataError> {
    // Test first: where rows are few, it is the last to go without.
    let shares = [
        (Role::Test, config.test_share),
        (Role::Calibrate, config.calibrate_share),
        (Role::Tune, config.tune_share),
    ];
    let wanted: Vec<(Role, f64)> = shares
        .into_iter()
        .filter(|(role, share)| *share > 0.0 && !roles.contains_key(role))
        .collect();
    let Some(train) = roles.remove(&Role::Train).filter(|train| !train.is_empty()) else {
        return Ok(());
    };
    let texts: Vec<String> = train.iter().map(|example| example.prompt.text()).collect();
    // A letter of multiple choice means something else in every row.
    let class = |example: &Example| {
        example
            .label
            .filter(|_| matches!(task.form, Form::Template { .. }))
    };
    let rows = texts.iter().zip(&train);
    let ties: Vec<Ties<'_>> = rows
        .map(|(text, example)| Ties {
            text,
            group: example.group.as_deref(),
            class: class(example),
        })
        .collect();
    let carved = carve(&ties, &wanted, config.train_limit.unwrap_or(0), config.seed)?;
    for (example, role) in train.into_iter().zip(carved) {
        roles.entry(role).or_default().push(example);
    }
    report.carved = wanted.iter().map(|(role, _)| *role).collect();
    report.carved.sort_unstable();
    for role in &report.carved {
        report.sources.insert(*role, Split::Train);
    }
    Ok(())
}

/// The SHA-256 of a file.
pub(crate) fn sha256(path: &Path) -> Result<String, DataError> {
    let refused = |source| FileError::Io {
        action: "read",
        path: path.into(),
        source,
    };
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

//! A data set in its four roles: files found, rows turned into examples, leaks closed, missing roles carved.
//!
//! 1. Each file plays the role it is named after. Without a test file (or when its labels are not public) validation
//!    is the test set; beside one it is tune, if no file is named so.
//! 2. A row whose prompt, or whose group, also stands in a role further on (train, tune, calibrate, test) is left
//!    out of the earlier one: test stays whole, train gives way.
//! 3. Roles that no file provides are carved from the training file, see [`carve`].
//! 4. Limits keep the first rows of each role in file order, after the task has left out what it does not ask.

use std::collections::{BTreeMap, HashSet};
use std::io::Read;
use std::path::Path;

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::config::DataConfig;
use super::error::DataError;
use super::example::{DropReason, Drops, Example};
use super::folder::{Split, SplitFiles, find_files};
use super::read::{Continue, Row, for_each_row};
use super::split::{Role, Ties, carve};
use super::task::{Form, ID_FIELDS, Made, Prepared, Task};
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

/// The examples of one split, with what was left out.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// The examples, in the order of the file.
    pub examples: Vec<Example>,
    /// Rows that the task does not ask.
    pub dropped: Drops,
    /// Whether no row has a public label.
    pub unlabelled: bool,
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
                (Some(split), _) => format!("{dropped} rows of the {split} file and others were left out"),
                (None, Role::Train) => "no file is named train".into(),
                (None, _) => "no file is named so, and none were carved from a training file".into(),
            };
            return Err(DataError::EmptyRole { role, reason });
        }
        Ok(examples)
    }

    /// The ids of each role's rows.
    pub fn ids(&self) -> RoleIds {
        let ids = |role| self.role(role).iter().map(|example| example.id.clone()).collect();
        RoleIds { train: ids(Role::Train), tune: ids(Role::Tune), calibrate: ids(Role::Calibrate), test: ids(Role::Test) }
    }
}

/// Loads a data set: the entry to this room.
///
/// # Errors
/// Whatever is wrong with settings, files or rows; [`DataError::EmptySet`] if no role has an example.
pub fn load(config: &DataConfig, task: &Task) -> Result<Dataset, DataError> {
    config.validate()?;
    let prepared = task.prepare()?;
    let mut report = LoadReport::default();
    let mut sources = BTreeMap::new();
    for files in find_files(&config.path, &task.name)? {
        if files.split == Split::Test && config.test_from == Some(Split::Validation) {
            continue;
        }
        let source = read_source(&files, &prepared, config.group_field.as_deref(), &mut report.files)?;
        sources.insert(files.split, source);
    }
    assemble(config, task, sources, report)
}

/// Every example of one file, whatever role its name has; rows without a label are kept.
///
/// # Errors
/// As [`load`], of this file.
pub fn load_file(path: &Path, task: &Task) -> Result<Source, DataError> {
    let prepared = task.prepare()?;
    let mut source = Source::default();
    for_each_row(path, &mut |row| {
        source.add(&prepared, row, None)?;
        Ok(Continue::Yes)
    })?;
    Ok(source)
}

/// Every row of one file of another kind, with the fields of the task filled from its columns: pairs of field and column. All other
/// columns stay out, labels among them, for what they answer is another question.
///
/// # Errors
/// As [`load_file`], and if a row has no such column.
pub fn load_file_filled(path: &Path, task: &Task, fields: &[(String, String)]) -> Result<Source, DataError> {
    let prepared = task.prepare()?;
    let mut source = Source::default();
    for_each_row(path, &mut |row| {
        source.add(&prepared, filled(row, fields)?, None)?;
        Ok(Continue::Yes)
    })?;
    Ok(source)
}

/// A row that has these fields and its id.
fn filled(row: Row, fields: &[(String, String)]) -> Result<Row, DataError> {
    let mut found: serde_json::Map<_, _> =
        ID_FIELDS.iter().filter_map(|name| Some((name.to_string(), row.fields.get(*name)?.clone()))).collect();
    for (field, column) in fields {
        found.insert(field.clone(), row.field(column)?.clone());
    }
    Ok(Row { fields: found, place: row.place })
}

impl Source {
    /// Adds a row, or what was wrong with it.
    ///
    /// # Errors
    /// As [`Prepared::example`].
    pub fn add(&mut self, prepared: &Prepared, row: Row, group_field: Option<&str>) -> Result<(), DataError> {
        match prepared.example(row, group_field)? {
            Made::Example(example) => self.examples.push(example),
            Made::Dropped(reason) => self.dropped.add(reason),
        }
        Ok(())
    }
}

/// Reads the files of one split. All rows need labels, unless it is a test split of which none has.
fn read_source(
    files: &SplitFiles,
    prepared: &Prepared,
    group_field: Option<&str>,
    reports: &mut Vec<FileReport>,
) -> Result<Source, DataError> {
    let mut source = Source { unlabelled: files.split == Split::Test, ..Source::default() };
    let mut first_withheld = None;
    for path in &files.paths {
        let mut rows = 0;
        for_each_row(path, &mut |row| {
            rows += 1;
            if prepared.is_withheld(&row) {
                let field = prepared.task().label_field();
                let error = || match row.fields.get(field).or_else(|| row.fields.get("answerKey")) {
                    None => DataError::MissingField { at: row.place.clone(), field: field.into(), found: row.names() },
                    Some(_) => DataError::MissingLabel { at: row.place.clone(), field: field.into() },
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
        reports.push(FileReport { path: path.display().to_string(), split: files.split, rows, sha256: sha256(path)? });
        if rows == 0 {
            return Err(DataError::EmptySet { what: format!("`{}`", path.display()) });
        }
    }
    Ok(source)
}

/// Puts sources into roles: what [`load`] does after reading. `report` holds the files already read.
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
    sources.values().for_each(|source| report.dropped.merge(&source.dropped));
    let mut roles = cast(config, &mut sources, &mut report);
    close_leaks(&mut roles, &mut report);
    carve_missing(config, task, &mut roles, &mut report)?;
    for role in Role::ALL {
        let limit = if role == Role::Train { config.train_limit } else { config.eval_limit };
        let examples = roles.entry(role).or_default();
        if let Some(limit) = limit.filter(|limit| *limit < examples.len()) {
            report.beyond_limit.insert(role, examples.len() - limit);
            examples.truncate(limit);
        }
    }
    if roles.values().all(Vec::is_empty) {
        let why = report.dropped.iter().map(|(reason, count)| format!(", {count} rows left out: {reason}")).collect::<String>();
        return Err(DataError::EmptySet { what: format!("`{}`{why}: it", config.path.display()) });
    }
    let mut take = |role| roles.remove(&role).unwrap_or_default();
    let (train, tune, calibrate, test) = (take(Role::Train), take(Role::Tune), take(Role::Calibrate), take(Role::Test));
    Ok(Dataset { train, tune, calibrate, test, report })
}

/// Gives each source the role that its name asks for.
fn cast(config: &DataConfig, sources: &mut BTreeMap<Split, Source>, report: &mut LoadReport) -> BTreeMap<Role, Vec<Example>> {
    if sources.get(&Split::Test).is_some_and(|test| test.unlabelled) {
        sources.remove(&Split::Test);
        report.test_is_unlabelled = true;
        report.notes.push("the test file has no labels and is left aside".into());
    }
    let wants_validation = config.test_from == Some(Split::Validation);
    let validation_is_test = sources.contains_key(&Split::Validation)
        && (wants_validation || (config.test_from.is_none() && !sources.contains_key(&Split::Test)));
    report.validation_is_test = validation_is_test;
    let mut plan = vec![(Role::Train, Split::Train), (Role::Tune, Split::Tune), (Role::Calibrate, Split::Calibrate)];
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
                report.notes.push("the validation file is not used, since there are files for tune and test".into());
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
    let (mut texts, mut groups): (BTreeMap<Role, HashSet<String>>, BTreeMap<Role, HashSet<String>>) = Default::default();
    for (role, examples) in roles.iter_mut().rev() {
        let before = examples.len();
        examples.retain(|example| {
            let text = example.prompt.text();
            let text_in = texts.iter().find(|(_, texts)| texts.contains(&text)).map(|(role, _)| *role);
            let group_in = || groups.iter().find(|(_, groups)| example.group.as_ref().is_some_and(|group| groups.contains(group)));
            let reason = match text_in {
                Some(role) => Some(DropReason::TextAlsoIn(role)),
                None => group_in().map(|(role, _)| DropReason::GroupAlsoIn(*role)),
            };
            let kept = reason.is_none();
            reason.into_iter().for_each(|reason| report.dropped.add(reason));
            kept
        });
        if examples.len() < before {
            let left_out = before - examples.len();
            report.notes.push(format!("{left_out} rows of {role} also stand in a later role and are left out of {role}"));
        }
        if *role == Role::Train {
            break;
        }
        texts.insert(*role, examples.iter().map(|example| example.prompt.text()).collect());
        groups.insert(*role, examples.iter().filter_map(|example| example.group.clone()).collect());
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
    let shares = [(Role::Test, config.test_share), (Role::Calibrate, config.calibrate_share), (Role::Tune, config.tune_share)];
    let wanted: Vec<(Role, f64)> = shares.into_iter().filter(|(role, share)| *share > 0.0 && !roles.contains_key(role)).collect();
    let Some(train) = roles.remove(&Role::Train).filter(|train| !train.is_empty()) else { return Ok(()) };
    let texts: Vec<String> = train.iter().map(|example| example.prompt.text()).collect();
    // A letter of multiple choice means something else in every row.
    let class = |example: &Example| example.label.filter(|_| matches!(task.form, Form::Template { .. }));
    let rows = texts.iter().zip(&train);
    let ties: Vec<Ties<'_>> = rows.map(|(text, example)| Ties { text, group: example.group.as_deref(), class: class(example) }).collect();
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
    let refused = |source| FileError::Io { action: "read", path: path.into(), source };
    let mut file = std::fs::File::open(path).map_err(refused)?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 18]);
    loop {
        match file.read(&mut buffer).map_err(refused)? {
            0 => return Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()),
            read => hash.update(&buffer[..read]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::parquet::tests::{ARC, Column, write};
    use crate::data::{Choices, encode_all};
    use std::fs;
    use std::path::PathBuf;

    /// A folder with files, and a config for a task of two fields: `text` and `label`.
    fn folder_of(files: &[(&str, String)]) -> (tempfile::TempDir, DataConfig) {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            fs::write(folder.path().join(name), content).unwrap();
        }
        let config = DataConfig {
            path: folder.path().into(),
            prompt: Some("{text}:".into()),
            answers: Some(vec!["no".into(), "yes".into()]),
            ..DataConfig::default()
        };
        (folder, config)
    }

    fn loaded(config: &DataConfig) -> Result<Dataset, DataError> {
        load(config, &Task::from_config(config)?)
    }

    /// JSONL rows with ids `name-0`, `name-1`, … and texts of their own.
    fn rows(name: &str, count: usize) -> String {
        (0..count).map(|row| format!("{{\"id\": \"{name}-{row}\", \"text\": \"{name} text {row}\", \"label\": {}}}\n", row % 2)).collect()
    }

    fn counts(dataset: &Dataset) -> [usize; 4] {
        Role::ALL.map(|role| dataset.role(role).len())
    }

    #[test]
    fn a_single_file_is_carved_into_four_roles_and_the_ids_name_them() {
        let (folder, mut config) = folder_of(&[("mine.jsonl", rows("a", 100))]);
        config.path = folder.path().join("mine.jsonl");
        let dataset = loaded(&config).unwrap();
        assert_eq!(counts(&dataset), [60, 10, 10, 20]);
        assert_eq!(dataset.report.carved, [Role::Tune, Role::Calibrate, Role::Test]);
        let ids = dataset.ids();
        let mut all: Vec<&String> = [&ids.train, &ids.tune, &ids.calibrate, &ids.test].into_iter().flatten().collect();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 100);
        assert_eq!(loaded(&config).unwrap().ids(), ids);
        config.seed = 1;
        assert_ne!(loaded(&config).unwrap().ids(), ids);
        let again: RoleIds = serde_json::from_str(&serde_json::to_string(&ids).unwrap()).unwrap();
        assert_eq!(again, ids);
    }

    #[test]
    fn validation_is_the_test_set_where_there_is_no_other_and_tune_where_there_is() {
        let (_folder, config) = folder_of(&[("train.jsonl", rows("a", 20)), ("dev.jsonl", rows("b", 5))]);
        let dataset = loaded(&config).unwrap();
        assert_eq!(counts(&dataset), [16, 2, 2, 5]);
        assert!(dataset.report.validation_is_test && dataset.test[0].id == "b-0");
        assert!(dataset.report.notes[0].contains("validation is the test set"));
        let (_folder, mut config) =
            folder_of(&[("train.jsonl", rows("a", 20)), ("validation.jsonl", rows("b", 5)), ("test.jsonl", rows("c", 6))]);
        let dataset = loaded(&config).unwrap();
        assert_eq!(counts(&dataset), [18, 5, 2, 6]);
        assert_eq!((dataset.report.sources[&Role::Tune], dataset.report.validation_is_test), (Split::Validation, false));
        config.test_from = Some(Split::Validation);
        let dataset = loaded(&config).unwrap();
        assert_eq!((counts(&dataset), dataset.test[0].id.as_str()), ([16, 2, 2, 5], "b-0"));
        assert_eq!(dataset.report.files.len(), 2, "test.jsonl is not even read");
    }

    #[test]
    fn a_test_file_without_public_labels_is_set_aside() {
        let blind = "{\"text\": \"x\", \"label\": -1}\n{\"text\": \"y\"}\n";
        let files = |test: &str| folder_of(&[("train.jsonl", rows("a", 9)), ("dev.jsonl", rows("b", 5)), ("test.jsonl", test.into())]);
        let (_folder, config) = files(blind);
        let dataset = loaded(&config).unwrap();
        assert!(dataset.report.test_is_unlabelled && dataset.report.validation_is_test);
        assert_eq!(dataset.test.len(), 5);
        let (_folder, config) = files("{\"text\": \"x\", \"label\": 1}\n{\"text\": \"y\", \"label\": null}\n");
        let message = loaded(&config).unwrap_err().to_string();
        assert!(message.ends_with("test.jsonl` line 2 has no label in field `label`"), "{message}");
        let (_folder, config) = files("{\"text\": \"x\"}\n{\"text\": \"y\", \"label\": 0}\n");
        let message = loaded(&config).unwrap_err().to_string();
        assert!(message.ends_with("test.jsonl` line 1 has no field `label`, found `text`"), "{message}");
    }

    #[test]
    fn a_training_row_that_is_in_the_test_file_is_left_out_and_counted() {
        let twin = "{\"id\": \"twin\", \"text\": \"c text 1\", \"label\": 0}\n";
        let (_folder, config) = folder_of(&[
            ("train.jsonl", twin.to_string() + &rows("a", 9)),
            ("dev.jsonl", rows("b", 5) + twin),
            ("test.jsonl", rows("c", 6)),
        ]);
        let dataset = loaded(&config).unwrap();
        assert_eq!(counts(&dataset), [8, 5, 1, 6]);
        let reasons: Vec<_> = dataset.report.dropped.iter().map(|(reason, count)| (reason.to_string(), count)).collect();
        assert_eq!(reasons, [("the same prompt is in the test file".to_string(), 2)]);
        let report = serde_json::to_value(&dataset.report).unwrap();
        assert_eq!(report["dropped"]["the same prompt is in the test file"], 2);
        assert_eq!(report["files"][0]["sha256"].as_str().unwrap().len(), 64);
    }

    #[test]
    fn groups_stay_whole_within_and_across_files() {
        let grouped = |name: &str, count: usize, size: usize| -> String {
            let row = |row: usize| format!("{{\"text\": \"{name}{row}\", \"label\": 0, \"author\": {}}}\n", row / size);
            (0..count).map(row).collect()
        };
        let (_folder, mut config) = folder_of(&[("train.jsonl", grouped("a", 60, 3))]);
        config.group_field = Some("author".into());
        let dataset = loaded(&config).unwrap();
        let authors = |role| dataset.role(role).iter().map(|example| example.group.clone().unwrap()).collect::<HashSet<_>>();
        let distinct: usize = Role::ALL.iter().map(|role| authors(*role).len()).sum();
        assert_eq!((distinct, counts(&dataset).iter().sum::<usize>()), (20, 60));
        let (_folder, mut config) = folder_of(&[("train.jsonl", grouped("a", 60, 3)), ("test.jsonl", grouped("b", 4, 2))]);
        config.group_field = Some("author".into());
        let dataset = loaded(&config).unwrap();
        assert_eq!(
            dataset.report.dropped.iter().map(|(reason, count)| (reason.clone(), count)).collect::<Vec<_>>(),
            [(DropReason::GroupAlsoIn(Role::Test), 6)]
        );
        config.group_field = Some("writer".into());
        assert!(loaded(&config).unwrap_err().to_string().contains("has no field `writer`, found `text`, `label`, `author`"));
    }

    #[test]
    fn limits_take_the_first_rows_of_the_file_and_carving_spares_them() {
        let (_folder, mut config) = folder_of(&[("train.jsonl", rows("a", 100)), ("dev.jsonl", rows("b", 50))]);
        (config.train_limit, config.eval_limit) = (Some(40), Some(7));
        let dataset = loaded(&config).unwrap();
        assert_eq!(counts(&dataset), [40, 7, 7, 7]);
        let expected: Vec<String> = (0..40).map(|row| format!("a-{row}")).collect();
        assert_eq!(dataset.ids().train, expected);
        assert_eq!(dataset.report.beyond_limit[&Role::Test], 43);
    }

    #[test]
    fn a_folder_without_a_training_file_serves_for_evaluation_only() {
        let (_folder, config) = folder_of(&[("test.jsonl", rows("c", 6))]);
        let dataset = loaded(&config).unwrap();
        assert_eq!(counts(&dataset), [0, 0, 0, 6]);
        let error = dataset.required(Role::Train).unwrap_err();
        assert_eq!(error.to_string(), "the train role has no rows: no file is named train");
        assert_eq!(dataset.required(Role::Test).unwrap().len(), 6);
    }

    #[test]
    fn an_empty_file_and_a_set_of_which_nothing_is_left_are_errors() {
        let (_folder, config) = folder_of(&[("train.jsonl", String::new())]);
        let message = loaded(&config).unwrap_err().to_string();
        assert!(message.ends_with("train.jsonl` has no rows"), "{message}");
        let (_folder, mut config) =
            folder_of(&[("test.jsonl", "{\"question\": \"\", \"choices\": [\"a\", \"b\"], \"answer\": 0}\n".into())]);
        (config.task, config.prompt, config.answers) = (Some("arc_easy".into()), None, None);
        let message = loaded(&config).unwrap_err().to_string();
        assert!(message.contains("1 rows left out: 2 choices where the task keeps 4"), "{message}");
        let (_folder, config) = folder_of(&[("train.jsonl", rows("a", 2))]);
        assert!(matches!(loaded(&config), Err(DataError::TooFewRows { found: 2, needed: 4, .. })));
    }

    #[test]
    fn the_same_questions_as_hub_parquet_and_as_authors_jsonl_give_the_same_prompts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test-00000-of-00001.parquet");
        let texts = vec![vec!["sun.", "moon", "earth", "mars"], vec!["x", "y", "z", "w"]];
        let labels = vec![vec!["A", "B", "C", "D"], vec!["1", "2", "3", "4"]];
        let (ids, questions, keys) = (vec!["p", "q"], vec!["Which star?", "Which letter?"], vec!["A", "3"]);
        write(
            &path,
            ARC,
            vec![Column::Texts(ids), Column::Texts(questions), Column::Lists(texts), Column::Lists(labels), Column::Texts(keys)],
        );
        let jsonl = folder.path().join("test.jsonl");
        fs::write(
            &jsonl,
            r#"{"id":"p","question":{"stem":"Which star?","choices":[{"text":"sun.","label":"A"},{"text":"moon","label":"B"},{"text":"earth","label":"C"},{"text":"mars","label":"D"}]},"answerKey":"A"}
{"id":"q","question":{"stem":"Which letter?","choices":[{"text":"x","label":"1"},{"text":"y","label":"2"},{"text":"z","label":"3"},{"text":"w","label":"4"}]},"answerKey":"3"}"#,
        )
        .unwrap();
        let task = Task::named("arc_challenge").unwrap();
        let (hub, authors) = (load_file(&path, &task).unwrap(), load_file(&jsonl, &task).unwrap());
        assert_eq!(hub.examples, authors.examples);
        assert_eq!(hub.examples[1].label, Some(2));
        assert!(hub.examples[0].prompt.text().ends_with("Choices: A. Sun. B. Moon. C. Earth. D. Mars. Answer:"));
    }

    #[test]
    fn glue_s_tsv_and_the_hub_s_parquet_of_sst2_and_rte_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let tsv = folder.path().join("train.tsv");
        fs::write(&tsv, "sentence\tlabel\nhide new secretions \t0\n\"bold\" \t1\n").unwrap();
        let task = Task::named("sst2").unwrap();
        let glue = load_file(&tsv, &task).unwrap().examples;
        let parquet = folder.path().join("train.parquet");
        let schema = "message m { REQUIRED BYTE_ARRAY sentence (UTF8); REQUIRED INT64 label; REQUIRED INT64 idx; }";
        let columns =
            vec![Column::Texts(vec!["hide new secretions ", "\"bold\" "]), Column::Numbers(vec![0, 1]), Column::Numbers(vec![0, 1])];
        write(&parquet, schema, columns);
        let hub = load_file(&parquet, &task).unwrap().examples;
        for (one, other) in glue.iter().zip(&hub) {
            assert_eq!((&one.prompt, one.label), (&other.prompt, other.label));
        }
        assert_eq!((glue[0].id.as_str(), hub[1].id.as_str(), hub[1].label), ("train-2", "train-1", Some(1)));
        fs::write(&tsv, "index\tsentence1\tsentence2\tlabel\n0\tIt rains.\tIt is wet.\tentailment\n1\tA.\tB.\tnot_entailment\n").unwrap();
        let rte = load_file(&tsv, &Task::named("rte").unwrap()).unwrap().examples;
        assert_eq!(rte.iter().map(|example| example.label).collect::<Vec<_>>(), [Some(0), Some(1)]);
        assert!(rte[0].prompt.text().ends_with("First: It rains. Second: It is wet. Answer:"));
    }

    #[test]
    fn boolq_of_authors_and_superglue_and_winogrande_s_options_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train.jsonl");
        fs::write(
            &path,
            "{\"question\": \"is it\", \"title\": \"It\", \"answer\": true, \"passage\": \"p\"}\n{\"question\": \"is it\", \"passage\": \"p\", \"idx\": 1, \"label\": 1}\n\
             {\"question\": \"is it\", \"passage\": \"p\", \"idx\": 2, \"label\": false}\n",
        )
        .unwrap();
        let boolq = load_file(&path, &Task::named("boolq").unwrap()).unwrap().examples;
        assert_eq!(boolq.iter().map(|example| example.label).collect::<Vec<_>>(), [Some(1), Some(1), Some(0)]);
        fs::write(
            &path,
            "{\"qID\": \"3-1\", \"sentence\": \"The _ won.\", \"option1\": \"cat\", \"option2\": \"dog\", \"answer\": \"2\"}\n",
        )
        .unwrap();
        let winogrande = load_file(&path, &Task::named("winogrande_m").unwrap()).unwrap().examples;
        assert_eq!((winogrande[0].id.as_str(), winogrande[0].label), ("3-1", Some(1)));
        assert!(winogrande[0].prompt.text().ends_with("The _ won. Choices: A. cat. B dog. Answer:"));
    }

    /// Where the public data sets lie, see the README there; none if they are not on this machine.
    fn public_data() -> Option<PathBuf> {
        let beside = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data"));
        let folder = std::env::var_os("IVON_LORA_DATA").map_or_else(beside, PathBuf::from);
        if !folder.is_dir() {
            eprintln!("skipped: no public data at `{}`, set IVON_LORA_DATA", folder.display());
            return None;
        }
        Some(folder)
    }

    /// Rows kept, and the first 16 hexadecimal digits of the SHA-256 over `prompt TAB label LF` of each of them, made
    /// with the functions `prompt` and `sentence` of the reference `finetune.py` over the files of the public data.
    const REFERENCE: [(&str, &str, usize, &str); 20] = [
        ("winogrande_s", "train", 640, "abd53015008f0c5d"),
        ("winogrande_s", "validation", 1267, "00ccc1b848f388c3"),
        ("winogrande_m", "train", 2558, "d09d412d5a75d074"),
        ("winogrande_m", "validation", 1267, "00ccc1b848f388c3"),
        ("arc_easy", "train", 2241, "e8a7f6fc8abde667"),
        ("arc_easy", "validation", 567, "0ffc8af357a9f0f0"),
        ("arc_easy", "test", 2365, "6878a48e5e756354"),
        ("arc_challenge", "train", 1117, "09a05a2a491e5311"),
        ("arc_challenge", "validation", 295, "a45ccb1c8f9974d1"),
        ("arc_challenge", "test", 1165, "7884c9e80433aa3d"),
        ("openbookqa", "train", 4957, "87827d1e726637a3"),
        ("openbookqa", "validation", 500, "4eed89f6d1b90dcd"),
        ("openbookqa", "test", 500, "abbaf27745417fc1"),
        ("boolq", "train", 2000, "d64b8817dfb4459d"),
        ("boolq", "validation", 3270, "b1bade0a5dd24068"),
        ("rte", "train", 2490, "48daea7404310976"),
        ("rte", "validation", 277, "974c5173f2b6caa4"),
        ("sst2", "train", 8000, "4c6187bb6aa071fd"),
        ("sst2", "validation", 872, "e03320ae73432abb"),
        ("mmlu_physics", "test", 253, "f83229247afd5c16"),
    ];

    #[test]
    fn every_prompt_of_the_public_data_is_the_reference_s() {
        let Some(folder) = public_data() else { return };
        for (name, split, count, digits) in REFERENCE {
            let task = Task::named(if name.starts_with("mmlu") { "multiple_choice" } else { name }).unwrap();
            let source = load_file(&folder.join(name).join(format!("{split}.jsonl")), &task).unwrap();
            let mut hash = Sha256::new();
            for example in &source.examples {
                hash.update(format!("{}\t{}\n", example.prompt.text(), example.label.unwrap()));
            }
            let found: String = hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
            assert_eq!((source.examples.len(), found.as_str()), (count, digits), "{name}/{split}");
        }
    }

    #[test]
    fn the_public_data_divide_into_roles_without_leaks() {
        let Some(folder) = public_data() else { return };
        for (name, expected) in [("arc_easy", [2015, 567, 224, 2365]), ("sst2", [6400, 800, 800, 872]), ("boolq", [1600, 200, 200, 3270])] {
            let config = DataConfig { path: folder.join(name), task: Some(name.into()), ..DataConfig::default() };
            let dataset = loaded(&config).unwrap();
            assert_eq!(counts(&dataset), expected, "{name}");
            let mut seen: BTreeMap<String, Role> = BTreeMap::new();
            for role in Role::ALL {
                for example in dataset.role(role) {
                    let before = seen.insert(example.prompt.text(), role);
                    assert!(before.is_none_or(|before| before == role), "{name}: {}", example.id);
                }
            }
        }
        let config = DataConfig { path: folder.join("mmlu_physics"), task: Some("multiple_choice".into()), ..DataConfig::default() };
        assert_eq!(counts(&loaded(&config).unwrap()), [0, 10, 0, 253]);
    }

    #[test]
    fn a_loaded_set_encodes_from_end_to_end() {
        let (_folder, config) = folder_of(&[("train.jsonl", rows("a", 20)), ("test.jsonl", rows("b", 5))]);
        let task = Task::from_config(&config).unwrap();
        let dataset = load(&config, &task).unwrap();
        let tokenizer = crate::data::testing::byte_level(&["Ġ y", "Ġ n"], false);
        let set = encode_all(dataset.required(Role::Train).unwrap(), &tokenizer, config.encode_options(&task)).unwrap();
        assert_eq!(set.examples.len(), dataset.train.len());
        assert!(set.examples.iter().all(|example| matches!(&example.choices, Choices::Tokens(tokens) if tokens.len() == 2)));
    }
}

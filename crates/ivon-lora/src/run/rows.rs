//! The rows of a run, read again: the files must be those that it was started with, and every row has
//! the role of `splits.json`. Otherwise the run might be tested on rows that it was trained on.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::{Provenance, RunConfig, RunError, SPLITS_FILE};
use crate::data::{self, DataConfig, Dataset, Example, FileReport, RoleIds, Task, sha256};
use crate::files;
use crate::watch::{Event, Watch};

const LARGEST: u64 = 1 << 30;
/// Digits of a hash in messages.
const SHOWN: usize = 12;

/// The rows of a run in the roles that they had.
///
/// # Errors
/// Whatever is wrong with the data, and if they have changed since the run was started.
pub fn rows_of_run(
    folder: &Path,
    config: &RunConfig,
    task: &Task,
    watch: Watch<'_>,
) -> Result<Dataset, RunError> {
    let dataset = data::load(&config.data, task)?;
    let provenance = config.provenance.clone().unwrap_or_default();
    let rows = RowsOfRun {
        folder,
        provenance: &provenance,
        config: &config.data,
        task,
    };
    Ok(rows.in_their_roles(&dataset, watch)?.into_owned())
}

/// A run's folder, and the data that it was started with.
pub(super) struct RowsOfRun<'a> {
    pub folder: &'a Path,
    pub provenance: &'a Provenance,
    pub config: &'a DataConfig,
    pub task: &'a Task,
}

impl RowsOfRun<'_> {
    /// These rows in the roles that the run gave them. `watch` hears if this version would give them
    /// others.
    ///
    /// # Errors
    /// [`RunError::OtherData`] if a file has changed, [`RunError::OtherRoles`] if a row of
    /// `splits.json` is missing or two rows have its id.
    pub fn in_their_roles<'d>(
        &self,
        dataset: &'d Dataset,
        watch: Watch<'_>,
    ) -> Result<Cow<'d, Dataset>, RunError> {
        check_files(self.folder, self.provenance, &dataset.report.files)?;
        let Some(ids) = read_roles(self.folder)?.filter(|ids| *ids != dataset.ids()) else {
            return Ok(Cow::Borrowed(dataset));
        };
        let cast = match dataset.report.files.is_empty() {
            // There are no rows besides those in memory.
            true => recast(dataset, &ids),
            false => recast(&all_rows(self.config, self.task)?, &ids),
        };
        let cast = cast.map_err(|reason| RunError::OtherRoles {
            folder: self.folder.into(),
            reason,
        })?;
        watch(Event::Note(format!(
            "this version would give rows of `{}` other roles than they had: they have those of its {SPLITS_FILE}",
            self.folder.display()
        )));
        Ok(Cow::Owned(Dataset {
            report: dataset.report.clone(),
            ..cast
        }))
    }
}

/// The rows of a data set without its limits: every row that a role may have had.
fn all_rows(config: &DataConfig, task: &Task) -> Result<Dataset, RunError> {
    let unlimited = DataConfig {
        train_limit: None,
        eval_limit: None,
        ..config.clone()
    };
    Ok(data::load(&unlimited, task)?)
}

/// Checks that a run has exactly these rows in exactly these roles.
///
/// # Errors
/// [`RunError::OtherData`] or [`RunError::OtherRoles`].
pub fn check_rows(
    folder: &Path,
    provenance: &Provenance,
    dataset: &Dataset,
) -> Result<(), RunError> {
    check_files(folder, provenance, &dataset.report.files)?;
    match read_roles(folder)? {
        Some(ids) if ids != dataset.ids() => {
            let reason = "this version carves them otherwise".into();
            Err(RunError::OtherRoles {
                folder: folder.into(),
                reason,
            })
        }
        _ => Ok(()),
    }
}

/// The files of a run that still exist but have changed since it was started.
pub fn changed_files(provenance: &Provenance) -> Vec<PathBuf> {
    let has_changed =
        |(path, hash): &&(String, String)| sha256(Path::new(path)).is_ok_and(|now| now != *hash);
    provenance
        .files
        .iter()
        .filter(has_changed)
        .map(|(path, _)| path.into())
        .collect()
}

fn check_files(
    folder: &Path,
    provenance: &Provenance,
    files: &[FileReport],
) -> Result<(), RunError> {
    let differences = differences(&provenance.files, files);
    // Older runs did not record their files.
    match provenance.files.is_empty() || differences.is_empty() {
        true => Ok(()),
        false => Err(RunError::OtherData {
            folder: folder.into(),
            differences,
        }),
    }
}

/// How the files of a run have changed. The folder may have moved, so that files are matched by name
/// and order.
fn differences(then: &[(String, String)], now: &[FileReport]) -> Vec<String> {
    let name = |path: &str| Path::new(path).file_name().map(|name| name.to_os_string());
    let mut left: Vec<&FileReport> = now.iter().collect();
    let mut found = Vec::new();
    for (path, hash) in then {
        let Some(place) = left.iter().position(|file| name(&file.path) == name(path)) else {
            found.push(format!("`{path}` is missing"));
            continue;
        };
        let file = left.remove(place);
        if file.sha256 != *hash {
            let short = |hash: &str| hash.chars().take(SHOWN).collect::<String>();
            found.push(format!(
                "`{}` has the SHA-256 {}…, it had {}…",
                file.path,
                short(&file.sha256),
                short(hash)
            ));
        }
    }
    found.extend(left.iter().map(|file| format!("`{}` is new", file.path)));
    found
}

/// The ids of `splits.json`; none if there is no such file.
fn read_roles(folder: &Path) -> Result<Option<RoleIds>, RunError> {
    let path = folder.join(SPLITS_FILE);
    if !path.exists() {
        return Ok(None);
    }
    let text = files::read_text(&path, LARGEST)?;
    let malformed = |error: serde_json::Error| RunError::Malformed {
        path: path.clone(),
        reason: error.to_string(),
    };
    Ok(Some(serde_json::from_str(&text).map_err(malformed)?))
}

/// The rows of `all` in these roles, or the reason why that is not possible.
fn recast(all: &Dataset, ids: &RoleIds) -> Result<Dataset, String> {
    let mut by_id: HashMap<&str, &Example> = HashMap::new();
    for example in [&all.train, &all.tune, &all.calibrate, &all.test]
        .into_iter()
        .flatten()
    {
        if by_id.insert(&example.id, example).is_some() {
            return Err(format!("two rows have the id `{}`", example.id));
        }
    }
    let of = |ids: &[String]| -> Result<Vec<Example>, String> {
        let row = |id: &String| {
            by_id
                .get(id.as_str())
                .map(|row| (*row).clone())
                .ok_or_else(|| format!("no row has the id `{id}`"))
        };
        ids.iter().map(row).collect()
    };
    Ok(Dataset {
        train: of(&ids.train)?,
        tune: of(&ids.tune)?,
        calibrate: of(&ids.calibrate)?,
        test: of(&ids.test)?,
        report: all.report.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with `data.jsonl` of twenty rows and a run's `splits.json`, and what
    /// [`rows_of_run`] is asked.
    struct Place {
        folder: tempfile::TempDir,
        config: RunConfig,
    }

    fn rows(range: std::ops::Range<usize>) -> String {
        range
            .map(|row| format!("{{\"text\": \"text {row}\", \"label\": {}}}\n", row % 2))
            .collect()
    }

    impl Place {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let data = DataConfig {
                path: folder.path().join("data.jsonl"),
                prompt: Some("{text}:".into()),
                answers: Some(vec!["no".into(), "yes".into()]),
                ..DataConfig::default()
            };
            let mut place = Self {
                folder,
                config: RunConfig {
                    data,
                    ..RunConfig::default()
                },
            };
            std::fs::write(&place.config.data.path, rows(0..20)).unwrap();
            let dataset = data::load(&place.config.data, &place.task()).unwrap();
            let files = dataset
                .report
                .files
                .iter()
                .map(|file| (file.path.clone(), file.sha256.clone()))
                .collect();
            place.config.provenance = Some(Provenance {
                files,
                ..Provenance::default()
            });
            place.write_roles(&dataset.ids());
            place
        }

        fn task(&self) -> Task {
            Task::from_config(&self.config.data).unwrap()
        }

        fn write_roles(&self, ids: &RoleIds) {
            std::fs::write(
                self.folder.path().join(SPLITS_FILE),
                serde_json::to_string(ids).unwrap(),
            )
            .unwrap();
        }

        fn read(&self) -> (Result<Dataset, RunError>, Vec<String>) {
            let mut said = Vec::new();
            let read = rows_of_run(
                self.folder.path(),
                &self.config,
                &self.task(),
                &mut |event| {
                    if let Event::Note(text) = event {
                        said.push(text);
                    }
                    true
                },
            );
            (read, said)
        }

        fn loaded(&self) -> Dataset {
            data::load(&self.config.data, &self.task()).unwrap()
        }
    }

    #[test]
    fn the_same_files_give_the_same_roles() {
        let place = Place::new();
        let (read, said) = place.read();
        assert_eq!((read.unwrap().ids(), said), (place.loaded().ids(), vec![]));
        assert!(
            check_rows(
                place.folder.path(),
                place.config.provenance.as_ref().unwrap(),
                &place.loaded()
            )
            .is_ok()
        );
    }

    #[test]
    fn a_row_more_is_refused_with_the_file_and_both_hashes() {
        let place = Place::new();
        std::fs::write(&place.config.data.path, rows(0..21)).unwrap();
        let error = place.read().0.unwrap_err();
        let message = error.to_string();
        let [now, then] = [
            &place.loaded().report.files[0].sha256,
            &place.config.provenance.as_ref().unwrap().files[0].1,
        ];
        assert!(
            message.contains("was started with other data: `"),
            "{message}"
        );
        assert!(
            message.ends_with(&format!(
                "data.jsonl` has the SHA-256 {}…, it had {}…",
                &now[..12],
                &then[..12]
            )),
            "{message}"
        );
        assert!(error.hint().unwrap().contains("`out`"));
        assert_eq!(
            changed_files(place.config.provenance.as_ref().unwrap()),
            vec![place.config.data.path]
        );
    }

    #[test]
    fn roles_that_would_be_carved_otherwise_today_are_those_of_the_run_and_that_is_said() {
        let place = Place::new();
        let mut ids = place.loaded().ids();
        // As another version carved them.
        let moved = ids.train.pop().unwrap();
        let other = std::mem::replace(&mut ids.test[0], moved);
        ids.train.push(other);
        place.write_roles(&ids);
        let (read, said) = place.read();
        assert_eq!(read.unwrap().ids(), ids);
        assert!(
            said[0].starts_with("this version would give rows of")
                && said[0].ends_with("those of its splits.json"),
            "{said:?}"
        );
        let error = check_rows(
            place.folder.path(),
            place.config.provenance.as_ref().unwrap(),
            &place.loaded(),
        )
        .unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("this version carves them otherwise"),
            "{error}"
        );
    }

    #[test]
    fn roles_that_name_no_row_are_refused() {
        let place = Place::new();
        let mut ids = place.loaded().ids();
        ids.test[0] = "gone".into();
        place.write_roles(&ids);
        let error = place.read().0.unwrap_err();
        assert!(
            error.to_string().ends_with("no row has the id `gone`"),
            "{error}"
        );
        assert!(error.hint().is_some());
    }

    #[test]
    fn files_that_are_missing_and_new_are_named() {
        let file = |path: &str, hash: &str| FileReport {
            path: path.into(),
            split: data::Split::Train,
            rows: 1,
            sha256: hash.into(),
        };
        let then = [
            ("old/train.jsonl".to_string(), "a".to_string()),
            ("old/test.jsonl".into(), "b".into()),
        ];
        assert_eq!(
            differences(
                &then,
                &[file("new/train.jsonl", "a"), file("new/test.jsonl", "b")]
            ),
            Vec::<String>::new()
        );
        assert_eq!(
            differences(
                &then,
                &[file("new/train.jsonl", "a"), file("new/dev.jsonl", "b")]
            ),
            ["`old/test.jsonl` is missing", "`new/dev.jsonl` is new"]
        );
    }
}

//! Which files of a folder have which role, by their names.
//!
//! `train.jsonl`, `tune.csv`, `validation.parquet` (also `dev`, `valid`, `val`), `calibrate.tsv`,
//! `test.jsonl`; the authors' `ARC-Easy-Train.jsonl` and `train_s.jsonl` (for `winogrande_s`); the
//! parts of a data set on the hub, `train-00000-of-00002.parquet`, in order, also in a `data/`
//! folder. Text files may be compressed: `train.csv.gz`.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::DataError;
use super::read::{EXTENSIONS, Format};
use super::role::Role;
use super::task::built_in;
use crate::files::FileError;

/// The maximum number of directory entries considered.
const MOST_NAMES: usize = 100_000;

/// The split that a file is named after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// For training; also a single file whose name has no role.
    Train,
    /// For choosing settings.
    Tune,
    /// For calibration.
    Calibrate,
    /// The test set if there is no test file, else for choosing settings.
    Validation,
    /// For the final scores.
    Test,
}

impl Split {
    /// All five, in order.
    pub const ALL: [Self; 5] = [
        Self::Train,
        Self::Tune,
        Self::Calibrate,
        Self::Validation,
        Self::Test,
    ];

    /// The split's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Tune => "tune",
            Self::Calibrate => "calibrate",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }

    /// A split by its name in a file name.
    fn by_word(word: &str) -> Option<Self> {
        match word {
            "train" => Some(Self::Train),
            "tune" => Some(Self::Tune),
            "calibrate" => Some(Self::Calibrate),
            "validation" | "valid" | "val" | "dev" => Some(Self::Validation),
            "test" => Some(Self::Test),
            _ => None,
        }
    }
}

impl From<Role> for Split {
    fn from(role: Role) -> Self {
        match role {
            Role::Train => Self::Train,
            Role::Tune => Self::Tune,
            Role::Calibrate => Self::Calibrate,
            Role::Test => Self::Test,
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// The files of one split, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitFiles {
    /// The split.
    pub split: Split,
    /// Its files; several if the data set is published in parts.
    pub paths: Vec<PathBuf>,
    /// Files with the same name in another format.
    pub aside: Vec<PathBuf>,
}

impl SplitFiles {
    /// Says which files with the same name are ignored, if `task` is one whose authors publish the
    /// same rows in several formats.
    ///
    /// # Errors
    /// [`DataError::AmbiguousFiles`] for all other tasks, because the files may have different
    /// rows.
    pub fn alone(&self, task: &str) -> Result<Option<String>, DataError> {
        let (Some(first), Some(second)) = (self.paths.first(), self.aside.first()) else {
            return Ok(None);
        };
        if !built_in(task).is_some_and(|task| task.is_published_twice) {
            let role = self.split.name().into();
            return Err(DataError::AmbiguousFiles {
                role,
                first: first.clone(),
                second: second.clone(),
            });
        }
        let aside: Vec<String> = self
            .aside
            .iter()
            .map(|path| format!("`{}`", path.display()))
            .collect();
        Ok(Some(format!(
            "`{}` is read, {} is left aside as the same rows in another format",
            first.display(),
            aside.join(", ")
        )))
    }
}

/// The files of a data set: those of a folder by their names, or one file. `task` selects among
/// WinoGrande's training files.
///
/// # Errors
/// If the path cannot be read, the folder has no file named after a split, or two files are named
/// after the same one.
pub fn find_files(path: &Path, task: &str) -> Result<Vec<SplitFiles>, DataError> {
    let refused = FileError::io("read", path);
    if !fs::metadata(path).map_err(refused)?.is_dir() {
        let split = named_after(path, task).map_or(Split::Train, |name| name.split);
        return Ok(vec![SplitFiles {
            split,
            paths: vec![path.into()],
            aside: Vec::new(),
        }]);
    }
    let names = readable_names(path)?;
    let named: Vec<(Name, PathBuf)> = names
        .iter()
        .filter_map(|path| Some((named_after(path, task)?, path.clone())))
        .collect();
    if named.is_empty() {
        let below = path.join("data");
        return if below.is_dir() {
            find_files(&below, task)
        } else {
            Err(no_split_files(path, &names))
        };
    }
    let of_split = |split| files_of(split, &named).transpose();
    Split::ALL.into_iter().filter_map(of_split).collect()
}

/// The files of one split, if there are any.
fn files_of(split: Split, named: &[(Name, PathBuf)]) -> Result<Option<SplitFiles>, DataError> {
    let of_split = |(name, _): &&(Name, PathBuf)| name.split == split;
    let candidates: Vec<_> = named.iter().filter(of_split).collect();
    if candidates.is_empty() {
        return Ok(None);
    }
    let (paths, aside) = chosen(split, &candidates)?;
    Ok(Some(SplitFiles {
        split,
        paths,
        aside,
    }))
}

fn no_split_files(folder: &Path, names: &[PathBuf]) -> DataError {
    let name = |path: &PathBuf| Some(path.file_name()?.to_string_lossy().into_owned());
    DataError::NoSplitFiles {
        folder: folder.into(),
        found: names.iter().filter_map(name).collect(),
    }
}

/// The parts of a file name.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Name {
    split: Split,
    /// The name without extension and part number: files that share it have the same data.
    stem: String,
    /// The number of a part, as in `train-00001-of-00003`.
    part: Option<u64>,
    /// The rank of the extension, the best first.
    rank: usize,
}

/// The files of one split among the candidates: all parts of one stem with the best extension, and
/// apart from them those with other extensions.
fn chosen(
    split: Split,
    candidates: &[&(Name, PathBuf)],
) -> Result<(Vec<PathBuf>, Vec<PathBuf>), DataError> {
    let candidates = by_precedence(candidates);
    let Some((first, _)) = candidates.first() else {
        return Ok(Default::default());
    };
    let other_formats = candidates.partition_point(|(name, _)| name.rank == first.rank);
    let (best, others) = candidates.split_at(other_formats);
    if let Some([first, second]) = ambiguous_pair(&candidates, best) {
        return Err(DataError::AmbiguousFiles {
            role: split.name().into(),
            first: first.clone(),
            second: second.clone(),
        });
    }
    let paths = |files: &[&(Name, PathBuf)]| files.iter().map(|(_, path)| path.clone()).collect();
    Ok((paths(best), paths(others)))
}

/// The candidates sorted by format and part. A file named just `train` excludes `ARC-Easy-Train`;
/// `valid` and `dev` are equal.
fn by_precedence<'a>(candidates: &[&'a (Name, PathBuf)]) -> Vec<&'a (Name, PathBuf)> {
    let exact = |name: &Name| Split::by_word(&name.stem).is_some();
    let any_exact = candidates.iter().any(|(name, _)| exact(name));
    let mut candidates = candidates.to_vec();
    candidates.retain(|(name, _)| exact(name) || !any_exact);
    candidates.sort_by_key(|(name, path)| (name.rank, name.part, path.clone()));
    candidates
}

/// Two files that may have different rows: with different stems, or with the `best` extension and
/// the same part number or none.
fn ambiguous_pair<'a>(
    candidates: &[&'a (Name, PathBuf)],
    best: &[&'a (Name, PathBuf)],
) -> Option<[&'a PathBuf; 2]> {
    let (first, path) = candidates.first()?;
    let other = candidates.iter().find(|(name, _)| name.stem != first.stem);
    if let Some((_, other)) = other {
        return Some([path, other]);
    }
    let mut neighbours = best.iter().zip(best.iter().skip(1));
    let (one, other) =
        neighbours.find(|(one, other)| one.0.part == other.0.part || one.0.part.is_none())?;
    Some([&one.1, &other.1])
}

/// The split that a file is named after, if its format is known.
fn named_after(path: &Path, task: &str) -> Option<Name> {
    Format::of(path)?;
    let name = path.file_name()?.to_string_lossy().to_lowercase();
    let (name, packed) = name
        .strip_suffix(".gz")
        .map_or((name.as_str(), 0), |name| (name, EXTENSIONS.len()));
    let (stem, extension) = name.rsplit_once('.')?;
    let rank = packed + EXTENSIONS.iter().position(|known| *known == extension)?;
    let (stem, part) = stem_and_part(stem);
    let words: Vec<&str> = stem.split(['-', '_', '.', ' ']).collect();
    let split = match words.as_slice() {
        // WinoGrande has training sets of several sizes in one folder.
        ["train", size @ ("xs" | "s" | "m" | "l" | "xl")] => {
            (built_in(task)?.train_size == Some(*size)).then_some(Split::Train)?
        }
        [.., last] => Split::by_word(last)?,
        [] => return None,
    };
    Some(Name {
        split,
        stem: stem.into(),
        part,
        rank,
    })
}

/// `train-00001-of-00003` → `train`, 1; other stems have no part number.
fn stem_and_part(stem: &str) -> (&str, Option<u64>) {
    match stem.split_once("-of-") {
        Some((before, count)) if all_digits(count) => match before.rsplit_once('-') {
            Some((stem, part)) if all_digits(part) => (stem, part.parse().ok()),
            _ => (stem, None),
        },
        _ => (stem, None),
    }
}

fn all_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The files of a folder, sorted by name.
fn readable_names(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let refused = FileError::io("read", folder);
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(refused)?.take(MOST_NAMES) {
        let path = entry.map_err(refused)?.path();
        if path.is_file() {
            names.push(path);
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(names: &[&str], task: &str) -> Result<Vec<(Split, Vec<String>)>, DataError> {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let name_of = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
        let files = find_files(folder.path(), task)?;
        Ok(files
            .into_iter()
            .map(|files| (files.split, files.paths.iter().map(name_of).collect()))
            .collect())
    }

    fn files(split: Split, names: &[&str]) -> (Split, Vec<String>) {
        (split, names.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn files_play_the_role_they_are_named_after() {
        let names = [
            "train.jsonl",
            "tune.csv",
            "calibrate.tsv",
            "dev.parquet",
            "Test.JSONL",
            "README.md",
        ];
        let expected = [
            files(Split::Train, &["train.jsonl"]),
            files(Split::Tune, &["tune.csv"]),
            files(Split::Calibrate, &["calibrate.tsv"]),
            files(Split::Validation, &["dev.parquet"]),
            files(Split::Test, &["Test.JSONL"]),
        ];
        assert_eq!(found(&names, "custom").unwrap(), expected);
    }

    #[test]
    fn the_names_of_authors_and_hub_are_understood() {
        let arc = [
            "ARC-Easy-Train.jsonl",
            "ARC-Easy-Train.csv",
            "ARC-Easy-Dev.jsonl",
            "ARC-Easy-Test.jsonl",
        ];
        assert_eq!(
            found(&arc, "arc_easy").unwrap()[0],
            files(Split::Train, &["ARC-Easy-Train.jsonl"])
        );
        let winogrande = [
            "train_s.jsonl",
            "train_m.jsonl",
            "train_s-labels.lst",
            "dev.jsonl",
        ];
        assert_eq!(
            found(&winogrande, "winogrande_m").unwrap()[0],
            files(Split::Train, &["train_m.jsonl"])
        );
        let hub = [
            "data/train-00001-of-00002.parquet",
            "data/train-00000-of-00002.parquet",
            "data/validation-00000-of-00001.parquet",
        ];
        let expected = files(
            Split::Train,
            &[
                "train-00000-of-00002.parquet",
                "train-00001-of-00002.parquet",
            ],
        );
        assert_eq!(found(&hub, "boolq").unwrap()[0], expected);
        let openbookqa = [
            "train.jsonl",
            "train.tsv",
            "dev.jsonl",
            "dev.tsv",
            "train_complete.jsonl",
        ];
        assert_eq!(
            found(&openbookqa, "openbookqa").unwrap()[0],
            files(Split::Train, &["train.jsonl"])
        );
    }

    #[test]
    fn the_same_name_in_two_formats_is_an_error_but_where_authors_publish_both() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["train.jsonl", "train.csv", "train.csv.gz"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let found = find_files(folder.path(), "custom").unwrap();
        let message = found[0].alone("custom").unwrap_err().to_string();
        assert!(
            message.contains("train.jsonl` and `")
                && message.ends_with("train.csv` could be the train file, expected one"),
            "{message}"
        );
        let note = found[0].alone("openbookqa").unwrap().unwrap();
        assert!(
            note.contains("train.jsonl` is read") && note.contains("train.csv.gz` is left aside"),
            "{note}"
        );
        assert_eq!(
            files(Split::Train, &["train.csv.gz"]),
            self::found(&["train.csv.gz"], "custom").unwrap()[0]
        );
    }

    #[test]
    fn two_files_for_one_role_are_an_error_and_so_is_none() {
        let message = found(&["dev.jsonl", "valid.jsonl"], "custom")
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("dev.jsonl")
                && message.contains("valid.jsonl")
                && message.ends_with("could be the validation file, expected one"),
            "{message}"
        );
        let error = found(&["a.jsonl", "b.csv"], "custom").unwrap_err();
        assert!(
            error.to_string().ends_with("found `a.jsonl`, `b.csv`"),
            "{error}"
        );
        assert!(
            error
                .hint()
                .unwrap()
                .contains("one file instead of a folder")
        );
        assert!(matches!(
            find_files(Path::new("/nowhere"), "custom"),
            Err(DataError::File(_))
        ));
    }
}

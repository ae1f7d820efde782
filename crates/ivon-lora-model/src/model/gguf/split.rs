//! A model split into several GGUF files by `llama-gguf-split`: which part each file is, and
//! whether all are present.
//!
//! The first part has the metadata; every part states its number and the number of parts, and has
//! some of the tensors.

use std::path::{Path, PathBuf};

use super::reader::GgufFile;
use super::value::TensorEntry;
use crate::model::error::ModelError;
use crate::model::mapped::file_name;

/// The position of a file among the parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    /// Counted from 1.
    pub number: usize,
    /// How many there are.
    pub count: usize,
}

impl Part {
    /// The position stated in the metadata of a file; 1 of 1 if they do not state one.
    ///
    /// # Errors
    /// If a key has the wrong type.
    pub fn of(file: &GgufFile) -> Result<Self, ModelError> {
        let count = file.unsigned("split.count")?.unwrap_or(1).max(1);
        let number = file.unsigned("split.no")?.unwrap_or(0).saturating_add(1);
        Ok(Self { number, count })
    }

    /// The end of a part's file name, in llama.cpp's convention.
    fn ending(self) -> String {
        format!("-{:05}-of-{:05}.gguf", self.number, self.count)
    }
}

/// The part according to a name: `NAME-00002-of-00003.gguf` is the second of three.
pub(in crate::model) fn part_of_name(name: &str) -> Option<(usize, usize)> {
    let (rest, count) = name.strip_suffix(".gguf")?.rsplit_once("-of-")?;
    let (_, number) = rest.rsplit_once('-')?;
    let digits = |text: &str| {
        (text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| text.parse().ok())
            .flatten()
    };
    Some((digits(number)?, digits(count)?))
}

impl GgufFile {
    /// Maps a file and reads its headers; for the first part of a split model, also those of the
    /// other parts.
    ///
    /// # Errors
    /// If it cannot be read, is not GGUF of version 2 or 3, is malformed or truncated, is a part of
    /// a split model other than the first, or other parts are missing.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let mut whole = Self::open_one(path)?;
        let part = Part::of(&whole)?;
        if part.count == 1 {
            return Ok(whole);
        }
        for (index, path) in other_parts(path, part)?.iter().enumerate() {
            whole.add(
                Self::open_one(path)?,
                Part {
                    number: index + 2,
                    ..part
                },
            )?;
        }
        check_tensors(&whole)?;
        Ok(whole)
    }

    fn add(&mut self, other: Self, part: Part) -> Result<(), ModelError> {
        check(&other, part)?;
        other.release_metadata();
        self.others.push(other.file);
        for (name, entry) in other.tensors {
            if let Some(twice) = self.tensors.insert(
                name.clone(),
                TensorEntry {
                    part: self.others.len(),
                    ..entry
                },
            ) {
                let reason = format!(
                    "tensor `{name}` is in two of its parts, {} and {}",
                    twice.part + 1,
                    part.number
                );
                return Err(ModelError::Malformed {
                    file: self.name(),
                    reason,
                });
            }
        }
        Ok(())
    }
}

/// The files of the parts after the first, in order.
///
/// # Errors
/// [`ModelError::Split`] if `part` is not the first, its file is not named like a first part, or
/// another part is missing.
fn other_parts(path: &Path, part: Part) -> Result<Vec<PathBuf>, ModelError> {
    let name = file_name(path);
    let said = format!("part {} of {} of a split model", part.number, part.count);
    let wrong = |expected: String, hint: String| ModelError::Split {
        file: name.clone(),
        found: said.clone(),
        expected,
        hint: hint.into(),
    };
    let Some(stem) = name.strip_suffix(&part.ending()) else {
        let expected = format!(
            "a name that ends in `{}`, by which the other parts are found",
            part.ending()
        );
        return Err(wrong(
            expected,
            "give the parts the names back that they were made with".into(),
        ));
    };
    let of = |number: usize| format!("{stem}{}", Part { number, ..part }.ending());
    if part.number != 1 {
        let first = of(1);
        let hint = hint_on_first(&path.with_file_name(&first), part.count);
        return Err(wrong(format!("the first part, `{first}`"), hint));
    }
    let mut parts = Vec::new();
    for number in 2..=part.count {
        let path = path.with_file_name(of(number));
        if !path.is_file() {
            return Err(wrong(
                format!("`{}` beside it", of(number)),
                "fetch the missing parts into the same folder".into(),
            ));
        }
        parts.push(path);
    }
    Ok(parts)
}

fn hint_on_first(first: &Path, count: usize) -> String {
    if first.exists() {
        let first = first.display();
        format!("name `{first}` instead: the other parts are found beside it")
    } else {
        format!("fetch all {count} parts into one folder, and name the first")
    }
}

/// Checks that a file states the expected position.
///
/// # Errors
/// [`ModelError::Split`] if it states another.
fn check(file: &GgufFile, expected: Part) -> Result<(), ModelError> {
    let found = Part::of(file)?;
    if found == expected {
        return Ok(());
    }
    Err(ModelError::Split {
        file: file.name(),
        found: format!("part {} of {} by its own words", found.number, found.count),
        expected: format!("part {} of {}", expected.number, expected.count),
        hint: "fetch all parts again: they are not of one split".into(),
    })
}

/// Checks the total number of tensors, which the first part states.
///
/// # Errors
/// [`ModelError::Split`] if there are more or fewer.
fn check_tensors(file: &GgufFile) -> Result<(), ModelError> {
    let found = file.tensors().len();
    match file.unsigned("split.tensors.count")? {
        Some(expected) if expected != found => Err(ModelError::Split {
            file: file.name(),
            found: format!("a split model with {found} tensors in all parts"),
            expected: format!("{expected} tensors"),
            hint: "fetch all parts again: they are not of one split".into(),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Encoding;
    use crate::model::gguf::{GgufWriter, Metadata};

    /// A part with one tensor of one number.
    fn part(
        folder: &Path,
        name: &str,
        [number, count, tensors]: [u32; 3],
        tensor: &str,
    ) -> PathBuf {
        let mut writer = GgufWriter::new("llama");
        for (key, value) in [
            ("split.no", number - 1),
            ("split.count", count),
            ("split.tensors.count", tensors),
        ] {
            writer.set(key, Metadata::U32(value));
        }
        writer.tensor(tensor, &[1], Encoding::F32).unwrap();
        let path = folder.join(name);
        writer.write_f32(&path, |_| vec![number as f32]).unwrap();
        path
    }

    fn sentence(path: &Path) -> (String, String) {
        let error = GgufFile::open(path).unwrap_err();
        (error.to_string(), error.hint().unwrap().to_string())
    }

    #[test]
    fn the_first_part_opens_all_of_them() {
        let folder = tempfile::tempdir().unwrap();
        let first = part(folder.path(), "m-00001-of-00003.gguf", [1, 3, 3], "a");
        part(folder.path(), "m-00002-of-00003.gguf", [2, 3, 3], "b");
        part(folder.path(), "m-00003-of-00003.gguf", [3, 3, 3], "c");
        let file = GgufFile::open(&first).unwrap();
        assert_eq!(file.tensors().keys().collect::<Vec<_>>(), ["a", "b", "c"]);
        for (name, value) in [("a", 1f32), ("b", 2.0), ("c", 3.0)] {
            assert_eq!(file.bytes(&file.tensors()[name]), value.to_le_bytes());
        }
    }

    #[test]
    fn every_part_must_be_there_and_be_what_its_name_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let second = part(path, "m-00002-of-00002.gguf", [2, 2, 2], "b");
        let (message, hint) = sentence(&second);
        assert_eq!(
            message,
            "`m-00002-of-00002.gguf` is part 2 of 2 of a split model, expected the first part, `m-00001-of-00002.gguf`"
        );
        assert!(hint.contains("fetch all 2 parts"), "{hint}");
        let first = part(path, "m-00001-of-00002.gguf", [1, 2, 2], "a");
        assert!(
            sentence(&second).1.contains("m-00001-of-00002.gguf"),
            "{:?}",
            sentence(&second)
        );
        std::fs::remove_file(&second).unwrap();
        let (message, hint) = sentence(&first);
        assert_eq!(
            message,
            "`m-00001-of-00002.gguf` is part 1 of 2 of a split model, expected `m-00002-of-00002.gguf` beside it"
        );
        assert!(hint.contains("missing parts"), "{hint}");
        part(path, "m-00002-of-00002.gguf", [2, 3, 2], "b");
        assert_eq!(
            sentence(&first).0,
            "`m-00002-of-00002.gguf` is part 2 of 3 by its own words, expected part 2 of 2"
        );
        part(path, "m-00002-of-00002.gguf", [2, 2, 2], "a");
        assert!(
            sentence(&first)
                .0
                .contains("tensor `a` is in two of its parts"),
            "{:?}",
            sentence(&first)
        );
        let renamed = part(path, "model.gguf", [1, 2, 2], "a");
        assert!(sentence(&renamed).0.ends_with("expected a name that ends in `-00001-of-00002.gguf`, by which the other parts are found"));
        let first = part(path, "m-00001-of-00002.gguf", [1, 2, 5], "a");
        part(path, "m-00002-of-00002.gguf", [2, 2, 5], "b");
        assert!(
            sentence(&first)
                .0
                .ends_with("a split model with 2 tensors in all parts, expected 5 tensors")
        );
    }

    #[test]
    fn a_part_is_told_by_its_name() {
        assert_eq!(part_of_name("a-b-00002-of-00010.gguf"), Some((2, 10)));
        for name in [
            "a.gguf",
            "a-2-of-3.gguf",
            "a-00001-of-00002.bin",
            "a-0000x-of-00002.gguf",
            "",
        ] {
            assert_eq!(part_of_name(name), None, "{name}");
        }
    }
}

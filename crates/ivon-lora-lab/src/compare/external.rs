//! Predictions of another program for a task's test rows → rows of the same table.
//!
//! The schema, version 1: a JSON object on each line with `id` (the example's), `probabilities`
//! (one for each choice, in the order of the task's answers, summing to 1), and optionally `label` (the
//! right choice, from 0, or its word), which must be that of the task. Any line may have a
//! `format_version`; other fields are not read, so that a run's own `predictions.jsonl` is such a file.

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;

use super::CompareError;
use ivon_lora::data::Example;
use ivon_lora::files;
use ivon_lora::metrics::{MetricsError, Predictions};

/// The newest version of a line that is read.
const PREDICTIONS_FORMAT: u32 = 1;
const LARGEST: u64 = 1 << 30;

#[derive(Debug, Deserialize)]
struct Line {
    #[serde(default)]
    format_version: Option<u32>,
    id: String,
    #[serde(default)]
    label: Option<Class>,
    probabilities: Vec<f64>,
}

/// A choice, by its place or by its word.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Class {
    Place(i64),
    Word(String),
}

impl Class {
    /// Its place among the answers; none if it is not one of them.
    fn place(&self, answers: &[String]) -> Option<usize> {
        match self {
            Self::Place(place) => usize::try_from(*place)
                .ok()
                .filter(|place| *place < answers.len()),
            Self::Word(word) => answers.iter().position(|answer| answer == word),
        }
    }
}

impl std::fmt::Display for Class {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Place(place) => write!(formatter, "{place}"),
            Self::Word(word) => write!(formatter, "`{word}`"),
        }
    }
}

/// Reads a file of predictions, in the order of `test`. Lines with other ids are ignored.
///
/// # Errors
/// [`CompareError::Predictions`] if a line is malformed or of a newer version, a test row has no line or
/// two, or a label differs.
pub fn read(path: &Path, test: &[&Example]) -> Result<Predictions, CompareError> {
    let text = files::read_text(path, LARGEST)?;
    predictions(&text, test).map_err(|reason| CompareError::Predictions {
        path: path.into(),
        reason,
    })
}

/// The predictions of a file, or the reason why there are none.
fn predictions(text: &str, test: &[&Example]) -> Result<Predictions, String> {
    let mut lines = lines(text)?;
    let mut rows = Vec::with_capacity(test.len());
    let mut labels = Vec::with_capacity(test.len());
    for example in test {
        let id = &example.id;
        let line = lines
            .remove(id)
            .ok_or_else(|| format!("example `{id}` of the test rows is missing"))?;
        let label = example
            .label
            .ok_or_else(|| format!("example `{id}` has no label to score against"))?;
        if let Some(class) = &line.label {
            check_label(example, class, label)?;
        }
        let (found, expected) = (line.probabilities.len(), example.answers.len());
        if found != expected {
            return Err(format!(
                "example `{id}` has {found} probabilities, expected {expected}"
            ));
        }
        rows.push(line.probabilities);
        labels.push(label);
    }
    Predictions::from_probabilities(rows, labels).map_err(|error| match error {
        MetricsError::NotADistribution { example, found } => {
            let id = test.get(example).map_or("", |example| &example.id);
            format!("example `{id}` has {found}, expected probabilities that sum to 1")
        }
        other => other.to_string(),
    })
}

/// The lines of a file by their ids.
fn lines(text: &str) -> Result<HashMap<String, Line>, String> {
    let mut lines: HashMap<String, Line> = HashMap::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let number = index + 1;
        let line: Line =
            serde_json::from_str(line).map_err(|error| format!("line {number}: {error}"))?;
        if let Some(version) = line.format_version
            && version > PREDICTIONS_FORMAT
        {
            return Err(format!(
                "line {number} has format version {version}, expected at most {PREDICTIONS_FORMAT}"
            ));
        }
        if let Some(other) = lines.insert(line.id.clone(), line) {
            return Err(format!("example `{}` is there twice", other.id));
        }
    }
    Ok(lines)
}

/// Checks that a line's class is the task's label.
fn check_label(example: &Example, class: &Class, label: usize) -> Result<(), String> {
    let id = &example.id;
    match class.place(&example.answers) {
        Some(there) if there == label => Ok(()),
        Some(_) => Err(format!(
            "example `{id}` has label {class}, the task's is {label}"
        )),
        None => {
            let answers: Vec<String> = example
                .answers
                .iter()
                .map(|answer| format!("`{answer}`"))
                .collect();
            let last = answers.len().saturating_sub(1);
            Err(format!(
                "example `{id}` has label {class}, expected a place from 0 to {last} or one of {}",
                answers.join(", ")
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test_rows() -> Vec<Example> {
        let answers: std::sync::Arc<[String]> = ["no".to_string(), "yes".into()].into();
        let row = |id: &str, label| Example {
            label: Some(label),
            ..Example::from_prompt(id, "?", std::sync::Arc::clone(&answers))
        };
        vec![row("a", 0), row("b", 1)]
    }

    fn of(text: &str) -> Result<Predictions, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.jsonl");
        std::fs::write(&path, text).unwrap();
        read(&path, &test_rows().iter().collect::<Vec<_>>()).map_err(|error| {
            error
                .to_string()
                .split_once("cannot be used: ")
                .unwrap()
                .1
                .to_string()
        })
    }

    const B: &str = "{\"id\":\"b\",\"label\":1,\"probabilities\":[0.25,0.75],\"answer\":\"yes\"}\n";

    #[test]
    fn lines_are_put_in_the_order_of_the_rows() {
        let predictions =
            of(&format!("{B}\n{{\"id\":\"a\",\"probabilities\":[1,0],\"format_version\":1}}\n{{\"id\":\"c\",\"probabilities\":[]}}"))
                .unwrap();
        assert_eq!(predictions.probabilities(), [[1.0, 0.0], [0.25, 0.75]]);
        assert_eq!(predictions.labels(), [0, 1]);
        let by_word = of(&format!(
            "{B}{{\"id\":\"a\",\"label\":\"no\",\"probabilities\":[1,0]}}"
        ))
        .unwrap();
        assert_eq!(by_word.labels(), [0, 1]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let a = |rest: &str| of(&format!("{B}{{\"id\":\"a\",{rest}}}\n")).unwrap_err();
        assert_eq!(
            of(B).unwrap_err(),
            "example `a` of the test rows is missing"
        );
        assert_eq!(
            of(&format!("{B}{B}")).unwrap_err(),
            "example `b` is there twice"
        );
        assert_eq!(
            a("\"label\":1,\"probabilities\":[1,0]"),
            "example `a` has label 1, the task's is 0"
        );
        assert_eq!(
            a("\"probabilities\":[1]"),
            "example `a` has 1 probabilities, expected 2"
        );
        assert_eq!(
            a("\"label\":\"yes\",\"probabilities\":[1,0]"),
            "example `a` has label `yes`, the task's is 0"
        );
        assert_eq!(
            a("\"label\":7,\"probabilities\":[1,0]"),
            "example `a` has label 7, expected a place from 0 to 1 or one of `no`, `yes`"
        );
        let unknown = a("\"label\":\"maybe\",\"probabilities\":[1,0]");
        assert_eq!(
            unknown,
            "example `a` has label `maybe`, expected a place from 0 to 1 or one of `no`, `yes`"
        );
        let sum = a("\"probabilities\":[1,1]");
        assert_eq!(
            sum,
            "example `a` has probabilities that sum to 2, expected probabilities that sum to 1"
        );
        assert_eq!(
            a("\"format_version\":2,\"probabilities\":[1,0]"),
            "line 2 has format version 2, expected at most 1"
        );
        assert!(a("\"probabilities\":3").starts_with("line 2: invalid type"));
    }
}

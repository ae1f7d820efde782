//! A data set: files, rows, fields, label counts. Needs no task.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use ivon_lora::data::{
    Continue, DropReason, Drops, Row, RowOutcome, Rows, Task, find_files, for_each_row,
};
use serde::Serialize;
use serde_json::Value;

use super::Overview;
use crate::exit::Failure;

/// Fields whose values are counted as labels.
const LABELS: [&str; 3] = ["label", "answer", "answerKey"];
/// A field with more distinct values than this is not a label.
const MOST_LABELS: usize = 100;

/// A data set at a glance.
#[derive(Debug, Serialize)]
pub struct DataOverview {
    path: String,
    /// The task detected from the data.
    task: Option<&'static str>,
    files: Vec<FileOverview>,
    /// Notes on the rows, one sentence each.
    notes: Vec<String>,
}

/// One file.
#[derive(Debug, Serialize)]
struct FileOverview {
    path: String,
    split: &'static str,
    rows: usize,
    /// Number of rows with each field; null does not count.
    fields: BTreeMap<String, usize>,
    /// Number of rows with each value of each label field.
    labels: BTreeMap<&'static str, BTreeMap<String, usize>>,
    /// Number of rows in which each field is an empty string.
    empty: BTreeMap<String, usize>,
}

/// Reads all files of a data set.
///
/// # Errors
/// If there are none, or one is malformed.
pub fn inspect(path: &Path) -> Result<DataOverview, Failure> {
    let mut seen = DataOverview {
        path: path.display().to_string(),
        task: None,
        files: Vec::new(),
        notes: Vec::new(),
    };
    let mut first = None;
    for split in find_files(path, "")? {
        for file in &split.paths {
            let mut found = FileOverview {
                path: file.display().to_string(),
                split: split.split.name(),
                rows: 0,
                fields: BTreeMap::new(),
                labels: BTreeMap::new(),
                empty: BTreeMap::new(),
            };
            let notes = for_each_row(file, &mut |row| {
                found.add(&row);
                first.get_or_insert(row);
                Ok(Continue::Yes)
            })?;
            seen.notes.extend(notes);
            found.labels.retain(|_, values| values.len() <= MOST_LABELS);
            seen.files.push(found);
        }
    }
    seen.task = Task::detect(path, first.as_ref());
    if let Some(task) = seen.task {
        seen.notes.extend(left_out(path, task)?);
    }
    Ok(seen)
}

/// What the detected task leaves out of each file, worded as by `train`.
fn left_out(path: &Path, name: &str) -> Result<Vec<String>, Failure> {
    let prepared = Task::named(name)?.reader()?;
    let mut said = Vec::new();
    for split in find_files(path, name)? {
        match split.alone(name) {
            Ok(aside) => said.extend(aside),
            Err(error) => said.push(error.to_string()),
        }
        let mut drops = Drops::default();
        let (mut rows, mut unreadable) = (0, None);
        for file in &split.paths {
            for row in Rows::open(file)? {
                let row = row?;
                rows += 1;
                let id = row.place.to_string();
                match prepared.example(row, None) {
                    Ok(RowOutcome::Dropped { id, reason }) => drops.add(reason, &id),
                    Ok(RowOutcome::Example(_)) => {}
                    Err(error) => {
                        drops.add(DropReason::Unreadable, &id.replace('`', ""));
                        unreadable.get_or_insert(error);
                    }
                }
            }
        }
        let set = format!("the {} file, as rows of {name}", split.split);
        said.extend(drops.sentences(&set, rows));
        said.extend(
            unreadable.map(|error| format!("{set}: the first that is not readable: {error}")),
        );
    }
    Ok(said)
}

impl FileOverview {
    fn add(&mut self, row: &Row) {
        self.rows += 1;
        for (name, value) in &row.fields {
            if !value.is_null() {
                *self.fields.entry(name.clone()).or_default() += 1;
            }
            if value.as_str().is_some_and(|text| text.trim().is_empty()) {
                *self.empty.entry(name.clone()).or_default() += 1;
            }
            let Some(label) = LABELS.into_iter().find(|label| label == name) else {
                continue;
            };
            let values = self.labels.entry(label).or_default();
            // One value beyond the limit shows that the field is not a label.
            if values.len() <= MOST_LABELS {
                *values.entry(shown(value)).or_default() += 1;
            }
        }
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.chars().take(40).collect(),
        other => other.to_string().chars().take(40).collect(),
    }
}

impl Overview for DataOverview {
    fn text(&self) -> String {
        let task = self
            .task
            .map_or("no built-in task is told by the data".into(), |task| {
                format!("looks like the task {task}")
            });
        let mut text = format!("{}: {task}\n", self.path);
        for file in &self.files {
            let _ = writeln!(text, "\n{} ({}): {} rows", file.path, file.split, file.rows);
            let field = |(name, rows): (&String, &usize)| {
                if *rows == file.rows {
                    name.clone()
                } else {
                    format!("{name} ({rows})")
                }
            };
            let _ = writeln!(
                text,
                "  fields  {}",
                file.fields.iter().map(field).collect::<Vec<_>>().join(", ")
            );
            for (name, rows) in &file.empty {
                let _ = writeln!(text, "  {name} is empty in {rows} of {} rows", file.rows);
            }
            for (name, values) in &file.labels {
                let counts = values
                    .iter()
                    .map(|(value, rows)| format!("{value}: {rows}"))
                    .collect::<Vec<_>>()
                    .join(", ");
                let _ = writeln!(text, "  {name}  {counts}");
            }
        }
        if !self.notes.is_empty() {
            let _ = writeln!(text, "\n{}", self.notes.join("\n"));
        }
        text
    }
}

//! A data set: files, rows, fields, label counts. Needs no task.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use ivon_lora::data::{Continue, Row, Task, find_files, for_each_row};
use serde::Serialize;
use serde_json::Value;

use super::Seen;
use crate::exit::Failure;

/// Fields whose values are counted as labels.
const LABELS: [&str; 3] = ["label", "answer", "answerKey"];
/// A field with more values than this is no label.
const MOST_LABELS: usize = 100;

/// A data set at a glance.
#[derive(Debug, Serialize)]
pub struct DataSeen {
    path: String,
    /// The task that the data look like.
    task: Option<&'static str>,
    files: Vec<FileSeen>,
}

/// One file.
#[derive(Debug, Serialize)]
struct FileSeen {
    path: String,
    split: &'static str,
    rows: usize,
    /// Rows that have each field.
    fields: BTreeMap<String, usize>,
    /// Rows with each value of each label field.
    labels: BTreeMap<&'static str, BTreeMap<String, usize>>,
}

/// Reads all files of a data set.
///
/// # Errors
/// If there are none, or one is malformed.
pub fn inspect(path: &Path) -> Result<DataSeen, Failure> {
    let mut seen = DataSeen { path: path.display().to_string(), task: None, files: Vec::new() };
    let mut first = None;
    for split in find_files(path, "")? {
        for file in &split.paths {
            let mut found = FileSeen {
                path: file.display().to_string(),
                split: split.split.name(),
                rows: 0,
                fields: BTreeMap::new(),
                labels: BTreeMap::new(),
            };
            for_each_row(file, &mut |row| {
                found.add(&row);
                first.get_or_insert(row);
                Ok(Continue::Yes)
            })?;
            found.labels.retain(|_, values| values.len() <= MOST_LABELS);
            seen.files.push(found);
        }
    }
    seen.task = Task::detect(path, first.as_ref());
    Ok(seen)
}

impl FileSeen {
    fn add(&mut self, row: &Row) {
        self.rows += 1;
        for (name, value) in &row.fields {
            *self.fields.entry(name.clone()).or_default() += 1;
            let Some(label) = LABELS.into_iter().find(|label| label == name) else { continue };
            let values = self.labels.entry(label).or_default();
            // One beyond the limit tells that it is none.
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

impl Seen for DataSeen {
    fn text(&self) -> String {
        let task = self.task.map_or("no built-in task is told by the data".into(), |task| format!("looks like the task {task}"));
        let mut text = format!("{}: {task}\n", self.path);
        for file in &self.files {
            let _ = writeln!(text, "\n{} ({}): {} rows", file.path, file.split, file.rows);
            let field = |(name, rows): (&String, &usize)| if *rows == file.rows { name.clone() } else { format!("{name} ({rows})") };
            let _ = writeln!(text, "  fields  {}", file.fields.iter().map(field).collect::<Vec<_>>().join(", "));
            for (name, values) in &file.labels {
                let counts = values.iter().map(|(value, rows)| format!("{value}: {rows}")).collect::<Vec<_>>().join(", ");
                let _ = writeln!(text, "  {name}  {counts}");
            }
        }
        text
    }
}

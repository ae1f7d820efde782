//! A run: its settings, its scores, and what was wrong with it, each with a remedy.

use std::fmt::Write;
use std::path::Path;

use ivon_lora::files;
use ivon_lora::report::{Finding, Record, Severity, StepRecord, findings, read_records};
use ivon_lora::run::{EVALUATION_FILE, RUN_FILE, RunConfig, RunError, run_settings};
use serde::Serialize;
use serde_json::{Value, json};

use super::{Seen, pairs};
use crate::exit::Failure;

const LARGEST: u64 = 256 << 20;

/// A run at a glance.
#[derive(Debug, Serialize)]
pub struct RunSeen {
    settings: RunConfig,
    last_step: Option<StepRecord>,
    /// `evaluation.json`; absent until the run has ended.
    evaluation: Option<Value>,
    findings: Vec<Value>,
    #[serde(skip)]
    said: Vec<Finding>,
}

/// Reads a run's folder.
///
/// # Errors
/// If settings or records are missing or malformed.
pub fn inspect(folder: &Path) -> Result<RunSeen, Failure> {
    let path = folder.join(RUN_FILE);
    let malformed = |path: &Path, reason: String| RunError::Malformed { path: path.into(), reason };
    let settings: RunConfig =
        toml::from_str(&files::read_text(&path, LARGEST)?).map_err(|error| malformed(&path, error.message().replace('\n', " ")))?;
    let records = folder.join("metrics.jsonl");
    let records = if records.exists() { read_records(&records)? } else { Vec::new() };
    let path = folder.join(EVALUATION_FILE);
    let evaluation = match path.exists() {
        true => Some(serde_json::from_str(&files::read_text(&path, LARGEST)?).map_err(|error| malformed(&path, error.to_string()))?),
        false => None,
    };
    let said = findings(&records, &run_settings(&settings, folder));
    let last_step = records.iter().rev().find_map(|record| match record {
        Record::Step(step) => Some(step.clone()),
        Record::Evaluation(_) => None,
    });
    let findings = said
        .iter()
        .map(|finding| json!({ "severity": severity(finding.severity), "what": finding.what, "remedy": finding.remedy }))
        .collect();
    Ok(RunSeen { settings, last_step, evaluation, findings, said })
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Note => "note",
        Severity::Warning => "warning",
        Severity::Problem => "problem",
    }
}

impl Seen for RunSeen {
    fn text(&self) -> String {
        let settings = &self.settings;
        let unknown = || "unknown".to_string();
        let mut lines = vec![
            ("model", settings.model.path.clone().unwrap_or_else(unknown)),
            ("data", format!("{} ({})", settings.data.path.display(), settings.data.task.as_deref().unwrap_or("a task of its own"))),
            ("optimizer", format!("{}, learning rate {}", settings.optimizer.name(), settings.optimizer.learning_rate())),
            ("adapter", format!("rank {}, alpha {}, dropout {}", settings.lora.rank, settings.lora.alpha, settings.lora.dropout)),
            ("seed", settings.seed.to_string()),
        ];
        if let Some(step) = &self.last_step {
            lines.push(("last step", format!("{}, loss {:.4}", step.step, step.loss)));
        }
        let mut text = pairs(&lines);
        match &self.evaluation {
            None => text += "\nno evaluation yet: the run has not ended\n",
            Some(evaluation) => text += &format!("\n{}", scores(evaluation)),
        }
        if self.said.is_empty() {
            text += "\nnothing to remark\n";
        }
        for finding in &self.said {
            let _ = write!(text, "\n{}: {}\n  remedy: {}\n", severity(finding.severity), finding.what, finding.remedy);
        }
        text
    }
}

/// The main scores of `evaluation.json`.
fn scores(evaluation: &Value) -> String {
    let number = |row: &Value, key: &str| row.get(key).and_then(Value::as_f64).map_or_else(|| "?".into(), |value| format!("{value:.3}"));
    let mut table =
        ivon_lora::report::Table { head: ["", "accuracy", "NLL (nats)", "ECE", "Brier"].map(String::from).to_vec(), rows: Vec::new() };
    let mut add = |name: String, row: Option<&Value>| {
        let Some(row) = row.filter(|row| row.is_object()) else { return };
        table.rows.push([vec![name], ["accuracy", "nll", "ece", "brier"].iter().map(|key| number(row, key)).collect()].concat());
    };
    add("base, untuned".into(), evaluation.get("base"));
    add("mean".into(), evaluation.get("mean"));
    let draws = evaluation.get("samples").and_then(Value::as_array);
    if let Some(draws) = draws {
        add(format!("{} samples", draws.len()), draws.last());
    }
    let of = |key: &str| evaluation.get(key).map_or_else(String::new, |value| value.to_string().trim_matches('"').to_string());
    format!("{} ({} examples)\n{}", of("split"), of("n"), table.to_text())
}

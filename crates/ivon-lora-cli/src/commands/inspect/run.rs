//! A run: its settings, its scores, and what went wrong in it, with remedies.

use std::fmt::Write;
use std::path::Path;

use ivon_lora::answer::{EvaluationReport, TextReport};
use ivon_lora::metrics::Finding;
use ivon_lora::run::RunConfig;
use ivon_lora::watch::{Record, StepRecord};
use ivon_lora_lab::report::RunRecord;
use serde::Serialize;
use serde_json::{Value, json};

use super::{Overview, pairs};
use crate::exit::Failure;
use crate::names;

/// A run at a glance.
#[derive(Debug, Serialize)]
pub struct RunOverview {
    settings: RunConfig,
    last_step: Option<StepRecord>,
    /// `evaluation.json`; absent until the run has finished.
    evaluation: Option<EvaluationReport>,
    /// The same file of a run on texts.
    #[serde(skip_serializing_if = "Option::is_none")]
    texts: Option<TextReport>,
    findings: Vec<Value>,
    #[serde(skip)]
    said: Vec<Finding>,
}

/// Reads a run's folder.
///
/// # Errors
/// If settings or records are missing or malformed.
pub fn inspect(folder: &Path) -> Result<RunOverview, Failure> {
    let RunRecord {
        config: settings,
        records,
        evaluation,
        texts,
        findings: said,
        ..
    } = RunRecord::read(folder)?;
    let last_step = records.iter().rev().find_map(|record| match record {
        Record::Step(step) => Some(step.clone()),
        Record::Evaluation(_) => None,
    });
    let value = |finding: &Finding| json!({ "severity": finding.severity.name(), "what": finding.what, "remedy": names::written(&finding.remedy) });
    let findings = said.iter().map(value).collect();
    Ok(RunOverview {
        settings,
        last_step,
        evaluation,
        texts,
        findings,
        said,
    })
}

impl RunOverview {
    /// The main settings, and the last step.
    fn lines(&self) -> Vec<(&'static str, String)> {
        let settings = &self.settings;
        let (data, optimizer, lora) = (&settings.data, &settings.optimizer, &settings.lora);
        let model = settings.model.path.clone();
        let task = data.task.as_deref().unwrap_or("a task of its own");
        let mut lines = vec![
            ("model", model.unwrap_or_else(|| "unknown".into())),
            ("data", format!("{} ({task})", data.path.display())),
            (
                "optimizer",
                format!(
                    "{}, learning rate {}",
                    optimizer.name(),
                    optimizer.learning_rate()
                ),
            ),
            (
                "adapter",
                format!(
                    "rank {}, alpha {}, dropout {}",
                    lora.rank, lora.alpha, lora.dropout
                ),
            ),
            ("seed", settings.seed.to_string()),
        ];
        if let Some(step) = &self.last_step {
            lines.push(("last step", format!("{}, loss {:.4}", step.step, step.loss)));
        }
        lines
    }
}

impl Overview for RunOverview {
    fn text(&self) -> String {
        let mut text = pairs(&self.lines());
        match (&self.evaluation, &self.texts) {
            (None, Some(texts)) => text += &format!("\n{texts}\n"),
            (None, None) => text += "\nno evaluation yet: the run has not ended\n",
            (Some(evaluation), _) => text += &format!("\n{}\n", evaluation.tables()),
        }
        if self.said.is_empty() {
            text += "\nnothing to remark\n";
        }
        for finding in &self.said {
            let _ = write!(
                text,
                "\n{}: {}\n  remedy: {}\n",
                finding.severity.name(),
                finding.what,
                names::written(&finding.remedy)
            );
        }
        text
    }
}

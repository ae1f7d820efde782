//! A run: its settings, its scores, and what went wrong in it, with remedies.

use std::fmt::Write;
use std::path::Path;

use ivon_lora::answer::EvaluationReport;
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
        findings,
        said,
    })
}

impl Overview for RunOverview {
    fn text(&self) -> String {
        let settings = &self.settings;
        let unknown = || "unknown".to_string();
        let mut lines = vec![
            ("model", settings.model.path.clone().unwrap_or_else(unknown)),
            (
                "data",
                format!(
                    "{} ({})",
                    settings.data.path.display(),
                    settings.data.task.as_deref().unwrap_or("a task of its own")
                ),
            ),
            (
                "optimizer",
                format!(
                    "{}, learning rate {}",
                    settings.optimizer.name(),
                    settings.optimizer.learning_rate()
                ),
            ),
            (
                "adapter",
                format!(
                    "rank {}, alpha {}, dropout {}",
                    settings.lora.rank, settings.lora.alpha, settings.lora.dropout
                ),
            ),
            ("seed", settings.seed.to_string()),
        ];
        if let Some(step) = &self.last_step {
            lines.push(("last step", format!("{}, loss {:.4}", step.step, step.loss)));
        }
        let mut text = pairs(&lines);
        match &self.evaluation {
            None => text += "\nno evaluation yet: the run has not ended\n",
            Some(evaluation) => text += &format!("\n{}\n", evaluation.tables()),
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

//! Rows of scores and the records of a run → tables, findings, and a sentence that a stranger understands.

mod findings;
mod records;
mod table;

pub use findings::{Finding, RunSettings, Severity, findings};
pub use records::{Evaluation, EvaluationRecord, MainScores, Record, ReportError, SampledScores, StepRecord, read_records};
pub use table::{Table, mean_and_standard_error, score_table, sentence_for_a_stranger, with_error};

//! Rows of scores and the records of a run → tables, findings, pictures, a page, and a sentence
//! that a stranger understands.

mod classes;
mod findings;
pub mod page;
pub mod plot;
mod prune;
mod records;
mod scale;
mod shift;
mod spread;
mod table;

pub use classes::{class_findings, class_table, confusion_table, majority_sentence};
pub use findings::{Finding, RunSettings, Severity, findings};
pub use prune::{PRUNE_FILE, PrunePoint, PruneReport};
pub use records::{
    Evaluation, EvaluationRecord, MainScores, Record, ReportError, SampledScores, StepRecord,
    read_records,
};
pub use scale::{SCALE_FILE, ScaleChoice, ScalePoint, ScaleReport, ScaleTrials, prefixes};
pub use shift::{
    Answered, Detection, Measure, SHIFT_FILE, ShiftReport, ShiftScores, ShiftSet, ShiftWay,
};
pub use spread::{AdapterSpread, LayerSpread, Spread, adapter_spread};
pub use table::{Table, mean_and_standard_error, score_table, sentence_for_a_stranger, with_error};

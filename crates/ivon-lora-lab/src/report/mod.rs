//! The folder of a run → its records, scores and findings, pictures of them, and a page.

mod findings;
pub mod plot;
pub mod html;
mod scale;
mod prune;
mod shift;
pub mod page;
mod run;

pub use findings::{RunSettings, findings};
pub use prune::{PRUNE_FILE, PrunePoint, PruneReport};
pub use run::{RunRecord, run_settings};
pub use scale::{SCALE_FILE, ScaleChoice, ScalePoint, ScaleReport, ScaleTrials, prefixes};
pub use shift::{
    Detection, Measure, SHIFT_FILE, ShiftAnswers, ShiftReport, ShiftScores, ShiftSet, ShiftWay,
};

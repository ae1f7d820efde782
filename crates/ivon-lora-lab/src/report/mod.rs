//! The folder of a run → its records, scores and findings, pictures of them, and a page.

mod findings;
pub(crate) mod plot;
pub(crate) mod html;
mod scale;
mod decide;
mod coverage;
mod prune;
mod shift;
pub mod page;
mod run;

pub use coverage::{Coverage, SplitTrials};
pub use decide::{DecideReport, Realised};
use findings::{RunSettings, findings};
pub use html::Figure;
pub use plot::Picture;
pub(crate) use prune::PRUNE_FILE;
pub use prune::{PrunePoint, PruneReport};
pub use run::RunRecord;
pub(crate) use scale::{SCALE_FILE, ScaleTrials, prefixes};
pub use scale::{ScaleChoice, ScalePoint, ScaleReport};
pub use shift::ShiftAnswers;
pub use shift::{Detection, Measure, ShiftReport, ShiftScores, ShiftSet, ShiftWay};
pub(crate) use shift::{SHIFT_FILE, Uncertainties, uncertainties_of_answers};

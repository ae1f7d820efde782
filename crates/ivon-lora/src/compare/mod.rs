//! Methods × tasks × seeds from one file → trials, runs, and one table (methods.md, section 7).
//!
//! Everything that is made lies in one folder: a run's folder for every trial and every cell. What
//! is finished is not made again, so a comparison that was stopped goes on where it was; a cell
//! that fails is told of, and the rest goes on.

mod carry;
mod cell;
mod config;
mod elsewhere;
mod error;
mod job;
mod page;
mod plan;
mod result;
mod search;
mod table;

pub use carry::{COMPARISON_FILE, Comparison, FailedCell, Trial, compare};
pub use config::{CompareConfig, Elsewhere, MethodEntry, TaskEntry, Tuning};
pub use elsewhere::PREDICTIONS_FORMAT;
// For the fuzz target alone.
#[doc(hidden)]
pub use elsewhere::read as read_elsewhere;
pub use error::CompareError;
pub use plan::{Plan, plan};
pub use result::Form;
pub use search::{Between, Range, Spacing};
pub use table::{ComparisonTable, RowEntry, ScoreEntry, TaskTable};

//! Methods × tasks × seeds from one file → trials, runs, and one table (methods.md, section 7).
//!
//! Everything is in one folder, with a run's folder for every trial and every cell. Finished runs are
//! not made again, so that a stopped comparison goes on where it was; a failed cell is reported, and the
//! rest goes on.

mod error;
mod layout;
mod tables;
mod range;
mod config;
mod settings;
mod file;
mod search;
mod planned_run;
mod holder;
mod once;
mod claim;
mod failure;
mod task;
mod form;
mod digits;
mod detection;
mod cell;
mod costs;
mod plan;
mod list;
mod queue;
mod chosen;
mod external;
mod scores;
mod predicted;
mod cell_results;
mod finished_cell;
mod results;
mod rows;
mod detection_table;
mod differences;
mod table;
mod comparison;
mod gather;
mod making;
mod pack;
mod page;

pub use chosen::Trial;
pub use comparison::{COMPARISON_FILE, Comparison, ComparisonResults, FailedCell};
pub use config::{
    CompareConfig, ExternalPredictions, MethodEntry, OtherSetEntry, TaskEntry, Tuning,
};
// For the fuzz target alone.
pub use detection_table::{DetectionColumn, DetectionRow, DetectionTable};
pub use differences::{Difference, DifferenceRow, DifferenceTable};
pub use error::CompareError;
#[doc(hidden)]
pub use external::read as read_external;
pub use form::Form;
pub use gather::gather;
pub use list::{ListedRun, list};
pub use making::{RunOutcome, compare, make_run};
pub use pack::RESULTS_FORMAT;
#[doc(hidden)]
pub use pack::unpack as read_results;
pub use plan::{Plan, plan};
pub use range::{Between, Range, Spacing};
pub use scores::ScoreEntry;
pub use table::{ComparisonTable, RowEntry, TaskTable};

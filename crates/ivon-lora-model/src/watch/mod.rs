//! The events that long operations report, and the records of a run. The library never prints: the
//! binary displays the events.

mod main_scores;
mod records;
mod stage;
mod event;
mod progress;

pub use event::{Event, Watch};
pub use main_scores::{MainScores, nan_for_null};
pub use progress::{Progress, Stopped};
pub use records::{
    Evaluation, EvaluationRecord, Record, RecordError, SampledScores, StepRecord, read_records,
};
pub use stage::Stage;

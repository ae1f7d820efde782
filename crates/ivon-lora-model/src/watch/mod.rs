//! What a longer piece of work tells whoever watches it, and the records that it leaves. The
//! library never prints: the binary draws these.

mod main_scores;
mod records;
mod stage;
mod event;
mod progress;

pub use event::{Event, Watch};
pub use main_scores::MainScores;
pub use progress::{Progress, Stopped};
pub use records::{
    Evaluation, EvaluationRecord, Record, RecordError, SampledScores, StepRecord, read_records,
};
pub use stage::Stage;

//! Studies of a finished adapter: its scores against τ, against the share of pruned weights, and on
//! other data.

mod error;
mod subject;
mod scored;
mod scale;
mod prune;
mod shift;

pub use error::StudyError;
pub use prune::{PruneRequest, prune};
pub use scale::{ScaleRequest, scale};
pub use shift::{OtherSet, ShiftRequest, answers_to, shift};
pub use subject::SubjectRequest;

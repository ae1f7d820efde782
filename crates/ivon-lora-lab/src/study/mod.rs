//! Studies of a finished adapter: its scores against τ, against the share of pruned weights, and on
//! other data; and the rule by which its answers are taken or left to someone else.

mod error;
mod subject;
mod scored;
mod scale;
mod decide;
mod prune;
mod shift;

pub use decide::{DecideRequest, DecisionForm, NamedCosts, decide};
pub use error::StudyError;
pub use prune::{PruneRequest, prune};
pub use scale::{ScaleRequest, scale};
pub use shift::{OtherSet, ShiftRequest, answers_to, shift};
pub use subject::SubjectRequest;

//! The contract of a goal: what a run learns from, and how it scores what it has learned.

use super::{Objective, TrainError};
use crate::posterior::Posterior;
use crate::watch::{Evaluation, Watch};

/// What a run learns. The loop asks it for an objective before each step and for scores on its
/// intervals, and knows nothing else of examples or of what is right.
pub trait Goal {
    /// Checks what is to be learned from, before anything is written.
    ///
    /// # Errors
    /// If an example cannot be learned from or scored.
    fn check(&self) -> Result<(), TrainError>;

    /// The number of examples to learn from.
    fn examples(&self) -> usize;

    /// The objective of step `step`, counted from 0, of a run whose data order and dropout masks
    /// `seed` names: a function of both alone, so that a resumed run needs no state.
    fn objective(&self, seed: u64, step: u64) -> Box<dyn Objective + '_>;

    /// Whether there are held-out examples to score on.
    fn is_scored(&self) -> bool;

    /// Scores on the held-out examples; where there are none, [`is_scored`](Self::is_scored) says
    /// so. `watch` hears how many of how many are done and says whether to go on.
    ///
    /// # Errors
    /// If a prediction fails, or `watch` says stop.
    fn score(&self, posterior: &dyn Posterior, watch: Watch<'_>) -> Result<Evaluation, TrainError>;
}

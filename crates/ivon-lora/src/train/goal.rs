//! The contract of a goal: what a run learns, and how it is scored.

use super::{Objective, TrainError};
use crate::posterior::Posterior;
use crate::watch::{Evaluation, Watch};

/// What a run learns. The training loop asks it for an objective before each step and for scores at
/// intervals, and knows nothing else about the examples.
pub trait Goal {
    /// Checks the examples, before anything is written.
    ///
    /// # Errors
    /// If an example cannot be learned from or scored.
    fn check(&self) -> Result<(), TrainError>;

    /// The number of examples to learn from.
    fn examples(&self) -> usize;

    /// The number of predictions that the loss of an epoch averages: one an example, or the tokens
    /// of texts. The Kullback–Leibler divergence of a variational method is divided by it.
    fn predictions(&self) -> usize {
        self.examples()
    }

    /// Σ w² / Σ w over the weights w of the examples in the loss, by which squared gradients are too
    /// large as an estimate of its curvature; 1 if all count once.
    fn weight_of_squares(&self) -> f64 {
        1.0
    }

    /// The objective of step `step`, counted from 0. `seed` determines data order and dropout masks;
    /// the objective depends on nothing else, so that a resumed run needs no state.
    fn objective(&self, seed: u64, step: u64) -> Box<dyn Objective + '_>;

    /// Whether there are held-out examples to score on.
    fn is_scored(&self) -> bool;

    /// The scores of `posterior` on the held-out examples, of which there are some if
    /// [`is_scored`](Self::is_scored). `watch` hears how many are done and says whether to go on.
    ///
    /// # Errors
    /// If a prediction fails, or `watch` says stop.
    fn score(&self, posterior: &dyn Posterior, watch: Watch<'_>) -> Result<Evaluation, TrainError>;
}

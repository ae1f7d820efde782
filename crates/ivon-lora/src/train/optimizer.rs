//! The training contract: an optimizer is given an objective and asks it for loss and gradients at
//! whatever adapter it likes, as often as it needs.

use std::collections::BTreeMap;

use burn::optim::GradientsParams;

use super::TrainError;
use crate::lora::Adapter;
use crate::posterior::{OutputNoise, Posterior};
use crate::ranks::Team;

/// Loss and gradients of one step's examples, in one or several micro-batches.
pub trait Objective {
    /// The number of micro-batches; at least 1.
    fn micro_batches(&self) -> usize;

    /// The share of the step's examples that lie in a micro-batch; all shares sum to 1.
    fn share(&self, micro_batch: usize) -> f64;

    /// The number of tokens that all micro-batches compute together.
    fn tokens(&self) -> usize;

    /// The mean loss of a micro-batch at `adapter` (nats) and its gradients there. `draw` names the
    /// dropout masks.
    ///
    /// # Errors
    /// If the loss is not finite.
    fn evaluate(
        &mut self,
        adapter: &Adapter,
        micro_batch: usize,
        draw: u64,
    ) -> Result<Evidence, TrainError>;

    /// As [`evaluate`](Self::evaluate), for an upper bound of the expected loss under noise on the rows
    /// of the output layer, in closed form. An objective without an output layer leaves it out.
    ///
    /// # Errors
    /// If the bound is not finite, a choice is scored by more than one token, or there is no output
    /// layer.
    fn evaluate_bound(
        &mut self,
        adapter: &Adapter,
        noise: &OutputNoise,
        micro_batch: usize,
        draw: u64,
    ) -> Result<BoundEvidence, TrainError> {
        let _ = (adapter, noise, micro_batch, draw);
        Err(TrainError::Optimizer {
            reason: "the objective has no output layer that noise could be put on".into(),
        })
    }

    /// The micro-batches of this rank, for an optimizer that evaluates each at a draw of its own and
    /// sums what it has observed itself; none if one process has all, or a micro-batch is divided.
    fn own_part(&mut self) -> Option<OwnPart<'_>> {
        None
    }
}

/// The micro-batches of one of the ranks that take a step together.
pub struct OwnPart<'o> {
    /// Their objective.
    pub objective: &'o mut dyn Objective,
    /// Their weight: the number of their examples, or the weights of their tokens.
    pub weight: f64,
    /// The number of the first of them among all of the step's.
    pub first: u64,
    /// How many micro-batches the step has.
    pub of: u64,
    /// All ranks.
    pub team: &'o Team<'o>,
}

/// Another objective whose evaluations go through a function: at a draw of the adapter, say, or with
/// gradients of more than the adapter.
pub struct Through<'a, F> {
    inner: &'a mut dyn Objective,
    evaluate: F,
}

impl<'a, F> Through<'a, F>
where
    F: FnMut(&mut dyn Objective, &Adapter, usize, u64) -> Result<Evidence, TrainError>,
{
    /// `evaluate` is given the other objective and the arguments of [`Objective::evaluate`].
    pub fn new(inner: &'a mut dyn Objective, evaluate: F) -> Self {
        Self { inner, evaluate }
    }
}

impl<F> Objective for Through<'_, F>
where
    F: FnMut(&mut dyn Objective, &Adapter, usize, u64) -> Result<Evidence, TrainError>,
{
    fn micro_batches(&self) -> usize {
        self.inner.micro_batches()
    }

    fn share(&self, micro_batch: usize) -> f64 {
        self.inner.share(micro_batch)
    }

    fn tokens(&self) -> usize {
        self.inner.tokens()
    }

    fn evaluate(
        &mut self,
        adapter: &Adapter,
        micro_batch: usize,
        draw: u64,
    ) -> Result<Evidence, TrainError> {
        (self.evaluate)(self.inner, adapter, micro_batch, draw)
    }
}

/// What an objective found at one adapter.
#[derive(Debug)]
pub struct Evidence {
    /// Mean loss over the micro-batch, nats.
    pub loss: f64,
    /// Gradients of the parameters of the adapter that was given.
    pub gradients: GradientsParams,
}

/// What an objective found at one adapter under noise on the output layer.
#[derive(Debug)]
pub struct BoundEvidence {
    /// The bound of the mean loss, nats, and its gradients by the adapter.
    pub adapter: Evidence,
    /// Its gradients by the variances of the rows that score choices of the micro-batch, by token,
    /// `[H]` each, in the units of [`OutputNoise`].
    pub rows: BTreeMap<u32, Vec<f32>>,
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Update {
    /// Mean loss at the weights or the draws, nats.
    pub loss: f64,
    /// Euclidean norm of the gradient over all weights, before clipping.
    pub gradient_norm: f64,
    /// Root mean square of what the step added to the weights.
    pub update_rms: f64,
    /// Share of weights whose update was clipped, where the optimizer clips.
    pub clipped_share: Option<f64>,
}

/// An optimizer with its state. Errors leave weights and state as they were.
pub trait Optimizer: Send {
    /// Takes one step, asking `objective` as often as it needs.
    ///
    /// # Errors
    /// The objective's own, or if gradients are not finite.
    fn step(
        &mut self,
        learning_rate: f64,
        objective: &mut dyn Objective,
    ) -> Result<Update, TrainError>;

    /// The weights: the mean where there is a posterior. Their gradients are tracked.
    fn adapter(&self) -> &Adapter;

    /// What can be drawn from after this step.
    fn posterior(&self) -> Box<dyn Posterior>;

    /// h / h₀: its 5 %, 50 % and 95 % quantiles, where the optimizer has a Hessian. Costs a sort.
    fn hessian_ratio(&self) -> Option<[f64; 3]> {
        None
    }

    /// Everything beside the weights that the next steps depend on.
    ///
    /// # Errors
    /// If the device gives no data back.
    fn state(&self) -> Result<Vec<u8>, TrainError>;

    /// Takes over weights and state of an earlier run; the next steps are those that would have
    /// followed.
    ///
    /// # Errors
    /// If the state is malformed or belongs to other settings or another adapter.
    fn restore(&mut self, adapter: Adapter, state: &[u8]) -> Result<(), TrainError>;
}

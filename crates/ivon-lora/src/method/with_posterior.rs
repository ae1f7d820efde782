//! An optimizer with another posterior, for methods that train as it does but draw in a way of their
//! own.

use std::fmt;

use crate::lora::Adapter;
use crate::posterior::Posterior;
use crate::train::{Objective, Optimizer, TrainError, Update};

/// An optimizer, and what makes another posterior of its own.
pub struct WithPosterior<O, F> {
    optimizer: O,
    make: F,
}

impl<O, F> WithPosterior<O, F>
where
    O: Optimizer,
    F: Fn(Box<dyn Posterior>) -> Box<dyn Posterior> + Send,
{
    /// `make` is given the optimizer's own posterior.
    pub fn new(optimizer: O, make: F) -> Self {
        Self { optimizer, make }
    }
}

impl<O: fmt::Debug, F> fmt::Debug for WithPosterior<O, F> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("WithPosterior")
            .field("optimizer", &self.optimizer)
            .finish_non_exhaustive()
    }
}

impl<O, F> Optimizer for WithPosterior<O, F>
where
    O: Optimizer,
    F: Fn(Box<dyn Posterior>) -> Box<dyn Posterior> + Send,
{
    fn step(
        &mut self,
        learning_rate: f64,
        objective: &mut dyn Objective,
    ) -> Result<Update, TrainError> {
        self.optimizer.step(learning_rate, objective)
    }

    fn adapter(&self) -> &Adapter {
        self.optimizer.adapter()
    }

    fn posterior(&self) -> Box<dyn Posterior> {
        (self.make)(self.optimizer.posterior())
    }

    fn hessian_ratio(&self) -> Option<[f64; 3]> {
        self.optimizer.hessian_ratio()
    }

    fn state(&self) -> Result<Vec<u8>, TrainError> {
        self.optimizer.state()
    }

    fn restore(&mut self, adapter: Adapter, state: &[u8]) -> Result<(), TrainError> {
        self.optimizer.restore(adapter, state)
    }
}

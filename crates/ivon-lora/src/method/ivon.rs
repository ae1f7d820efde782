//! IVON: the mean of the adapter and a variance for each of its weights, in the run that trains it.
//!
//! Source: arXiv 2411.04421 (the recipe), arXiv 2402.17641 (the optimizer, crate `ivon`).

use burn::module::Module;
use ivon::{Ivon, IvonConfig, IvonError, IvonState, NoiseSource};
use serde::{Deserialize, Serialize};

use crate::lora::Adapter;
use crate::posterior::{Gaussian, PointEstimate, Posterior};
use crate::train::{Objective, Optimizer, TrainError, Update};

/// IVON's settings in a run; the defaults are the paper's recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IvonMethodConfig {
    /// The learning rate before the schedule.
    pub learning_rate: f64,
    /// The effective sample size; the posterior's variance is 1 / (ess · (h + δ)).
    pub ess: f64,
    /// σ₀, the posterior's standard deviation at the start: where given, it sets `ess` = 1 / (σ₀² (h₀ + δ)).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub posterior_sd: Option<f64>,
    /// h₀.
    pub hess_init: f64,
    /// β₁, decay of the momentum.
    pub beta1: f64,
    /// β₂, decay of the Hessian.
    pub beta2: f64,
    /// δ, the prior's precision per effective example.
    pub weight_decay: f64,
    /// The largest size of an update before the learning rate; 0 for no limit.
    pub clip_radius: f64,
    /// Draws per step.
    pub mc_samples: usize,
    /// Whether the learning rate is multiplied by h₀ + δ.
    pub rescale_lr: bool,
    /// Whether the momentum is debiased.
    pub debias: bool,
    /// How the Hessian is estimated.
    pub hess_approx: ivon::HessianApproximation,
    /// The largest norm of the mean gradient; 0 for no limit. Never touches the Hessian's estimate.
    pub max_grad_norm: f64,
    /// With gradient accumulation: one draw for all micro-batches of a step, or one for each.
    pub draw_per: DrawPer,
}

/// How many draws a step with several micro-batches makes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DrawPer {
    /// All micro-batches of a step see the same draw.
    #[default]
    Step,
    /// Each micro-batch has a draw of its own.
    MicroBatch,
}

impl Default for IvonMethodConfig {
    fn default() -> Self {
        Self {
            learning_rate: 0.03,
            ess: 1e6,
            posterior_sd: None,
            hess_init: 1e-3,
            beta1: 0.9,
            beta2: 0.99999,
            weight_decay: 0.0,
            clip_radius: 1e-3,
            mc_samples: 1,
            rescale_lr: false,
            debias: true,
            hess_approx: ivon::HessianApproximation::Price,
            max_grad_norm: 0.0,
            draw_per: DrawPer::Step,
        }
    }
}

impl IvonMethodConfig {
    /// ess, from `posterior_sd` where that is given.
    pub fn effective_sample_size(&self) -> f64 {
        self.posterior_sd.map_or(self.ess, |sd| 1.0 / (sd * sd * (self.hess_init + self.weight_decay)))
    }

    /// σ₀ = 1 / √(ess · (h₀ + δ)).
    pub fn initial_sd(&self) -> f64 {
        1.0 / (self.effective_sample_size() * (self.hess_init + self.weight_decay)).sqrt()
    }

    /// The settings of the crate `ivon`.
    fn optimizer_config(&self, seed: u64) -> IvonConfig {
        let limit = |value: f64| (value != 0.0).then_some(value);
        IvonConfig {
            hessian_init: self.hess_init,
            beta1: self.beta1,
            beta2: self.beta2,
            weight_decay: self.weight_decay,
            mc_samples: self.mc_samples,
            clip_radius: limit(self.clip_radius),
            debias: self.debias,
            rescale_learning_rate: self.rescale_lr,
            hessian_approximation: self.hess_approx,
            gradient_clip_norm: limit(self.max_grad_norm),
            noise: NoiseSource::Host { seed },
            ..IvonConfig::new(self.effective_sample_size())
        }
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// If one is out of range.
    pub fn validate(&self) -> Result<(), TrainError> {
        let wrong = |name, found: f64, expected| Err(TrainError::Setting { name, found: found.to_string(), expected });
        if !(self.learning_rate.is_finite() && self.learning_rate > 0.0) {
            return wrong("learning_rate", self.learning_rate, "a finite number above 0");
        }
        if let Some(sd) = self.posterior_sd.filter(|sd| !(sd.is_finite() && *sd > 0.0)) {
            return wrong("posterior_sd", sd, "a finite number above 0");
        }
        self.optimizer_config(0).validate().map_err(setup)
    }

    /// The optimizer at its start.
    ///
    /// # Errors
    /// If a setting is out of range.
    pub fn start(&self, adapter: Adapter, seed: u64) -> Result<IvonOptimizer, TrainError> {
        let optimizer = Ivon::new(self.optimizer_config(seed), adapter.train()).map_err(setup)?;
        Ok(IvonOptimizer { draw_per: self.draw_per, optimizer })
    }
}

fn setup(error: IvonError) -> TrainError {
    TrainError::Optimizer { reason: error.to_string() }
}

/// IVON under the training contract.
#[derive(Debug)]
pub struct IvonOptimizer {
    draw_per: DrawPer,
    optimizer: Ivon<Adapter>,
}

impl IvonOptimizer {
    fn failed(&self, error: IvonError) -> TrainError {
        TrainError::Step { step: self.optimizer.steps() + 1, reason: error.to_string(), good: None }
    }

    /// Observes all draws of a step.
    fn observe(&mut self, objective: &mut dyn Objective) -> Result<(), TrainError> {
        let mut number = 0;
        for _ in 0..self.optimizer.config().mc_samples {
            let mut draw = self.optimizer.draw();
            for micro_batch in 0..objective.micro_batches() {
                if micro_batch > 0 && self.draw_per == DrawPer::MicroBatch {
                    let finished = std::mem::replace(&mut draw, self.optimizer.draw());
                    self.optimizer.observe_accumulated(finished).map_err(|error| self.failed(error))?;
                    number += 1;
                }
                let evidence = objective.evaluate(draw.module(), micro_batch, number)?;
                let share = objective.share(micro_batch);
                draw.accumulate(evidence.loss, evidence.gradients, share).map_err(|error| self.failed(error))?;
            }
            self.optimizer.observe_accumulated(draw).map_err(|error| self.failed(error))?;
            number += 1;
        }
        Ok(())
    }
}

impl Optimizer for IvonOptimizer {
    fn step(&mut self, learning_rate: f64, objective: &mut dyn Objective) -> Result<Update, TrainError> {
        if let Err(error) = self.observe(objective) {
            self.optimizer.discard();
            return Err(error);
        }
        let report = self.optimizer.apply(learning_rate).map_err(|error| self.failed(error))?;
        Ok(Update {
            loss: report.loss,
            gradient_norm: report.gradient_norm,
            update_rms: report.update_size,
            clipped_share: self.optimizer.config().clip_radius.map(|_| report.clipped_share),
        })
    }

    fn adapter(&self) -> &Adapter {
        self.optimizer.mean()
    }

    fn posterior(&self) -> Box<dyn Posterior> {
        let posterior = self.optimizer.posterior();
        match Gaussian::new(posterior.mean().valid(), posterior.variance().valid()) {
            Ok(gaussian) => Box::new(gaussian),
            // Mean and variance come from one layout and are finite after every step: this cannot be reached,
            // and if it were, the mean alone is the honest answer.
            Err(_) => Box::new(PointEstimate { adapter: posterior.mean().valid() }),
        }
    }

    fn hessian_ratio(&self) -> Option<[f64; 3]> {
        self.optimizer.hessian_quantiles(&[0.05, 0.5, 0.95]).try_into().ok()
    }

    fn state(&self) -> Result<Vec<u8>, TrainError> {
        self.optimizer.state().to_bytes().map_err(setup)
    }

    fn restore(&mut self, adapter: Adapter, state: &[u8]) -> Result<(), TrainError> {
        let state = IvonState::from_bytes(state).map_err(setup)?;
        let mut optimizer = Ivon::new(self.optimizer.config().clone(), adapter.train()).map_err(setup)?;
        optimizer.restore(&state).map_err(setup)?;
        self.optimizer = optimizer;
        Ok(())
    }
}

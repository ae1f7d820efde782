//! IVON under the training contract.

use burn::module::Module;
use burn::tensor::Tensor;
use ivon::{Draw, Ivon, IvonConfig, IvonError, IvonState, ParameterGroup, PathPattern};

use super::config::DrawPer;
use super::refused;
use crate::lora::{Adapter, HostMatrix};
use crate::posterior::{Gaussian, PointEstimate, Posterior, PosteriorError, Rotated, Rotation};
use crate::train::{Objective, Optimizer, OwnPart, TrainError, Update};

/// IVON under the training contract.
#[derive(Debug)]
pub(super) struct IvonOptimizer {
    pub(super) draw_per: DrawPer,
    pub(super) no_noise: bool,
    /// The steps after which δ is learned; never where absent.
    pub(super) learns_after: Option<u64>,
    pub(super) optimizer: Ivon<Adapter>,
}

/// Steps between two estimates of δ.
const PRIOR_INTERVAL: u64 = 10;

/// Every matrix with the δ at which its prior N(0, 1/(ess·δ)) is best for its weights N(m, σ²):
/// ess·δ = P / (‖m‖² + Σσ²).
fn prior_groups(
    mean: &Adapter,
    variance: &Adapter,
    effective_sample_size: f64,
) -> Result<Vec<ParameterGroup>, TrainError> {
    let group = |((path, mean), (_, variance)): ((String, HostMatrix), (String, HostMatrix))| {
        let squares: f64 = mean
            .values
            .iter()
            .map(|m| f64::from(*m).powi(2))
            .chain(variance.values.iter().map(|v| f64::from(*v)))
            .sum();
        let decay = mean.values.len() as f64 / squares / effective_sample_size;
        ParameterGroup {
            weight_decay: Some(decay),
            ..ParameterGroup::new(PathPattern::Exact(path))
        }
    };
    Ok(mean
        .to_matrices()?
        .into_iter()
        .zip(variance.to_matrices()?)
        .map(group)
        .collect())
}

impl IvonOptimizer {
    fn failed(&self, error: IvonError) -> TrainError {
        TrainError::Step {
            step: self.optimizer.steps() + 1,
            reason: error.to_string(),
            good: None,
        }
    }

    /// Takes over δ as the posterior has it now, where it is due; everything else stays.
    fn learn_prior(&mut self) -> Result<(), TrainError> {
        let step = self.optimizer.steps();
        if !self
            .learns_after
            .is_some_and(|after| step > after && (step - after).is_multiple_of(PRIOR_INTERVAL))
        {
            return Ok(());
        }
        let posterior = self.optimizer.posterior();
        let (mean, variance) = (posterior.mean().valid(), posterior.variance().valid());
        let groups = prior_groups(
            &mean,
            &variance,
            self.optimizer.config().effective_sample_size,
        )?;
        self.rebuild(
            self.optimizer.mean().clone(),
            self.optimizer.state(),
            groups,
        )
    }

    /// The optimizer of this state around `mean`, with other δ.
    fn rebuild(
        &mut self,
        mean: Adapter,
        mut state: IvonState,
        groups: Vec<ParameterGroup>,
    ) -> Result<(), TrainError> {
        let config = IvonConfig {
            groups,
            ..self.optimizer.config().clone()
        };
        state.config.groups.clone_from(&config.groups);
        let mut optimizer = Ivon::new(config, mean).map_err(refused)?;
        optimizer.restore(&state).map_err(refused)?;
        self.optimizer = optimizer;
        Ok(())
    }

    /// The next draw of the step: the mean itself where there is to be no noise.
    fn draw(&mut self) -> Result<Draw<Adapter>, TrainError> {
        if !self.no_noise {
            return Ok(self.optimizer.draw());
        }
        self.optimizer
            .draw_from(|_, shape| vec![0.0; shape.iter().product()])
            .map_err(refused)
    }

    /// Observes all draws of a step.
    fn observe(&mut self, objective: &mut dyn Objective) -> Result<(), TrainError> {
        if self.draw_per == DrawPer::MicroBatch
            && let Some(part) = objective.own_part()
        {
            return self.observe_part(part);
        }
        let mut number = 0;
        for _ in 0..self.optimizer.config().mc_samples {
            let mut draw = self.draw()?;
            for micro_batch in 0..objective.micro_batches() {
                if micro_batch > 0 && self.draw_per == DrawPer::MicroBatch {
                    let finished = std::mem::replace(&mut draw, self.draw()?);
                    self.optimizer
                        .observe_accumulated(finished)
                        .map_err(|error| self.failed(error))?;
                    number += 1;
                }
                let evidence = objective.evaluate(draw.module(), micro_batch, number)?;
                let share = objective.share(micro_batch);
                draw.accumulate(evidence.loss, evidence.gradients, share)
                    .map_err(|error| self.failed(error))?;
            }
            self.optimizer
                .observe_accumulated(draw)
                .map_err(|error| self.failed(error))?;
            number += 1;
        }
        Ok(())
    }
}

impl IvonOptimizer {
    /// Observes this rank's micro-batches of a step, each at a draw of its own, and adds up what all
    /// ranks have observed: the draws, numbered through all micro-batches, are those of one process.
    fn observe_part(&mut self, mut part: OwnPart<'_>) -> Result<(), TrainError> {
        let observed = self.observe_own(&mut part);
        if observed.is_err() {
            self.optimizer.discard();
        }
        let mut numbers = self.optimizer.observed();
        let summed = part.team.sum_step(&mut numbers, observed.is_err());
        observed?;
        summed?;
        let taken_over = self.optimizer.observe_sum(&numbers);
        taken_over.map_err(|error| self.failed(error))
    }

    fn observe_own(&mut self, part: &mut OwnPart<'_>) -> Result<(), TrainError> {
        for sample in 0..self.optimizer.config().mc_samples as u64 {
            for micro_batch in 0..part.objective.micro_batches() {
                let number = sample * part.of + part.first + micro_batch as u64;
                let mut draw = match self.no_noise {
                    true => self.draw()?,
                    false => self.optimizer.draw_numbered(number),
                };
                let evidence = part
                    .objective
                    .evaluate(draw.module(), micro_batch, number)?;
                let weight = part.objective.share(micro_batch) * part.weight;
                draw.accumulate(evidence.loss, evidence.gradients, weight)
                    .and_then(|()| self.optimizer.observe_accumulated(draw))
                    .map_err(|error| self.failed(error))?;
            }
        }
        Ok(())
    }
}

/// The posterior with the settings that made it: diagonal, or diagonal in a basis of each matrix.
fn drawable(
    posterior: &ivon::Posterior<Adapter>,
    config: &IvonConfig,
) -> Result<Box<dyn Posterior>, PosteriorError> {
    let facts = [
        ("effective_sample_size", config.effective_sample_size),
        ("weight_decay", config.weight_decay),
    ];
    let mean = posterior.mean().valid();
    let rotations = posterior.rotations();
    if rotations.is_empty() {
        let gaussian = Gaussian::new(mean, posterior.variance().valid())?;
        let with_fact = |gaussian: Gaussian, (key, value)| gaussian.with_fact(key, value);
        return Ok(Box::new(facts.into_iter().fold(gaussian, with_fact)));
    }
    let variances = posterior.variances();
    let coordinates = mean.clone_with(|path, tensor| match variances.get(path) {
        Some(variance) => variance.clone().reshape(tensor.dims()),
        None => tensor.zeros_like(),
    });
    let on_host = |matrix: Tensor<2>| HostMatrix {
        shape: matrix.dims(),
        values: matrix.into_data().iter().collect(),
    };
    let rotation = |(path, rotation): (String, ivon::Rotation)| {
        let rotation = Rotation {
            left: rotation.left.map(on_host),
            right: rotation.right.map(on_host),
        };
        (path, rotation)
    };
    let rotations = rotations.into_iter().map(rotation).collect();
    let rotated = Rotated::new(mean, coordinates, rotations)?;
    let with_fact = |rotated: Rotated, (key, value)| rotated.with_fact(key, value);
    Ok(Box::new(facts.into_iter().fold(rotated, with_fact)))
}

impl Optimizer for IvonOptimizer {
    fn step(
        &mut self,
        learning_rate: f64,
        objective: &mut dyn Objective,
    ) -> Result<Update, TrainError> {
        if let Err(error) = self.observe(objective) {
            self.optimizer.discard();
            return Err(error);
        }
        let report = self
            .optimizer
            .apply(learning_rate)
            .map_err(|error| self.failed(error))?;
        self.learn_prior()?;
        Ok(Update {
            loss: report.loss,
            gradient_norm: report.gradient_norm,
            update_rms: report.update_size,
            clipped_share: self
                .optimizer
                .config()
                .clips()
                .then_some(report.clipped_share),
        })
    }

    fn adapter(&self) -> &Adapter {
        self.optimizer.mean()
    }

    fn posterior(&self) -> Box<dyn Posterior> {
        let posterior = self.optimizer.posterior();
        // Mean and variance come from one layout and are finite after every step: this cannot fail,
        // and if it did, the mean alone is the honest answer.
        drawable(&posterior, self.optimizer.config()).unwrap_or_else(|_| {
            Box::new(PointEstimate {
                adapter: posterior.mean().valid(),
            })
        })
    }

    fn hessian_ratio(&self) -> Option<[f64; 3]> {
        self.optimizer
            .hessian_quantiles(&[0.05, 0.5, 0.95])
            .try_into()
            .ok()
    }

    fn state(&self) -> Result<Vec<u8>, TrainError> {
        self.optimizer.state().to_bytes().map_err(refused)
    }

    fn restore(&mut self, adapter: Adapter, state: &[u8]) -> Result<(), TrainError> {
        let state = IvonState::from_bytes(state).map_err(refused)?;
        // What was learned is in the state; other groups than learned ones there are none.
        let groups = if self.learns_after.is_some() {
            state.config.groups.clone()
        } else {
            Vec::new()
        };
        self.rebuild(adapter.train(), state, groups)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::method::testing::Bowl;
    use crate::method::{IvonMethodConfig, Settings, Setup};
    use crate::testing::tiny::adapter;

    fn after(config: &IvonMethodConfig, steps: usize) -> (Vec<f32>, Vec<f32>, Bowl) {
        let setup = Setup {
            seed: 3,
            steps: 9,
            steps_per_epoch: 1,
            batch_size: 1,
            accumulation: 1,
            examples: 1,
            dropout: 0.0,
            weight_of_squares: 1.0,
        };
        let mut optimizer = config.start(adapter(1, "q_proj"), &setup).unwrap();
        let mut bowl = Bowl::default();
        for _ in 0..steps {
            optimizer.step(config.rate(), &mut bowl).unwrap();
        }
        let posterior = optimizer.posterior();
        (
            posterior.mean().flatten().unwrap(),
            posterior.variance().unwrap().flatten().unwrap(),
            bowl,
        )
    }

    #[test]
    fn a_frozen_hessian_keeps_the_variance_of_the_start_and_noise_stays() {
        let config = IvonMethodConfig {
            beta2: Some(0.5),
            clip_radius: 0.0,
            learning_rate: Some(1e-4),
            ..IvonMethodConfig::default()
        };
        let (_, moving, _) = after(&config, 3);
        assert!(
            moving
                .iter()
                .any(|variance| (variance / 1e-3 - 1.0).abs() > 0.1)
        );
        let (_, frozen, bowl) = after(
            &IvonMethodConfig {
                frozen_hessian: true,
                ..config
            },
            3,
        );
        assert!(
            frozen
                .iter()
                .all(|variance| (variance / 1e-3 - 1.0).abs() < 1e-6)
        );
        assert_ne!(bowl.seen[0], adapter(1, "q_proj").flatten().unwrap());
    }

    #[test]
    fn the_prior_learned_is_the_closed_form_after_a_tenth_of_the_steps() {
        let (mean, variance) = (
            adapter(1, "q_proj"),
            adapter(1, "q_proj").clone_with(|_, tensor| tensor.zeros_like() + 0.5),
        );
        let groups = prior_groups(&mean, &variance, 100.0).unwrap();
        assert_eq!(groups.len(), 2);
        for (group, (path, matrix)) in groups.iter().zip(mean.to_matrices().unwrap()) {
            assert!(group.paths.matches(&path));
            // The maximum of E ln N(θ; 0, 1/λ) = ½ (P ln λ − λ (‖m‖² + Σσ²)) by λ = ess·δ.
            let squares: f64 = matrix
                .values
                .iter()
                .map(|m| f64::from(*m).powi(2) + 0.5)
                .sum();
            let value = |lambda: f64| matrix.values.len() as f64 * lambda.ln() - lambda * squares;
            let found = 100.0 * group.weight_decay.unwrap();
            assert!(value(found) > value(found * 1.01) && value(found) > value(found * 0.99));
        }
        let config = IvonMethodConfig {
            learn_prior: true,
            clip_radius: 0.0,
            learning_rate: Some(1e-6),
            ..IvonMethodConfig::default()
        };
        let fixed = IvonMethodConfig {
            learn_prior: false,
            ..config.clone()
        };
        // Nine steps in all: from step 1 + 10 on.
        assert_eq!(after(&config, 10).1, after(&fixed, 10).1);
        let (_, learned, _) = after(&config, 11);
        let (_, still, _) = after(&fixed, 11);
        assert!(
            learned
                .iter()
                .zip(&still)
                .all(|(learned, still)| learned < still)
        );
    }

    #[test]
    fn a_learned_prior_is_in_the_state() {
        let config = IvonMethodConfig {
            learn_prior: true,
            ..IvonMethodConfig::default()
        };
        let setup = Setup {
            seed: 3,
            steps: 9,
            steps_per_epoch: 1,
            batch_size: 1,
            accumulation: 1,
            examples: 1,
            dropout: 0.0,
            weight_of_squares: 1.0,
        };
        let (mut one, mut other) = (
            config.start(adapter(1, "q_proj"), &setup).unwrap(),
            config.start(adapter(1, "q_proj"), &setup).unwrap(),
        );
        let mut bowl = Bowl::default();
        for _ in 0..13 {
            one.step(0.01, &mut bowl).unwrap();
        }
        other
            .restore(one.adapter().valid(), &one.state().unwrap())
            .unwrap();
        for optimizer in [&mut one, &mut other] {
            optimizer.step(0.01, &mut bowl).unwrap();
        }
        let numbers = |optimizer: &dyn Optimizer| {
            optimizer
                .posterior()
                .draw(0, 0, 1.0)
                .unwrap()
                .adapter
                .flatten()
                .unwrap()
        };
        assert_eq!(numbers(one.as_ref()), numbers(other.as_ref()));
    }

    #[test]
    fn without_noise_a_step_is_the_closed_form_at_the_mean() {
        // θ ← θ − lr · θ / h₀ with the debiased momentum of the first step, which is the gradient θ
        // itself.
        let config = IvonMethodConfig {
            no_noise: true,
            clip_radius: 0.0,
            learning_rate: Some(2e-4),
            ..IvonMethodConfig::default()
        };
        let (mean, variance, bowl) = after(&config, 1);
        let start = adapter(1, "q_proj").flatten().unwrap();
        assert_eq!(bowl.seen, std::slice::from_ref(&start));
        for (found, start) in mean.iter().zip(start) {
            assert!((found - start * 0.8).abs() < 1e-6, "{found} {start}");
        }
        assert!(
            variance
                .iter()
                .all(|variance| (variance / 1e-3 - 1.0).abs() < 1e-6)
        );
    }
}

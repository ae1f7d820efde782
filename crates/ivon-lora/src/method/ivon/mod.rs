//! IVON: the mean of the adapter and a variance for each of its weights, in the run that trains it.
//!
//! Source: arXiv 2411.04421 (the recipe), arXiv 2402.17641 (the optimizer, crate `ivon`).

mod config;
mod rule;
mod optimizer;

use burn::module::Module;
use ivon::{Ivon, IvonConfig, IvonError};

pub use config::{DrawPer, HessianEstimate, IvonMethodConfig, Recipe};
use optimizer::IvonOptimizer;

use super::{Method, Settings, Setup};
use crate::lora::Adapter;
use crate::settings::{Key, SettingError};
use crate::train::{Optimizer, TrainError};

impl IvonMethodConfig {
    /// Checks these settings and those of the optimizer that are made of them.
    pub(super) fn validate_with(&self, optimizer: &IvonConfig) -> Result<(), TrainError> {
        let rate = self.rate();
        if !(rate.is_finite() && rate > 0.0) {
            return Err(
                SettingError::value("learning_rate", rate, "a finite number above 0").into(),
            );
        }
        let wrong_sd = |sd: &f64| !(sd.is_finite() && *sd > 0.0);
        if let Some(sd) = self.posterior_sd.filter(wrong_sd) {
            return Err(SettingError::value("posterior_sd", sd, "a finite number above 0").into());
        }
        if self.frozen_hessian && self.hess_approx == Some(HessianEstimate::Fisher) {
            return Err(SettingError::new(
                "frozen_hessian",
                "true with hess_approx `fisher`, whose average has no start to keep",
                "false, or another estimate",
            )
            .into());
        }
        optimizer.validate().map_err(refused)
    }

    /// The optimizer with these settings, which are valid.
    pub(super) fn start_with(
        &self,
        config: IvonConfig,
        adapter: Adapter,
        setup: &Setup,
    ) -> Result<Box<dyn Optimizer>, TrainError> {
        Ok(Box::new(IvonOptimizer {
            draw_per: self.draw_per,
            no_noise: self.no_noise,
            learns_after: self.learn_prior.then(|| setup.steps.div_ceil(10)),
            optimizer: Ivon::new(config, adapter.train()).map_err(refused)?,
        }))
    }
}

impl Settings for IvonMethodConfig {
    fn name(&self) -> &'static str {
        "ivon"
    }

    fn keys(&self) -> Vec<Key> {
        Self::KEYS.to_vec()
    }

    fn learning_rate(&self) -> f64 {
        self.rate()
    }

    fn validate(&self) -> Result<(), TrainError> {
        self.validate_with(&self.optimizer_config(0, 1.0))
    }

    fn open(&self) -> Vec<&'static str> {
        self.open_settings()
    }

    fn chosen(&self, setup: &Setup, spread: f64) -> Option<(Method, Vec<String>)> {
        let (chosen, reasons) = rule::chosen(self, setup, spread);
        Some((Method::Ivon(chosen), reasons))
    }

    fn squares_gradients(&self) -> Option<&'static str> {
        self.squared_batches()
    }

    fn trains_magnitudes(&self) -> bool {
        true
    }

    fn start(&self, adapter: Adapter, setup: &Setup) -> Result<Box<dyn Optimizer>, TrainError> {
        self.validate()?;
        let examples = self.examples_per_draw(setup);
        self.start_with(self.optimizer_config(setup.seed, examples), adapter, setup)
    }
}

fn refused(error: IvonError) -> TrainError {
    TrainError::Optimizer {
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_of_two_make_the_average_of_squared_gradients_twice_and_not_four_times_as_large() {
        let config = IvonMethodConfig {
            hess_approx: Some(HessianEstimate::Fisher),
            ..IvonMethodConfig::default()
        };
        let setup = |weight_of_squares| Setup {
            seed: 0,
            steps: 1,
            steps_per_epoch: 1,
            batch_size: 4,
            accumulation: 2,
            examples: 8,
            dropout: 0.0,
            weight_of_squares,
        };
        // Of the square of a gradient that is twice as large, 4 g², half the factor B is taken.
        assert_eq!(config.examples_per_draw(&setup(1.0)), 8.0);
        assert_eq!(config.examples_per_draw(&setup(2.0)), 4.0);
    }

    #[test]
    fn squared_gradients_of_a_batch_are_named_where_they_make_the_posterior() {
        let of = |hess_approx| IvonMethodConfig {
            hess_approx,
            ..IvonMethodConfig::default()
        };
        for allowed in [
            None,
            Some(HessianEstimate::Price),
            Some(HessianEstimate::Fisher),
        ] {
            assert_eq!(of(allowed).squares_gradients(), None);
        }
        let squared = of(Some(HessianEstimate::Gradsq)).squares_gradients();
        assert_eq!(squared, Some("`hess_approx` = `gradsq`"));
    }
}

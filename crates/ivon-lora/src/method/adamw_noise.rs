//! AdamW with noise of the same size on all weights: the control for IVON's learned variances, which
//! add nothing if isotropic noise does as well.

use serde::{Deserialize, Serialize};

use super::adamw::AdamwConfig;
use super::{Settings, Setup, WithPosterior};
use crate::lora::Adapter;
use crate::posterior::{Gaussian, Posterior};
use crate::settings::{Key, Kind, SettingError};
use crate::train::{Optimizer, TrainError};

/// AdamW's settings and a standard deviation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdamwNoiseConfig {
    /// Those of the training.
    #[serde(flatten)]
    pub adamw: AdamwConfig,
    /// σ of every weight.
    pub noise_sd: f64,
}

impl AdamwNoiseConfig {
    /// A row for each key besides AdamW's.
    pub const KEYS: [Key; 1] = [Key::new(
        "noise_sd",
        Kind::Number,
        "The standard deviation of the noise on every weight.",
    )];
}

impl Default for AdamwNoiseConfig {
    /// The σ₀ of IVON's defaults, 1/√(10⁶ · 10⁻³) = 0.0316.
    fn default() -> Self {
        Self {
            adamw: AdamwConfig::default(),
            noise_sd: 0.0316,
        }
    }
}

/// N(mean, σ²) with the same σ for all weights; the point itself if σ² is not finite in f32.
pub(super) fn isotropic(point: Box<dyn Posterior>, sd: f64) -> Box<dyn Posterior> {
    let variance = point
        .mean()
        .clone_with(|_, tensor| tensor.zeros_like() + sd * sd);
    match Gaussian::new(point.mean().clone(), variance) {
        Ok(gaussian) => Box::new(gaussian),
        Err(_) => point,
    }
}

impl Settings for AdamwNoiseConfig {
    fn name(&self) -> &'static str {
        "adamw-noise"
    }

    fn keys(&self) -> Vec<Key> {
        [AdamwConfig::KEYS.as_slice(), Self::KEYS.as_slice()].concat()
    }

    fn learning_rate(&self) -> f64 {
        self.adamw.learning_rate
    }

    fn validate(&self) -> Result<(), TrainError> {
        if !(self.noise_sd >= 0.0 && self.noise_sd <= 1e6) {
            let expected = "a number from 0 to 1e6";
            return Err(SettingError::value("noise_sd", self.noise_sd, expected).into());
        }
        self.adamw.validate()
    }

    fn fits_afterwards(&self) -> bool {
        true
    }

    fn start(&self, adapter: Adapter, _: &Setup) -> Result<Box<dyn Optimizer>, TrainError> {
        self.validate()?;
        let sd = self.noise_sd;
        Ok(Box::new(WithPosterior::new(
            self.adamw.optimizer(adapter)?,
            move |point| isotropic(point, sd),
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::tiny::adapter;

    #[test]
    fn every_weight_has_the_same_noise_whatever_its_size() {
        let config = AdamwNoiseConfig {
            noise_sd: 0.5,
            ..AdamwNoiseConfig::default()
        };
        let setup = Setup {
            seed: 0,
            steps: 1,
            steps_per_epoch: 1,
            batch_size: 4,
            accumulation: 1,
            examples: 1,
            dropout: 0.0,
            weight_of_squares: 1.0,
        };
        let posterior = config
            .start(adapter(2, "q_proj,v_proj"), &setup)
            .unwrap()
            .posterior();
        assert!(
            posterior
                .variance()
                .unwrap()
                .flatten()
                .unwrap()
                .iter()
                .all(|&variance| variance == 0.25)
        );
        let mean = posterior.mean().flatten().unwrap();
        let drawn = posterior
            .draw(0, 1, 1.0)
            .unwrap()
            .adapter
            .flatten()
            .unwrap();
        let square = drawn
            .iter()
            .zip(&mean)
            .map(|(a, b)| f64::from(a - b).powi(2))
            .sum::<f64>()
            / mean.len() as f64;
        // 896 numbers: relative standard error √(2/896) = 0.047.
        assert!((square / 0.25 - 1.0).abs() < 0.2, "{square}");
        let error = AdamwNoiseConfig {
            noise_sd: -1.0,
            ..config
        }
        .validate()
        .unwrap_err()
        .to_string();
        assert_eq!(error, "`noise_sd` is `-1`, expected a number from 0 to 1e6");
    }
}

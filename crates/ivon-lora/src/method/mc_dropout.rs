//! MC dropout (Gal and Ghahramani, arXiv 1506.02142): AdamW with LoRA's dropout, which stays on in
//! prediction.
//!
//! This is the dropout before A alone: the base has none.

use serde::{Deserialize, Serialize};

use super::adamw::AdamwConfig;
use super::{Settings, Setup, WithPosterior};
use crate::lora::Adapter;
use crate::posterior::McDropout;
use crate::settings::{Key, SettingError};
use crate::train::{Optimizer, TrainError};

/// AdamW's settings; the rate is `lora.dropout`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct McDropoutConfig {
    /// Those of the training.
    #[serde(flatten)]
    pub adamw: AdamwConfig,
}

impl Settings for McDropoutConfig {
    fn name(&self) -> &'static str {
        "mc-dropout"
    }

    fn keys(&self) -> Vec<Key> {
        AdamwConfig::KEYS.to_vec()
    }

    fn learning_rate(&self) -> f64 {
        self.adamw.learning_rate
    }

    fn validate(&self) -> Result<(), TrainError> {
        self.adamw.validate()
    }

    fn fits_afterwards(&self) -> bool {
        true
    }

    fn trains_magnitudes(&self) -> bool {
        true
    }

    fn start(&self, adapter: Adapter, setup: &Setup) -> Result<Box<dyn Optimizer>, TrainError> {
        let rate = setup.dropout;
        if !(rate > 0.0 && rate < 1.0) {
            let expected = "above 0 and below 1 for the method `mc-dropout`";
            return Err(SettingError::value("dropout", rate, expected).into());
        }
        let optimizer = self.adamw.optimizer(adapter)?;
        Ok(Box::new(WithPosterior::new(
            optimizer,
            move |point| match McDropout::new(point.mean().clone(), rate) {
                Ok(masks) => Box::new(masks),
                // Unreachable, since the rate was checked.
                Err(_) => point,
            },
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::tiny::adapter;

    #[test]
    fn without_dropout_there_is_nothing_to_draw_and_the_run_does_not_start() {
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
        let error = McDropoutConfig::default()
            .start(adapter(1, "q_proj"), &setup)
            .err()
            .unwrap();
        assert_eq!(
            error.to_string(),
            "`dropout` is `0`, expected above 0 and below 1 for the method `mc-dropout`"
        );
    }
}

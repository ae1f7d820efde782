//! Deep ensemble (Lakshminarayanan et al., arXiv 1612.01474): several AdamW trainings with different
//! seeds (start, order of the data, dropout), one after the other on one frozen base; their
//! probabilities are averaged.

use serde::{Deserialize, Serialize};

use super::adamw::AdamwConfig;
use super::{Fit, Members, Passes, Settings, Setup};
use crate::lora::Adapter;
use crate::posterior::{Ensemble, Posterior};
use crate::settings::{Key, Kind, SettingError};
use crate::train::{Optimizer, TrainError};

/// The most members of a run.
const MAX_MEMBERS: usize = 100;

/// AdamW's settings and the number of members.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EnsembleConfig {
    /// Those of each member's training.
    #[serde(flatten)]
    pub adamw: AdamwConfig,
    /// The number of members.
    pub members: usize,
}

impl EnsembleConfig {
    /// A row for each key besides AdamW's.
    pub const KEYS: [Key; 1] = [Key::new(
        "members",
        Kind::Whole,
        "How many adapters are trained, one after the other.",
    )];
}

impl Default for EnsembleConfig {
    fn default() -> Self {
        Self {
            adamw: AdamwConfig::default(),
            members: 3,
        }
    }
}

impl Settings for EnsembleConfig {
    fn name(&self) -> &'static str {
        "ensemble"
    }

    fn keys(&self) -> Vec<Key> {
        [AdamwConfig::KEYS.as_slice(), Self::KEYS.as_slice()].concat()
    }

    fn learning_rate(&self) -> f64 {
        self.adamw.learning_rate
    }

    fn validate(&self) -> Result<(), TrainError> {
        if !(1..=MAX_MEMBERS).contains(&self.members) {
            return Err(SettingError::value("members", self.members, "from 1 to 100").into());
        }
        self.adamw.validate()
    }

    fn start(&self, adapter: Adapter, _: &Setup) -> Result<Box<dyn Optimizer>, TrainError> {
        Ok(Box::new(self.adamw.optimizer(adapter)?))
    }

    fn members(&self) -> usize {
        self.members
    }

    fn trains_magnitudes(&self) -> bool {
        true
    }

    fn prediction_passes(&self, samples: usize) -> Passes {
        Passes {
            together: 1.0 + samples.min(self.members) as f64,
            alone: 0.0,
        }
    }

    fn finish(&self, trained: Members, _: &mut Fit<'_>) -> Result<Box<dyn Posterior>, TrainError> {
        let others = trained.others().map(|member| member.mean().clone());
        let first = trained.first().mean().clone();
        Ok(Box::new(Ensemble::new(first, others.collect())?))
    }
}

//! AdamW, IVON and every alternative of the paper's table, one file each: how it trains, what it can draw.
//!
//! Adding a method is adding a file with an [`Optimizer`] and, where it draws in a way of its own, a
//! [`Posterior`], and a variant here.

mod adamw;
mod flat;
mod ivon;

use std::path::Path;

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::lora::Adapter;
use crate::model::DecoderConfig;
use crate::posterior::{PointEstimate, Posterior, PosteriorError, PosteriorInfo, read_posterior, write_posterior};
use crate::train::{Optimizer, TrainError};

pub use adamw::AdamwConfig;
pub use ivon::{DrawPer, IvonMethodConfig};

/// The optimizer of a run with its own settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "lowercase")]
pub enum Method {
    /// The variational optimizer of the paper.
    Ivon(IvonMethodConfig),
    /// The usual optimizer: a point estimate.
    Adamw(AdamwConfig),
}

impl Default for Method {
    fn default() -> Self {
        Self::Ivon(IvonMethodConfig::default())
    }
}

impl Method {
    /// Every method by name.
    pub const NAMES: [&str; 2] = ["ivon", "adamw"];

    /// A method by name with its default settings.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "ivon" => Some(Self::Ivon(IvonMethodConfig::default())),
            "adamw" => Some(Self::Adamw(AdamwConfig::default())),
            _ => None,
        }
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ivon(_) => "ivon",
            Self::Adamw(_) => "adamw",
        }
    }

    /// The learning rate before the schedule.
    pub fn learning_rate(&self) -> f64 {
        match self {
            Self::Ivon(config) => config.learning_rate,
            Self::Adamw(config) => config.learning_rate,
        }
    }

    /// Sets the learning rate.
    pub fn set_learning_rate(&mut self, learning_rate: f64) {
        match self {
            Self::Ivon(config) => config.learning_rate = learning_rate,
            Self::Adamw(config) => config.learning_rate = learning_rate,
        }
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// [`TrainError::Setting`] or [`TrainError::Optimizer`].
    pub fn validate(&self) -> Result<(), TrainError> {
        match self {
            Self::Ivon(config) => config.validate(),
            Self::Adamw(config) => config.validate(),
        }
    }

    /// The optimizer at its start. `seed` names its noise.
    ///
    /// # Errors
    /// If a setting is out of range.
    pub fn start(&self, adapter: Adapter, seed: u64) -> Result<Box<dyn Optimizer>, TrainError> {
        Ok(match self {
            Self::Ivon(config) => Box::new(config.start(adapter, seed)?),
            Self::Adamw(config) => Box::new(config.start(adapter)?),
        })
    }

    /// Writes what prediction needs beside the adapter in `folder` and gives the names of the files.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write_posterior(&self, folder: &Path, posterior: &dyn Posterior, scale: f64) -> Result<Vec<String>, PosteriorError> {
        let (Self::Ivon(config), Some(variance)) = (self, posterior.variance()) else { return Ok(Vec::new()) };
        let info = PosteriorInfo {
            method: self.name().into(),
            effective_sample_size: config.effective_sample_size(),
            weight_decay: config.weight_decay,
            scale,
        };
        write_posterior(folder, variance, &info)?;
        Ok(vec![crate::posterior::POSTERIOR_FILE.into()])
    }
}

/// Reads what an adapter folder can be drawn from: its posterior where there is one, else the adapter itself.
///
/// # Errors
/// If the posterior's file is malformed or belongs to another adapter.
pub fn load_posterior(
    folder: &Path,
    adapter: Adapter,
    decoder: &DecoderConfig,
    device: &Device,
) -> Result<Box<dyn Posterior>, PosteriorError> {
    if folder.join(crate::posterior::POSTERIOR_FILE).exists() {
        return Ok(Box::new(read_posterior(folder, &adapter, decoder, device)?.0));
    }
    Ok(Box::new(PointEstimate { adapter }))
}

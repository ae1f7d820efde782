//! The contract of a method: its settings say how it trains and what is made of what it has
//! trained.

use std::fmt;

use burn::tensor::Device;

use crate::data::Encoded;
use crate::forward::Network;
use crate::lora::Adapter;
use crate::model::DecoderConfig;
use crate::posterior::{Posterior, PosteriorError, Stored};
use crate::settings::Key;
use crate::train::{Optimizer, TrainConfig, TrainError};
use crate::watch::Watch;

/// The settings of a method: everything that a run asks of it.
pub trait Settings: fmt::Debug {
    /// Its name, such as `adamw`.
    fn name(&self) -> &'static str;

    /// A row for each of its settings, in the order in which a file has them.
    fn keys(&self) -> Vec<Key> {
        Vec::new()
    }

    /// The learning rate before the schedule.
    fn learning_rate(&self) -> f64;

    /// Checks the settings.
    ///
    /// # Errors
    /// [`TrainError::Setting`] or [`TrainError::Optimizer`].
    fn validate(&self) -> Result<(), TrainError>;

    /// The optimizer at its start, which trains `adapter`.
    ///
    /// # Errors
    /// If a setting is out of range, or cannot be in such a run.
    fn start(&self, adapter: Adapter, setup: &Setup) -> Result<Box<dyn Optimizer>, TrainError>;

    /// How many adapters it trains, one after the other, each under a seed of its own; at least 1.
    fn members(&self) -> usize {
        1
    }

    /// Whether there is anything to draw from once training has ended; a point estimate draws
    /// nothing.
    fn draws(&self) -> bool {
        true
    }

    /// The setting by which the method learns from rows of calibrate when training has ended; none
    /// where it does not.
    fn needs_calibrate(&self) -> Option<&'static str> {
        None
    }

    /// Whether all that it adds to a trained adapter comes after training, so that it can be fitted
    /// to an adapter that is there already.
    fn fits_afterwards(&self) -> bool {
        false
    }

    /// What [`finish`](Self::finish) computes over so many training examples, good to about a
    /// third; for the estimate of a run.
    fn fitting_passes(&self, _examples: usize) -> Passes {
        Passes::default()
    }

    /// What a prediction at the mean and with so many draws computes over its examples, good to
    /// about a third.
    fn prediction_passes(&self, samples: usize) -> Passes {
        Passes {
            together: 1.0 + if self.draws() { samples as f64 } else { 0.0 },
            alone: 0.0,
        }
    }

    /// What can be drawn from once training has ended. `trained` is what the optimizer of each of
    /// the [`members`](Self::members) gave, never empty. A method that learns from the data only
    /// now does it here.
    ///
    /// # Errors
    /// If a prediction fails, or whoever watches says stop.
    fn finish(
        &self,
        trained: Vec<Box<dyn Posterior>>,
        fit: &mut Fit<'_>,
    ) -> Result<Box<dyn Posterior>, TrainError> {
        let _ = fit;
        trained
            .into_iter()
            .next()
            .ok_or_else(|| TrainError::Optimizer {
                reason: "nothing was trained".into(),
            })
    }

    /// Reads back what [`Posterior::stored`] gave. A method whose posterior is none of the built-in
    /// kinds reads it itself.
    ///
    /// # Errors
    /// If something is missing from it, malformed, or does not belong to the mean.
    fn restore(
        &self,
        stored: &Stored,
        mean: Adapter,
        decoder: &DecoderConfig,
        device: &Device,
    ) -> Result<Box<dyn Posterior>, PosteriorError> {
        crate::posterior::restore(stored, mean, decoder, device)
    }
}

/// How often a set of examples goes forward through the network, or what takes as long.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Passes {
    /// In large batches, in which a common beginning is computed once.
    pub together: f64,
    /// Example by example.
    pub alone: f64,
}

/// What a method is told of a run before its first step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Setup {
    /// Names the method's own noise.
    pub seed: u64,
    /// Optimizer steps of the run.
    pub steps: u64,
    /// Optimizer steps in which each training example is seen once.
    pub steps_per_epoch: u64,
    /// Number of training examples.
    pub examples: usize,
    /// Probability that an input of A is dropped in training.
    pub dropout: f64,
}

impl Setup {
    /// The run that these settings make of so many training examples.
    pub fn new(config: &TrainConfig, examples: usize, dropout: f64, seed: u64) -> Self {
        let per_step = (config.batch_size * config.accumulation).max(1);
        let steps_per_epoch = examples.div_ceil(per_step).max(1) as u64;
        Self {
            seed,
            steps: config.length(examples).steps,
            steps_per_epoch,
            examples,
            dropout,
        }
    }
}

/// What a method may learn from when training has ended.
pub struct Fit<'a> {
    /// The frozen decoder.
    pub network: &'a Network,
    /// Probability that an input of A was dropped in training.
    pub dropout: f64,
    /// Names the method's own noise.
    pub seed: u64,
    /// Prompts are packed up to this many tokens per forward pass.
    pub batch_tokens: usize,
    /// The training examples.
    pub train: &'a [Encoded],
    /// Labelled rows of calibrate, for what a method chooses on rows that it was not trained on;
    /// may be empty.
    pub calibrate: &'a [Encoded],
    /// Hears how far the fit has come and says whether to go on.
    pub watch: Watch<'a>,
}

//! The contract of a method: its settings say how it trains, and make a posterior of what it has
//! trained.

use std::fmt;

use burn::tensor::Device;

use super::Method;
use crate::data::Encoded;
use crate::forward::Network;
use crate::lora::Adapter;
use crate::model::DecoderConfig;
use crate::posterior::{Posterior, PosteriorError, Stored};
use crate::settings::Key;
use crate::train::{LossWeights, Optimizer, TrainConfig, TrainError};
use crate::watch::Watch;

/// The settings of a method, through which a run asks everything of it.
pub trait Settings: fmt::Debug {
    /// Its name, such as `adamw`.
    fn name(&self) -> &'static str;

    /// A row for each of its settings, in the order of a file.
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

    /// The names of the settings that are left open, which [`chosen`](Self::chosen) gives a value.
    fn open(&self) -> Vec<&'static str> {
        Vec::new()
    }

    /// These settings with a value for each that was left open, chosen for such a run, and a
    /// sentence for each choice; none where nothing can be left open. `spread` is the standard
    /// deviation of A's entries at their start.
    fn chosen(&self, setup: &Setup, spread: f64) -> Option<(Method, Vec<String>)> {
        let _ = (setup, spread);
        None
    }

    /// The optimizer at its start, which trains `adapter`.
    ///
    /// # Errors
    /// If a setting is out of range, or does not fit the run.
    fn start(&self, adapter: Adapter, setup: &Setup) -> Result<Box<dyn Optimizer>, TrainError>;

    /// How many adapters it trains, one after the other, each under a seed of its own; at least 1.
    fn members(&self) -> usize {
        1
    }

    /// Whether training ends with something to draw from, rather than with a point estimate.
    fn draws(&self) -> bool {
        true
    }

    /// The setting by which the method learns from rows of calibrate after training, if it does.
    fn needs_calibrate(&self) -> Option<&'static str> {
        None
    }

    /// Whether each choice must be scored by a single token.
    fn needs_single_tokens(&self) -> bool {
        false
    }

    /// Whether it relies on logits that are linear in the rows of the output layer, which a model
    /// with a limit on its logits does not have.
    fn needs_linear_logits(&self) -> bool {
        false
    }

    /// Whether it adds something to a trained adapter only after training, so that it can be fitted
    /// to an existing one.
    fn fits_afterwards(&self) -> bool {
        false
    }

    /// Whether it can learn from texts, where every token of the vocabulary may come next: not if it
    /// makes its posterior of choices and their probabilities.
    fn learns_texts(&self) -> bool {
        true
    }

    /// The setting by which its posterior is made of squared gradients of a batch as they are, in which
    /// the weight of a class would count by its square, if there is one.
    fn squares_gradients(&self) -> Option<&'static str> {
        None
    }

    /// Whether it treats the magnitudes of DoRA as it does any other parameter, and no part of it is
    /// made for A and B alone.
    fn trains_magnitudes(&self) -> bool {
        false
    }

    /// Whether it treats what an adapter does to the tables over the vocabulary as it does any other
    /// parameter.
    fn trains_tables(&self) -> bool {
        self.trains_magnitudes()
    }

    /// What [`finish`](Self::finish) computes over this many training examples, to within about a
    /// third; for the estimate of a run.
    fn fitting_passes(&self, _examples: usize) -> Passes {
        Passes::default()
    }

    /// What a prediction at the mean and with this many draws computes over its examples, to within
    /// about a third.
    fn prediction_passes(&self, samples: usize) -> Passes {
        Passes {
            together: 1.0 + if self.draws() { samples as f64 } else { 0.0 },
            alone: 0.0,
        }
    }

    /// The posterior once training has ended. A method that learns from the data only after
    /// training does so here.
    ///
    /// # Errors
    /// If a prediction fails, or the watcher says stop.
    fn finish(
        &self,
        trained: Members,
        fit: &mut Fit<'_>,
    ) -> Result<Box<dyn Posterior>, TrainError> {
        let _ = fit;
        Ok(trained.into_first())
    }

    /// Reads back what [`Posterior::stored`] returned. A method whose posterior is not of a built-in
    /// kind reads it itself.
    ///
    /// # Errors
    /// If something in it is missing, malformed, or does not belong to the mean.
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

/// What the optimizer of each of a method's [`members`](Settings::members) trained; at least one.
pub struct Members {
    first: Box<dyn Posterior>,
    others: Vec<Box<dyn Posterior>>,
}

impl Members {
    /// A first member, alone so far.
    pub fn new(first: Box<dyn Posterior>) -> Self {
        let others = Vec::new();
        Self { first, others }
    }

    /// Adds a member.
    pub fn push(&mut self, member: Box<dyn Posterior>) {
        self.others.push(member);
    }

    /// The first member.
    pub fn first(&self) -> &dyn Posterior {
        self.first.as_ref()
    }

    /// The first member, for a method that has no others.
    pub fn into_first(self) -> Box<dyn Posterior> {
        self.first
    }

    /// The members after the first.
    pub fn others(&self) -> impl Iterator<Item = &dyn Posterior> {
        self.others.iter().map(AsRef::as_ref)
    }
}

/// How often a set of examples goes through the network, forward or at the same cost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Passes {
    /// In large batches, where a common beginning is computed once.
    pub together: f64,
    /// Example by example.
    pub alone: f64,
}

/// What a method is told about a run before its first step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Setup {
    /// Seed of the method's own noise.
    pub seed: u64,
    /// Optimizer steps of the run.
    pub steps: u64,
    /// Optimizer steps of an epoch.
    pub steps_per_epoch: u64,
    /// Examples per micro-batch.
    pub batch_size: usize,
    /// Micro-batches per step.
    pub accumulation: usize,
    /// Number of training examples; of texts, the number of tokens to predict.
    pub examples: usize,
    /// Probability that an input of A is dropped in training.
    pub dropout: f64,
    /// Σ w² / Σ w over the weights w of the training examples in the loss, by which squared gradients
    /// are too large as an estimate of its curvature; 1 if all count once.
    pub weight_of_squares: f64,
}

impl Setup {
    /// The run that these settings make of this many training examples.
    pub fn new(config: &TrainConfig, examples: usize, dropout: f64, seed: u64) -> Self {
        let per_step = (config.batch_size * config.accumulation).max(1);
        let steps_per_epoch = examples.div_ceil(per_step).max(1) as u64;
        Self {
            seed,
            steps: config.length(examples).steps,
            steps_per_epoch,
            batch_size: config.batch_size,
            accumulation: config.accumulation,
            examples,
            dropout,
            weight_of_squares: 1.0,
        }
    }
}

/// What a method may learn from after training.
pub struct Fit<'a> {
    /// The frozen decoder.
    pub network: &'a Network,
    /// Probability that an input of A was dropped in training.
    pub dropout: f64,
    /// Seed of the method's own noise.
    pub seed: u64,
    /// Prompts are packed up to this many tokens per forward pass.
    pub batch_tokens: usize,
    /// The training examples.
    pub train: &'a [Encoded],
    /// What each class counted in the loss of the training.
    pub weights: &'a LossWeights,
    /// Labelled rows of calibrate, for choices to be made on rows that were not trained on; may be
    /// empty.
    pub calibrate: &'a [Encoded],
    /// Hears how far the fit has come and says whether to go on.
    pub watch: Watch<'a>,
}

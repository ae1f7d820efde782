//! What a goal learns from and is scored on, whatever it predicts.

use super::{LossWeights, TrainConfig};
use crate::data::{Encoded, batch_indices};
use crate::forward::Network;
use crate::lora::LoraConfig;
use crate::predict::EvaluationOptions;

/// Examples to learn from and to score on, with the network and the settings.
#[derive(Clone, Copy)]
pub struct GoalExamples<'a> {
    /// The frozen decoder.
    pub network: &'a Network,
    /// Scaling and dropout of the adapter.
    pub lora: &'a LoraConfig,
    /// Batch size, accumulation, and draws of the scores.
    pub config: &'a TrainConfig,
    /// How scores are computed; the number of draws is that of `config`.
    pub evaluation: EvaluationOptions,
    /// What each class counts in the loss.
    pub weights: &'a LossWeights,
    /// The examples to learn from.
    pub train: &'a [Encoded],
    /// The examples to score on; may be empty.
    pub tune: &'a [Encoded],
}

impl<'a> GoalExamples<'a> {
    /// The examples of each micro-batch of a step. The order of the epoch is computed again for each
    /// of them, which takes a millisecond for a hundred thousand examples.
    pub(super) fn micro_batches(&self, seed: u64, step: u64) -> Vec<Vec<&'a Encoded>> {
        let accumulation = self.config.accumulation as u64;
        let batch = |micro_batch: u64| {
            let pass = step * accumulation + micro_batch;
            batch_indices(seed, self.train.len(), self.config.batch_size, pass)
                .into_iter()
                .map(|index| &self.train[index])
                .collect()
        };
        (0..accumulation).map(batch).collect()
    }

    /// How *tune* is scored.
    pub(super) fn options(&self) -> EvaluationOptions {
        EvaluationOptions {
            samples: self.config.eval_samples,
            ..self.evaluation
        }
    }
}

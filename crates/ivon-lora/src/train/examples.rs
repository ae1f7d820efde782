//! What a goal learns from and is scored on, whatever it predicts.

use super::divided::DividedObjective;
use super::{LossWeights, Objective, TrainConfig};
use crate::data::{Encoded, batch_indices};
use crate::forward::Network;
use crate::lora::LoraConfig;
use crate::predict::EvaluationOptions;
use crate::ranks::Team;

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
    /// The ranks that take each step together; none if one process takes it.
    pub team: Option<&'a Team<'a>>,
}

/// The examples of a step's micro-batches that a process evaluates.
pub(super) struct StepPart<'a> {
    pub micro_batches: Vec<Vec<&'a Encoded>>,
    /// The number of the first of them and how many the whole step has, if they are whole.
    pub whole: Option<[u64; 2]>,
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

    /// The part of a step that this process evaluates. Micro-batches are divided among ranks as they
    /// are if their number is a multiple of that of the ranks, and else each by its examples.
    pub(super) fn part(&self, seed: u64, step: u64) -> StepPart<'a> {
        let mut micro_batches = self.micro_batches(seed, step);
        let of = micro_batches.len();
        let Some(team) = self.team else {
            return StepPart {
                micro_batches,
                whole: Some([0, of as u64]),
            };
        };
        if of.is_multiple_of(team.size()) {
            let own = team.part(of);
            let first = own.start as u64;
            return StepPart {
                micro_batches: micro_batches.drain(own).collect(),
                whole: Some([first, of as u64]),
            };
        }
        for examples in &mut micro_batches {
            *examples = examples[team.part(examples.len())].to_vec();
        }
        StepPart {
            micro_batches,
            whole: None,
        }
    }

    /// The objective of a step whose own part is `own`, of this weight.
    pub(super) fn over_ranks(
        &self,
        own: impl Objective + 'a,
        weight: f64,
        whole: Option<[u64; 2]>,
    ) -> Box<dyn Objective + 'a> {
        match self.team {
            None => Box::new(own),
            Some(team) => Box::new(DividedObjective::new(Box::new(own), weight, team, whole)),
        }
    }

    /// How *tune* is scored.
    pub(super) fn options(&self) -> EvaluationOptions {
        EvaluationOptions {
            samples: self.config.eval_samples,
            ..self.evaluation
        }
    }
}

//! The objective of choices: mean cross-entropy over the choices' log-probabilities of a step's
//! examples, and the divergence of a contextual adapter from its prior, per example, where its draw
//! wants it.

use burn::optim::GradientsParams;
use burn::tensor::{Int, Tensor, TensorData};

use super::{Evidence, Objective, TrainError};
use crate::data::Encoded;
use crate::forward::Network;
use crate::lora::{Adapter, Draw, Dropout};
use crate::predict::{Questions, log_probabilities_at};

/// The examples of one step, packed.
pub struct BatchObjective<'a> {
    network: &'a Network,
    dropout: f64,
    seed: u64,
    step: u64,
    micro_batches: Vec<(Questions, Vec<i64>)>,
    examples: usize,
}

impl<'a> BatchObjective<'a> {
    /// Packs the examples of step `step` (from 0); examples without a label are left out.
    pub fn new(
        network: &'a Network,
        dropout: f64,
        seed: u64,
        step: u64,
        micro_batches: &[Vec<&Encoded>],
    ) -> Self {
        let pack = |examples: &Vec<&Encoded>| {
            let labelled: Vec<&Encoded> = examples
                .iter()
                .copied()
                .filter(|example| example.label().is_some())
                .collect();
            let labels: Vec<i64> = labelled
                .iter()
                .filter_map(|example| example.label())
                .map(|label| label as i64)
                .collect();
            (Questions::pack(&labelled), labels)
        };
        let micro_batches: Vec<_> = micro_batches
            .iter()
            .map(pack)
            .filter(|(questions, _)| !questions.is_empty())
            .collect();
        let examples = micro_batches
            .iter()
            .map(|(questions, _)| questions.len())
            .sum();
        Self {
            network,
            dropout,
            seed,
            step,
            micro_batches,
            examples,
        }
    }
}

impl Objective for BatchObjective<'_> {
    fn micro_batches(&self) -> usize {
        self.micro_batches.len()
    }

    fn share(&self, micro_batch: usize) -> f64 {
        self.micro_batches[micro_batch].0.len() as f64 / self.examples as f64
    }

    fn tokens(&self) -> usize {
        self.micro_batches
            .iter()
            .map(|(questions, _)| questions.batch.len())
            .sum()
    }

    fn evaluate(
        &mut self,
        adapter: &Adapter,
        micro_batch: usize,
        draw: u64,
    ) -> Result<Evidence, TrainError> {
        let (questions, labels) = &self.micro_batches[micro_batch];
        // Masks differ between draws and between micro-batches only through the examples' own keys.
        let dropout = (self.dropout > 0.0).then_some(Dropout {
            rate: self.dropout,
            seed: self.seed,
            step: self.step,
            draw,
        });
        let draw = Draw {
            adapter: adapter.clone(),
            dropout,
        };
        let hidden = self.network.hidden(&questions.batch, &draw);
        let log_probabilities = log_probabilities_at(self.network, hidden.states, questions);
        let labels = TensorData::new(labels.clone(), [labels.len(), 1]);
        let labels =
            Tensor::<2, Int>::from_data(labels, &log_probabilities.device().without_autodiff());
        let mut loss = log_probabilities.gather(1, labels).mean().neg();
        if let Some(penalty) = hidden.penalty {
            loss = loss + penalty / questions.len() as f64;
        }
        let value = f64::from(loss.clone().try_into_scalar::<f32>().map_err(|error| {
            TrainError::Device {
                reason: error.to_string(),
            }
        })?);
        if !value.is_finite() {
            return Err(TrainError::NonFiniteLoss {
                step: self.step + 1,
                loss: value,
                good: None,
            });
        }
        Ok(Evidence {
            loss: value,
            gradients: GradientsParams::from_grads(loss.backward(), adapter),
        })
    }
}

//! The objective of choices: the mean cross-entropy of a step's examples over their choices, plus the
//! penalty of an adapter that has one, per example.

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
    /// The objective of step `step` (from 0) over these examples; those without a label are left
    /// out.
    pub fn new(
        network: &'a Network,
        dropout: f64,
        seed: u64,
        step: u64,
        micro_batches: &[Vec<&Encoded>],
    ) -> Self {
        let packed = micro_batches.iter().map(|examples| pack(examples));
        let packed = packed.filter(|(questions, _)| !questions.is_empty());
        let micro_batches: Vec<_> = packed.collect();
        let sizes = micro_batches.iter().map(|(questions, _)| questions.len());
        Self {
            network,
            dropout,
            seed,
            step,
            examples: sizes.sum(),
            micro_batches,
        }
    }

    /// The loss of a micro-batch under a draw of the adapter.
    fn loss(&self, micro_batch: usize, draw: &Draw) -> Tensor<1> {
        let (questions, labels) = &self.micro_batches[micro_batch];
        let hidden = self.network.hidden(&questions.batch, draw);
        let log_probabilities = log_probabilities_at(self.network, hidden.states, questions);
        let labels = TensorData::new(labels.clone(), [labels.len(), 1]);
        let device = log_probabilities.device().without_autodiff();
        let labels = Tensor::<2, Int>::from_data(labels, &device);
        let loss = log_probabilities.gather(1, labels).mean().neg();
        match hidden.penalty {
            Some(penalty) => loss + penalty / questions.len() as f64,
            None => loss,
        }
    }
}

/// The labelled ones among these examples, packed, and their labels.
fn pack(examples: &[&Encoded]) -> (Questions, Vec<i64>) {
    let labels = examples.iter().filter_map(|example| example.label());
    let labels = labels.map(|label| label as i64).collect();
    let labelled = examples.iter().copied();
    let labelled: Vec<&Encoded> = labelled
        .filter(|example| example.label().is_some())
        .collect();
    (Questions::pack(&labelled), labels)
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
        // Within a step, masks differ by draw and by the keys of the examples, not by micro-batch.
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
        let loss = self.loss(micro_batch, &draw);
        let value = loss.clone().try_into_scalar::<f32>();
        let value = value.map_err(|error| TrainError::Device {
            reason: error.to_string(),
        })?;
        let value = f64::from(value);
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

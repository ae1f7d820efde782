//! A forward pass of a training step, and the gradients of its loss.

use burn::optim::GradientsParams;
use burn::tensor::{Gradients, Tensor};

use super::{Evidence, TrainError};
use crate::data::Batch;
use crate::forward::{Hidden, Network};
use crate::lora::{Adapter, Draw, Dropout};

/// The passes of one step.
#[derive(Clone, Copy)]
pub struct StepPass<'a> {
    /// The frozen decoder.
    pub network: &'a Network,
    /// The rate of dropout, a fraction.
    pub dropout: f64,
    /// The seed of the dropout masks.
    pub seed: u64,
    /// The step, from 0.
    pub step: u64,
}

impl StepPass<'_> {
    /// The hidden states of a micro-batch under the dropout masks of draw `draw`.
    pub fn hidden(&self, batch: &Batch, adapter: &Adapter, draw: u64) -> Hidden {
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
        self.network.hidden(batch, &draw)
    }

    /// The loss with its gradients by the adapter; `also` reads the gradients by anything else.
    ///
    /// # Errors
    /// If the loss is not finite, or the device does not return it.
    pub fn evidence(
        &self,
        adapter: &Adapter,
        loss: Tensor<1>,
        also: impl FnOnce(&Gradients),
    ) -> Result<Evidence, TrainError> {
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
        let gradients = loss.backward();
        also(&gradients);
        Ok(Evidence {
            loss: value,
            gradients: GradientsParams::from_grads(gradients, adapter),
        })
    }
}

/// A mean loss with what the adapter adds to the sum over `count` examples or tokens.
pub fn with_penalty(loss: Tensor<1>, penalty: Option<Tensor<1>>, count: f64) -> Tensor<1> {
    match penalty {
        Some(penalty) => loss + penalty / count,
        None => loss,
    }
}

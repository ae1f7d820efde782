//! An objective whose answers are known, and methods at another learning rate, for the tests of
//! this room.

use burn::module::Module;
use burn::optim::GradientsParams;

use super::Method;
use crate::lora::Adapter;
use crate::train::{Evidence, Objective, TrainError};

/// The loss ½ Σ θ² over all weights: its gradient is θ, its Hessian 1. It keeps the weights that it
/// is asked about.
#[derive(Default)]
pub struct Bowl {
    pub seen: Vec<Vec<f32>>,
}

impl Objective for Bowl {
    fn micro_batches(&self) -> usize {
        1
    }

    fn share(&self, _: usize) -> f64 {
        1.0
    }

    fn tokens(&self) -> usize {
        0
    }

    fn evaluate(&mut self, adapter: &Adapter, _: usize, _: u64) -> Result<Evidence, TrainError> {
        self.seen.push(adapter.valid().flatten()?);
        let loss = adapter
            .parameters()
            .map(|(_, parameter)| parameter.val().square().sum() * 0.5)
            .reduce(|a, b| a + b)
            .unwrap();
        let value = f64::from(loss.clone().into_scalar::<f32>());
        Ok(Evidence {
            loss: value,
            gradients: GradientsParams::from_grads(loss.backward(), adapter),
        })
    }
}

/// An objective of one micro-batch, whose loss and gradients a function gives.
pub struct OneBatch<F>(pub F);

impl<F: FnMut(&Adapter) -> Evidence> Objective for OneBatch<F> {
    fn micro_batches(&self) -> usize {
        1
    }

    fn share(&self, _: usize) -> f64 {
        1.0
    }

    fn tokens(&self) -> usize {
        0
    }

    fn evaluate(&mut self, adapter: &Adapter, _: usize, _: u64) -> Result<Evidence, TrainError> {
        Ok(self.0(adapter))
    }
}

/// A method with this learning rate, as its table in a file would say it.
pub fn with_learning_rate(method: &Method, learning_rate: f64) -> Method {
    let mut table = toml::Table::try_from(method).unwrap();
    table.insert("learning_rate".into(), learning_rate.into());
    table.try_into().unwrap()
}

//! The result of a forward pass.

use burn::tensor::{Int, Tensor};

use super::tables::OutputChange;

/// Hidden states, and what their adapter adds to what is made of them.
#[derive(Clone, Debug)]
pub struct Hidden {
    /// The hidden states after the last norm at the tokens that the batch requests, `[S, H]`.
    pub states: Tensor<2>,
    /// What the adapter does to the output layer, if it does anything.
    pub output: Option<OutputChange>,
    /// The adapter's penalty, to be added to the loss of the whole batch, `[1]`, nats, if its draw
    /// has one: summed over the tokens of each layer, see [`crate::lora::Side`].
    pub penalty: Option<Tensor<1>>,
}

impl Hidden {
    /// Some of the hidden states, possibly several times, without the penalty.
    pub fn select(&self, rows: Tensor<1, Int>) -> Self {
        let output = self.output.as_ref();
        Self {
            states: self.states.clone().select(0, rows.clone()),
            output: output.map(|output| output.select(rows)),
            penalty: None,
        }
    }
}

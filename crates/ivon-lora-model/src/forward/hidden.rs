//! The result of a forward pass.

use burn::tensor::Tensor;

/// Hidden states, and the penalty of their adapter.
#[derive(Clone, Debug)]
pub struct Hidden {
    /// The hidden states after the last norm at the tokens that the batch requests, `[S, H]`.
    pub states: Tensor<2>,
    /// The adapter's penalty, to be added to the loss of the whole batch, `[1]`, nats, if its draw
    /// has one: summed over the tokens of each layer, see [`crate::lora::Side`].
    pub penalty: Option<Tensor<1>>,
}

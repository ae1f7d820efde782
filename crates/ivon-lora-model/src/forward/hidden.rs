//! What a forward pass gives.

use burn::tensor::Tensor;

/// Hidden states, and what their adapter costs beside the loss.
#[derive(Clone, Debug)]
pub struct Hidden {
    /// The hidden states after the last norm at the tokens that the batch asks for, `[S, H]`.
    pub states: Tensor<2>,
    /// What the adapter adds to the loss of the whole batch, `[1]`, nats, where its draw wants it:
    /// over the tokens that go through each layer, see [`crate::lora::Side`].
    pub penalty: Option<Tensor<1>>,
}

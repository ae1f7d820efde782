//! One decoder layer on slices, forward and backward: attention, then the MLP.

use super::mlp::MlpTape;
use super::pass::LayerPass;
use super::self_attention::AttentionTape;
use crate::kernel::Buffer;
use crate::model::Norms;

/// What a layer's forward pass keeps for its backward pass.
pub struct Tape {
    attention: AttentionTape,
    mlp: MlpTape,
}

impl LayerPass<'_> {
    /// y of x `[N, H]`; `[S, H]` at the requested tokens for the last layer.
    pub fn forward(&self, x: Buffer) -> (Buffer, Tape) {
        let Norms::Before = self.kind.norms;
        let (middle, attention) = self.attention(x);
        let (y, mlp) = self.mlp(middle);
        (y, Tape { attention, mlp })
    }

    /// dx `[N, H]` from dy; writes the gradients of the adapter to `gradient`. No dx if nothing
    /// below `wants_dx`.
    pub fn backward(
        &self,
        dy: Buffer,
        tape: Tape,
        gradient: &mut [f32],
        wants_dx: bool,
    ) -> Option<Buffer> {
        let Norms::Before = self.kind.norms;
        let d_middle = self.mlp_backward(dy, tape.mlp, gradient);
        self.attention_backward(d_middle, &tape.attention, gradient, wants_dx)
    }
}

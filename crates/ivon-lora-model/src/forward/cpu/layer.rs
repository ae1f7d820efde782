//! One decoder layer on slices, forward and backward: attention, then the gated layer.

use super::mlp::MlpTape;
use super::pass::LayerPass;
use super::self_attention::AttentionTape;
use crate::kernel::Buffer;
use crate::model::Norms;

/// What a forward pass leaves for the backward pass of a layer.
pub struct Tape {
    attention: AttentionTape,
    mlp: MlpTape,
}

impl LayerPass<'_> {
    /// y of x `[N, H]`; `[S, H]` at the asked tokens for the last layer.
    pub fn forward(&self, x: Buffer) -> (Buffer, Tape) {
        let Norms::Before = self.kind.norms;
        let (middle, attention) = self.attention(x);
        let (y, mlp) = self.mlp(middle);
        (y, Tape { attention, mlp })
    }

    /// dx `[N, H]` from dy, with the gradients of the adapter written to `gradient`; no dx where
    /// nothing below `wants_dx`.
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

//! The second half of a decoder layer on slices, forward and backward:
//!
//! ```text
//! n = norm(m)      y = m + W (silu(W n) ⊙ W n)
//! ```
//!
//! The backward pass keeps m and the gate's two inputs, and recomputes n and the gated product.

use super::low_rank::{Low, ProjectionGradient};
use super::pass::LayerPass;
use crate::kernel::{self, Buffer};
use crate::model::{Gate, Projection};

/// What the forward pass keeps.
pub struct MlpTape {
    middle: Buffer,
    inverse: Buffer,
    gate: Buffer,
    up: Buffer,
    /// Of gate, up, down.
    low: [Option<Low>; 3],
}

impl LayerPass<'_> {
    /// y of m `[n, H]`.
    pub fn mlp(&self, middle: Buffer) -> (Buffer, MlpTape) {
        let (normed, inverse) = self.norm(&middle, &self.weights.post_attention_layernorm);
        let [(gate, low_gate), (up, low_up)] =
            self.project([Projection::Gate, Projection::Up], &normed, None);
        drop(normed);
        let mut gated = self.take(gate.len());
        let Gate::Silu = self.kind.gate;
        kernel::gated(&gate, &up, &mut gated);
        let [(y, low_down)] = self.project([Projection::Down], &gated, Some(&middle));
        let tape = MlpTape {
            middle,
            inverse,
            gate,
            up,
            low: [low_gate, low_up, low_down],
        };
        (y, tape)
    }

    /// dm, in place of dy.
    pub fn mlp_backward(&self, dy: Buffer, tape: MlpTape, gradient: &mut [f32]) -> Buffer {
        let MlpTape {
            middle,
            inverse,
            mut gate,
            mut up,
            low: [low_gate, low_up, low_down],
        } = tape;
        self.down_backward(&dy, low_down.as_ref(), [&mut gate, &mut up], gradient);
        let weight = &self.weights.post_attention_layernorm;
        let normed = self.norm_again(&middle, weight, &inverse);
        let mut d_normed = self.take(middle.len());
        let through = [
            (Projection::Gate, &gate, &low_gate),
            (Projection::Up, &up, &low_up),
        ];
        let through = through.map(|(projection, dy, low)| ProjectionGradient {
            projection,
            dy,
            low: low.as_ref(),
        });
        self.project_backward(&through, &normed, Some(&mut d_normed), gradient);
        let mut d_middle = dy;
        kernel::rms_norm_backward(&d_normed, &middle, weight, &inverse, &mut d_middle, true);
        d_middle
    }

    /// Backward through Down(silu(gate) ⊙ up): replaces gate and up by their gradients.
    fn down_backward(
        &self,
        dy: &[f32],
        low: Option<&Low>,
        [gate, up]: [&mut Buffer; 2],
        gradient: &mut [f32],
    ) {
        let Gate::Silu = self.kind.gate;
        let mut d_gated = self.take(gate.len());
        // Only the adapter's gradient needs the input of Down.
        let mut gated = self.take(if low.is_some() { gate.len() } else { 0 });
        if !gated.is_empty() {
            kernel::gated(gate, up, &mut gated);
        }
        let through = [ProjectionGradient {
            projection: Projection::Down,
            dy,
            low,
        }];
        self.project_backward(&through, &gated, Some(&mut d_gated), gradient);
        drop(gated);
        kernel::gated_backward(&d_gated, gate, up);
    }
}

//! The gated MLP of a decoder layer on slices, forward and backward:
//!
//! ```text
//! y = W (act(W x) ⊙ W x)
//! ```
//!
//! The backward pass keeps the gate's two inputs, and recomputes the gated product.

use super::low_rank::{Low, ProjectionGradient};
use super::pass::LayerPass;
use crate::kernel::{self, Buffer, ColumnsMut, View};
use crate::model::{Gate, Projection};

/// What the forward pass keeps.
pub struct MlpTape {
    gate: Buffer,
    up: Buffer,
    /// Of gate and up, or of both as one and nothing.
    low: [Option<Low>; 2],
    low_down: Option<Low>,
}

impl LayerPass<'_> {
    /// y of x `[n, H]`, added `onto` rows if there are any.
    pub fn mlp(&self, x: &[f32], onto: Option<&[f32]>) -> (Buffer, MlpTape) {
        let (gate, up, low) = self.gate_and_up(x);
        let gated = self.gated(&gate, &up);
        let [(y, low_down)] = self.project([Projection::Down], &gated, onto);
        let tape = MlpTape {
            gate,
            up,
            low,
            low_down,
        };
        (y, tape)
    }

    fn gate_and_up(&self, x: &[f32]) -> (Buffer, Buffer, [Option<Low>; 2]) {
        if !self.kind.mlp.is_fused {
            let [(gate, low_gate), (up, low_up)] =
                self.project([Projection::Gate, Projection::Up], x, None);
            return (gate, up, [low_gate, low_up]);
        }
        let [(both, low)] = self.project([Projection::GateUp], x, None);
        let wide = self.kind.mlp.intermediate_size;
        let [gate, up] = [0, wide].map(|first| self.columns(&both, [first, wide, 2 * wide]));
        (gate, up, [low, None])
    }

    fn gated(&self, gate: &[f32], up: &[f32]) -> Buffer {
        let mut gated = self.take(gate.len());
        match self.kind.mlp.gate {
            Gate::Silu => kernel::gated(gate, up, &mut gated),
            Gate::GeluTanh => kernel::gelu_gated(gate, up, &mut gated),
        }
        gated
    }

    /// dx of dy.
    pub fn mlp_backward(
        &self,
        tape: MlpTape,
        dy: &[f32],
        x: &[f32],
        gradient: &mut [f32],
    ) -> Buffer {
        let MlpTape {
            mut gate,
            mut up,
            low: [low_gate, low_up],
            low_down,
        } = tape;
        self.down_backward(dy, low_down.as_ref(), [&mut gate, &mut up], gradient);
        if !self.kind.mlp.is_fused {
            let mut dx = self.take(x.len());
            let through = [
                ProjectionGradient::new(Projection::Gate, &gate, low_gate.as_ref()),
                ProjectionGradient::new(Projection::Up, &up, low_up.as_ref()),
            ];
            self.project_backward(&through, x, Some(&mut dx), gradient);
            return dx;
        }
        let wide = self.kind.mlp.intermediate_size;
        let mut both = self.take(2 * gate.len());
        for (first, values) in [(0, &gate), (wide, &up)] {
            let rows = values.len() / wide;
            let out = ColumnsMut {
                values: &mut both[first..],
                columns: wide,
                stride: 2 * wide,
            };
            kernel::copy_columns(View::new(values, rows, wide), out);
        }
        let through = ProjectionGradient::new(Projection::GateUp, &both, low_gate.as_ref());
        self.input_gradient(through, x, gradient)
    }

    /// Backward through Down(act(gate) ⊙ up): replaces gate and up by their gradients.
    fn down_backward(
        &self,
        dy: &[f32],
        low: Option<&Low>,
        [gate, up]: [&mut Buffer; 2],
        gradient: &mut [f32],
    ) {
        let mut d_gated = self.take(gate.len());
        // Only the adapter's gradient needs the input of Down.
        let gated = match low {
            Some(_) => self.gated(gate, up),
            None => self.take(0),
        };
        let through = [ProjectionGradient::new(Projection::Down, dy, low)];
        self.project_backward(&through, &gated, Some(&mut d_gated), gradient);
        drop(gated);
        match self.kind.mlp.gate {
            Gate::Silu => kernel::gated_backward(&d_gated, gate, up),
            Gate::GeluTanh => kernel::gelu_gated_backward(&d_gated, gate, up),
        }
    }
}

//! The layers' own inputs on slices, forward and backward (Gemma 4). For all layers at once, with e
//! the embedding of a token and `row` its row in a table of their own:
//!
//! ```text
//! p = (norm(W e / √H) + √width · row) / √2
//! ```
//!
//! and in each layer, with its part of p:
//!
//! ```text
//! z = y + norm(W (gelu(W y) ⊙ p))
//! ```

use super::layer_inputs::LayerInputs;
use super::low_rank::{Low, ProjectionGradient};
use super::pass::LayerPass;
use crate::kernel::{self, Buffer};
use crate::model::{LayerVector, PerLayerInputs, Projection};

/// 1/√2.
const HALF_ROOT: f32 = std::f32::consts::FRAC_1_SQRT_2;

/// What the forward pass keeps of p.
pub struct LayerInputsTape {
    embedded: Buffer,
    projected: Buffer,
    inverse: Buffer,
    low: Option<Low>,
}

/// What the forward pass of a layer keeps.
pub struct PerLayerTape {
    y: Buffer,
    gate: Buffer,
    /// The rows of p.
    input: Buffer,
    out: Buffer,
    inverse: Buffer,
    low: [Option<Low>; 2],
}

impl LayerPass<'_> {
    /// p of the embeddings `[N, H]`, and what its gradient needs; called on what stands outside the
    /// layers.
    pub fn layer_inputs(
        &self,
        tables: &PerLayerInputs,
        embedded: &[f32],
    ) -> (LayerInputs, LayerInputsTape) {
        let [(mut projected, low)] = self.project([Projection::PerLayerModel], embedded, None);
        kernel::scale(&mut projected, self.inverse_root());
        let weight = &tables.per_layer_projection_norm;
        let (mut values, inverse) = self.norm(&projected, weight);
        let table = &tables.embed_tokens_per_layer;
        let root = (weight.len() as f32).sqrt();
        let mut row = vec![0.0; table.columns()];
        let rows = values.chunks_exact_mut(table.columns());
        for (values, &token) in rows.zip(&self.pass.batch.tokens) {
            // The table may have fewer rows than the vocabulary; other tokens have none.
            match (token as usize) < table.rows() {
                true => table.row(token as usize, &mut row),
                false => row.fill(0.0),
            }
            for (value, number) in values.iter_mut().zip(&row) {
                *value = (*value + number * root) * HALF_ROOT;
            }
        }
        let mut kept = self.take(embedded.len());
        kept.copy_from_slice(embedded);
        let tape = LayerInputsTape {
            embedded: kept,
            projected,
            inverse,
            low,
        };
        (LayerInputs::new(values), tape)
    }

    /// 1/√H.
    fn inverse_root(&self) -> f32 {
        1.0 / (self.pass.config.hidden_size as f32).sqrt()
    }

    /// Writes the gradient of the adapter of p's linear layer, from that of p, and adds that of the
    /// embeddings (if wanted) to `dx`.
    pub fn layer_inputs_backward(
        &self,
        tables: &PerLayerInputs,
        (inputs, tape): (&LayerInputs, &LayerInputsTape),
        dx: Option<&mut [f32]>,
        gradient: &mut [f32],
    ) {
        let Some(mut d) = inputs.take_gradient() else {
            return;
        };
        if tape.low.is_none() && dx.is_none() {
            return;
        }
        kernel::scale(&mut d, HALF_ROOT);
        let weight = &tables.per_layer_projection_norm;
        let mut d_projected = self.take(d.len());
        let [x, inverse] = [&tape.projected, &tape.inverse];
        kernel::rms_norm_backward(&d, x, weight, inverse, &mut d_projected, false);
        kernel::scale(&mut d_projected, self.inverse_root());
        let projection = Projection::PerLayerModel;
        let through = ProjectionGradient::new(projection, &d_projected, tape.low.as_ref());
        match dx {
            Some(dx) => {
                let added = self.input_gradient(through, &tape.embedded, gradient);
                kernel::add(dx, &added);
            }
            None => self.project_backward(&[through], &tape.embedded, None, gradient),
        }
    }

    /// z of y `[n, H]`, with an input of this `width`.
    pub fn add_per_layer_input(&self, y: Buffer, width: usize) -> (Buffer, PerLayerTape) {
        let [(gate, low_gate)] = self.project([Projection::PerLayerGate], &y, None);
        let input = self.per_layer_rows(width);
        let mut gated = self.take(gate.len());
        kernel::gelu_gated(&gate, &input, &mut gated);
        let [(out, low_out)] = self.project([Projection::PerLayerProjection], &gated, None);
        let weight = self.weights.vector(LayerVector::PerLayerNorm);
        let (mut z, inverse) = self.norm(&out, weight);
        kernel::add(&mut z, &y);
        let tape = PerLayerTape {
            y,
            gate,
            input,
            out,
            inverse,
            low: [low_gate, low_out],
        };
        (z, tape)
    }

    /// The length of a row of p of all layers.
    fn inputs_width(&self, width: usize) -> usize {
        width * self.pass.config.layers.len()
    }

    /// The rows of p of this layer, in the last layer at the requested tokens only.
    fn per_layer_rows(&self, width: usize) -> Buffer {
        let (Some(inputs), Some(index)) = (self.pass.inputs, self.index) else {
            return self.pass.pool.zeros(self.pass.batch.len() * width);
        };
        let place = [index * width, width, self.inputs_width(width)];
        let rows = self.columns(inputs.values(), place);
        if self.last { self.pick(&rows) } else { rows }
    }

    /// dy of dz; the gradient of p is added to that of all layers' inputs.
    pub fn per_layer_input_backward(
        &self,
        dz: Buffer,
        tape: PerLayerTape,
        width: usize,
        gradient: &mut [f32],
    ) -> Buffer {
        let PerLayerTape {
            y,
            mut gate,
            mut input,
            out,
            inverse,
            low: [low_gate, low_out],
        } = tape;
        let weight = self.weights.vector(LayerVector::PerLayerNorm);
        let mut d_out = self.take(out.len());
        kernel::rms_norm_backward(&dz, &out, weight, &inverse, &mut d_out, false);
        let mut gated = self.take(gate.len());
        kernel::gelu_gated(&gate, &input, &mut gated);
        let projection = Projection::PerLayerProjection;
        let through = ProjectionGradient::new(projection, &d_out, low_out.as_ref());
        let d_gated = self.input_gradient(through, &gated, gradient);
        kernel::gelu_gated_backward(&d_gated, &mut gate, &mut input);
        if let (Some(inputs), Some(index)) = (self.pass.inputs, self.index) {
            let sizes = [width, self.inputs_width(width)];
            let d = self.of_all_tokens(input);
            inputs.add_gradient(index, &d, sizes, self.pass.pool);
        }
        let through = ProjectionGradient::new(Projection::PerLayerGate, &gate, low_gate.as_ref());
        let mut dy = self.input_gradient(through, &y, gradient);
        kernel::add(&mut dy, &dz);
        dy
    }
}

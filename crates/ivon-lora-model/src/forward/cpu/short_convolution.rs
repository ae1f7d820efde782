//! LFM2's short convolution on slices, forward and backward:
//!
//! ```text
//! B, C, v = W x      y = W (C ⊙ convolution(B ⊙ v))
//! ```
//!
//! The backward pass keeps B, C, v and the convolution's output, and recomputes the products.

use super::cache::Carry;
use super::low_rank::{Low, ProjectionGradient};
use super::pass::{LayerPass, MixerGradient};
use super::runs::RunConvolution;
use crate::kernel::{self, Buffer, ColumnsMut, Convolution, View};
use crate::model::{LayerVector, Projection, ShortConvolution};

/// What the forward pass keeps.
pub struct ConvolutionTape {
    /// B, C and v, `[N, 3 H]`.
    parts: Buffer,
    convolved: Buffer,
    low: [Option<Low>; 2],
}

impl LayerPass<'_> {
    /// y of x `[N, H]`, added `onto` rows if there are any; `[S, H]` at the requested tokens for the
    /// last layer.
    pub fn short_convolution(
        &self,
        convolution: &ShortConvolution,
        x: &[f32],
        onto: Option<&[f32]>,
    ) -> (Buffer, ConvolutionTape) {
        let [(parts, low_in)] = self.project([Projection::ConvolutionIn], x, None);
        let product = self.product_of(&parts, 0, 2);
        let (convolved, tails) = self.along_runs(&self.filters(convolution)).apply(&product);
        self.leave(Carry::Inputs, tails);
        drop(product);
        let gated = self.gated_convolution(&parts, &convolved);
        let [(y, low_out)] = self.project([Projection::ConvolutionOut], &gated, onto);
        let tape = ConvolutionTape {
            parts,
            convolved,
            low: [low_in, low_out],
        };
        (y, tape)
    }

    fn filters(&self, convolution: &ShortConvolution) -> Convolution {
        let weight = self.weights.vector(LayerVector::Convolution);
        let channels = weight.len() / convolution.kernel;
        Convolution::new(weight, channels, None, false)
    }

    /// A convolution along the runs of the batch.
    pub fn along_runs<'a>(&'a self, convolution: &'a Convolution) -> RunConvolution<'a> {
        RunConvolution {
            convolution,
            batch: self.pass.batch,
            runs: self.pass.runs,
            pool: self.pass.pool,
            past: self.past(Carry::Inputs),
        }
    }

    /// One of B, C, v.
    fn part<'a>(&self, parts: &'a [f32], index: usize) -> View<'a> {
        let hidden = self.pass.config.hidden_size;
        View {
            values: &parts[index * hidden..],
            rows: parts.len() / (3 * hidden),
            columns: hidden,
            stride: 3 * hidden,
        }
    }

    /// The product of two of B, C, v.
    fn product_of(&self, parts: &[f32], one: usize, other: usize) -> Buffer {
        let (one, other) = (self.part(parts, one), self.part(parts, other));
        let mut product = self.take(parts.len() / 3);
        let out = ColumnsMut::all(&mut product, one.columns);
        kernel::multiply(one, other, out);
        product
    }

    /// C ⊙ the convolution's output, in the last layer at the requested tokens only.
    fn gated_convolution(&self, parts: &[f32], convolved: &[f32]) -> Buffer {
        let c = self.part(parts, 1);
        let mut gated = self.take(convolved.len());
        let convolved = View::new(convolved, c.rows, c.columns);
        kernel::multiply(c, convolved, ColumnsMut::all(&mut gated, c.columns));
        if self.last { self.pick(&gated) } else { gated }
    }

    /// The gradient of x `[N, H]`, if it is wanted.
    pub fn short_convolution_backward(
        &self,
        convolution: &ShortConvolution,
        tape: ConvolutionTape,
        given: MixerGradient<'_>,
    ) -> Option<Buffer> {
        let MixerGradient {
            d_out,
            input,
            gradient,
            wants_dx,
        } = given;
        let ConvolutionTape {
            parts,
            convolved,
            low: [low_in, low_out],
        } = tape;
        let gated = self.gated_convolution(&parts, &convolved);
        let through = ProjectionGradient::new(Projection::ConvolutionOut, d_out, low_out.as_ref());
        let d_gated = self.input_gradient(through, &gated, gradient);
        let d_gated = self.of_all_tokens(d_gated);
        let d_parts = self.parts_gradient(convolution, &parts, &convolved, &d_gated);
        let mut dx = wants_dx.then(|| self.take(input.len()));
        let through = [ProjectionGradient::new(
            Projection::ConvolutionIn,
            &d_parts,
            low_in.as_ref(),
        )];
        self.project_backward(&through, input, dx.as_deref_mut(), gradient);
        dx
    }

    /// The gradient of B, C and v from that of C ⊙ the convolution's output.
    fn parts_gradient(
        &self,
        convolution: &ShortConvolution,
        parts: &[f32],
        convolved: &[f32],
        d_gated: &[f32],
    ) -> Buffer {
        let [b, c, v] = [0, 1, 2].map(|index| self.part(parts, index));
        let (rows, hidden) = (c.rows, c.columns);
        let d_gated = View::new(d_gated, rows, hidden);
        let mut d_convolved = self.take(convolved.len());
        kernel::multiply(c, d_gated, ColumnsMut::all(&mut d_convolved, hidden));
        let product = self.product_of(parts, 0, 2);
        let filters = self.filters(convolution);
        let along = self.along_runs(&filters);
        let d_product = along.apply_backward(&product, &mut d_convolved);
        let d_product = View::new(&d_product, rows, hidden);
        let convolved = View::new(convolved, rows, hidden);
        let mut d_parts = self.take(parts.len());
        for (index, one, other) in [
            (0, d_product, v),
            (1, d_gated, convolved),
            (2, d_product, b),
        ] {
            let out = ColumnsMut {
                values: &mut d_parts[index * hidden..],
                columns: hidden,
                stride: 3 * hidden,
            };
            kernel::multiply(one, other, out);
        }
        d_parts
    }
}

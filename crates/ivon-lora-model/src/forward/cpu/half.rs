//! Half a decoder layer on slices, forward and backward: a part between its norms, and the residual
//! connection around it.
//!
//! ```text
//! y = x + m · norm?(part(norm?(x)))
//! ```
//!
//! The backward pass keeps x, and the part's output where it is normalised; it recomputes the
//! part's input.

use super::pass::LayerPass;
use crate::kernel::{self, Buffer};
use crate::model::LayerVector;

/// The norms of half a layer.
#[derive(Clone, Copy)]
pub struct HalfNorms {
    pub before: LayerVector,
    pub after: LayerVector,
}

impl HalfNorms {
    pub const MIXER: Self = Self {
        before: LayerVector::MixerIn,
        after: LayerVector::MixerOut,
    };
    pub const MLP: Self = Self {
        before: LayerVector::MlpIn,
        after: LayerVector::MlpOut,
    };
}

/// What the forward pass keeps.
pub struct HalfTape<T> {
    x: Buffer,
    /// The row factors of the norm before the part, if there is one.
    inverse: Option<Buffer>,
    /// The part's output with the row factors of its norm, if there is one.
    output: Option<(Buffer, Buffer)>,
    part: T,
}

impl LayerPass<'_> {
    /// y of x `[N, H]`. `part` gets its input, and the rows that its output is to be added to, if
    /// nothing happens to the output before.
    pub fn half<T>(
        &self,
        x: Buffer,
        norms: HalfNorms,
        part: impl FnOnce(&[f32], Option<&[f32]>) -> (Buffer, T),
    ) -> (Buffer, HalfTape<T>) {
        let before = self.weights.vector(norms.before);
        let normed = (!before.is_empty()).then(|| self.norm(&x, before));
        let input = normed.as_ref().map_or(&*x, |(normed, _)| normed);
        let picked = self.picks(norms).then(|| self.pick(&x));
        let residual = picked.as_deref().unwrap_or(&x);
        let after = self.weights.vector(norms.after);
        let is_direct = after.is_empty() && self.kind.residual_multiplier == 1.0;
        let (out, tape) = part(input, is_direct.then_some(residual));
        let (y, output) = match is_direct {
            true => (out, None),
            false => self.added(out, after, residual),
        };
        let inverse = normed.map(|(_, inverse)| inverse);
        let tape = HalfTape {
            x,
            inverse,
            output,
            part: tape,
        };
        (y, tape)
    }

    /// Whether the part's output has rows at the requested tokens only: that of the last layer's
    /// mixer.
    fn picks(&self, norms: HalfNorms) -> bool {
        self.last && norms.before == LayerVector::MixerIn
    }

    /// residual + m · norm?(out), and what its gradient needs.
    fn added(
        &self,
        out: Buffer,
        after: &[f32],
        residual: &[f32],
    ) -> (Buffer, Option<(Buffer, Buffer)>) {
        let multiplier = self.kind.residual_multiplier as f32;
        let (mut y, kept) = match after.is_empty() {
            true => (out, None),
            false => {
                let (normed, inverse) = self.norm(&out, after);
                (normed, Some((out, inverse)))
            }
        };
        kernel::scale_and_add(&mut y, multiplier, residual);
        (y, kept)
    }

    /// dx of dy, if it is wanted. `part` gets its tape, the gradient of its output and its input, and
    /// returns the gradient of the latter if that is wanted.
    pub fn half_backward<T>(
        &self,
        dy: Buffer,
        tape: HalfTape<T>,
        norms: HalfNorms,
        part: impl FnOnce(T, &[f32], &[f32]) -> Option<Buffer>,
    ) -> Option<Buffer> {
        let HalfTape {
            x,
            inverse,
            output,
            part: part_tape,
        } = tape;
        let d_out = self.output_gradient(&dy, output, norms);
        let before = self.weights.vector(norms.before);
        let normed = inverse
            .as_ref()
            .map(|inverse| self.norm_again(&x, before, inverse));
        let input = normed.as_deref().unwrap_or(&x);
        let d_input = part(part_tape, d_out.as_deref().unwrap_or(&dy), input)?;
        // The residual connection: x is also added to y.
        let mut dx = match self.picks(norms) {
            true => {
                let mut dx = self.pass.pool.zeros(x.len());
                self.put(&dy, &mut dx);
                dx
            }
            false => dy,
        };
        match &inverse {
            Some(inverse) => {
                kernel::rms_norm_backward(&d_input, &x, before, inverse, &mut dx, true);
            }
            None => kernel::add(&mut dx, &d_input),
        }
        Some(dx)
    }

    /// The gradient of the part's output, unless it is dy itself.
    fn output_gradient(
        &self,
        dy: &[f32],
        output: Option<(Buffer, Buffer)>,
        norms: HalfNorms,
    ) -> Option<Buffer> {
        let multiplier = self.kind.residual_multiplier as f32;
        if output.is_none() && multiplier == 1.0 {
            return None;
        }
        let mut d_out = self.take(dy.len());
        match output {
            Some((out, inverse)) => {
                let after = self.weights.vector(norms.after);
                kernel::rms_norm_backward(dy, &out, after, &inverse, &mut d_out, false);
            }
            None => d_out.copy_from_slice(dy),
        }
        kernel::scale(&mut d_out, multiplier);
        Some(d_out)
    }
}

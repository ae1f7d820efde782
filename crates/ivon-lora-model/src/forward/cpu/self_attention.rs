//! The first half of a decoder layer on slices, forward and backward:
//!
//! ```text
//! n = norm(x)      q, k, v = rotate(norm?(W n + b))      m = x + W attend(q, k, v)
//! ```
//!
//! The backward pass keeps x, q, k, v and the output of attention, and recomputes n and the
//! attention weights.

use super::attention::{AttentionValues, attend, attend_backward};
use super::low_rank::{Low, ProjectionGradient};
use super::pass::LayerPass;
use crate::kernel::{self, Buffer};
use crate::model::Projection;

/// What the forward pass keeps.
pub struct AttentionTape {
    x: Buffer,
    inverse: Buffer,
    /// Queries and keys before their norm, if the model has one, with the norm's row factors.
    unnormed: Option<[(Buffer, Buffer); 2]>,
    q: Buffer,
    k: Buffer,
    v: Buffer,
    attended: Buffer,
    /// Of q, k, v, o.
    low: [Option<Low>; 4],
}

impl LayerPass<'_> {
    /// m of x `[N, H]`; `[S, H]` at the requested tokens for the last layer.
    pub fn attention(&self, x: Buffer) -> (Buffer, AttentionTape) {
        let (normed, inverse) = self.norm(&x, &self.weights.input_layernorm);
        let [(mut q, low_q), (mut k, low_k), (v, low_v)] = self.project_heads(&normed);
        drop(normed);
        let unnormed_q = self.place_heads(Projection::Q, &mut q);
        let unnormed_k = self.place_heads(Projection::K, &mut k);
        let mut attended = self.take(q.len());
        attend(self.heads(), self.tiles(), [&q, &k, &v], &mut attended);
        let asked = self.last.then(|| self.pick(&x));
        let onto = Some(asked.as_deref().unwrap_or(&x));
        let [(middle, low_o)] = self.project([Projection::O], &attended, onto);
        let tape = AttentionTape {
            x,
            inverse,
            unnormed: unnormed_q.zip(unnormed_k).map(|(q, k)| [q, k]),
            q,
            k,
            v,
            attended,
            low: [low_q, low_k, low_v, low_o],
        };
        (middle, tape)
    }

    /// q, k, v of n `[N, H]`; in the last layer q at the requested tokens only.
    fn project_heads(&self, normed: &[f32]) -> [(Buffer, Option<Low>); 3] {
        if !self.last {
            return self.project([Projection::Q, Projection::K, Projection::V], normed, None);
        }
        let [q] = self.project([Projection::Q], &self.pick(normed), None);
        let [k, v] = self.project([Projection::K, Projection::V], normed, None);
        [q, k, v]
    }

    /// dx `[N, H]` from dm; writes the gradients of the adapter to `gradient`. No dx if nothing
    /// below `wants_dx`.
    pub fn attention_backward(
        &self,
        d_middle: Buffer,
        tape: &AttentionTape,
        gradient: &mut [f32],
        wants_dx: bool,
    ) -> Option<Buffer> {
        let d_heads = self.attend_backward(&d_middle, tape, gradient);
        let d_normed = self.heads_backward(d_heads, tape, gradient, wants_dx)?;
        // The residual connection: x is also added to m.
        let mut dx = match self.last {
            true => {
                let mut dx = self.pass.pool.zeros(tape.x.len());
                self.put(&d_middle, &mut dx);
                dx
            }
            false => d_middle,
        };
        let weight = &self.weights.input_layernorm;
        kernel::rms_norm_backward(&d_normed, &tape.x, weight, &tape.inverse, &mut dx, true);
        Some(dx)
    }

    /// Backward through m = x + O(attend(q, k, v)) and [`Self::place_heads`]: the gradients of the
    /// outputs q, k, v of the projections.
    fn attend_backward(
        &self,
        d_middle: &[f32],
        tape: &AttentionTape,
        gradient: &mut [f32],
    ) -> [Buffer; 3] {
        let mut d_attended = self.take(tape.attended.len());
        let through = [ProjectionGradient {
            projection: Projection::O,
            dy: d_middle,
            low: tape.low[3].as_ref(),
        }];
        self.project_backward(&through, &tape.attended, Some(&mut d_attended), gradient);
        let [mut dq, mut dk, mut dv] =
            [&tape.q, &tape.k, &tape.v].map(|values| self.pass.pool.zeros(values.len()));
        let given = AttentionValues {
            q: &tape.q,
            k: &tape.k,
            v: &tape.v,
            out: &tape.attended,
            d_out: &d_attended,
        };
        attend_backward(
            self.heads(),
            self.tiles(),
            &given,
            [&mut dq, &mut dk, &mut dv],
        );
        let (unnormed_q, unnormed_k) = tape.unnormed.as_ref().map(|[q, k]| (q, k)).unzip();
        self.place_heads_backward(Projection::Q, &mut dq, unnormed_q);
        self.place_heads_backward(Projection::K, &mut dk, unnormed_k);
        [dq, dk, dv]
    }

    /// Backward through q, k, v of n: dn `[N, H]`, if anything below needs it.
    fn heads_backward(
        &self,
        [dq, dk, dv]: [Buffer; 3],
        tape: &AttentionTape,
        gradient: &mut [f32],
        wants_dx: bool,
    ) -> Option<Buffer> {
        let weight = &self.weights.input_layernorm;
        let normed = self.norm_again(&tape.x, weight, &tape.inverse);
        let mut d_normed = wants_dx.then(|| self.take(tape.x.len()));
        let [low_q, low_k, low_v, _] = tape.low.each_ref().map(Option::as_ref);
        let q = ProjectionGradient::new(Projection::Q, &dq, low_q);
        let k = ProjectionGradient::new(Projection::K, &dk, low_k);
        let v = ProjectionGradient::new(Projection::V, &dv, low_v);
        if !self.last {
            self.project_backward(&[q, k, v], &normed, d_normed.as_deref_mut(), gradient);
            return d_normed;
        }
        self.project_backward(&[k, v], &normed, d_normed.as_deref_mut(), gradient);
        let asked = self.pick(&normed);
        let mut d_asked = wants_dx.then(|| self.take(asked.len()));
        self.project_backward(&[q], &asked, d_asked.as_deref_mut(), gradient);
        if let Some((d_normed, d_asked)) = d_normed.as_mut().zip(d_asked) {
            self.put(&d_asked, d_normed);
        }
        d_normed
    }

    /// Normalises each head (if the model does) and rotates it by its position; returns what the
    /// gradient needs.
    fn place_heads(&self, projection: Projection, x: &mut Buffer) -> Option<(Buffer, Buffer)> {
        let unnormed = self.head_norm(projection).map(|weight| {
            let (normed, inverse) = self.norm(x, weight);
            (std::mem::replace(x, normed), inverse)
        });
        self.rotate(projection, x, false);
        unnormed
    }

    /// The gradient of [`Self::place_heads`], in place.
    fn place_heads_backward(
        &self,
        projection: Projection,
        d: &mut Buffer,
        unnormed: Option<&(Buffer, Buffer)>,
    ) {
        self.rotate(projection, d, true);
        if let (Some(weight), Some((x, inverse))) = (self.head_norm(projection), unnormed) {
            let mut before = self.take(d.len());
            kernel::rms_norm_backward(d, x, weight, inverse, &mut before, false);
            *d = before;
        }
    }

    /// Rotates queries or keys by their positions, or `back`.
    fn rotate(&self, projection: Projection, x: &mut [f32], back: bool) {
        let heads = self.heads();
        let count = match projection {
            Projection::Q => heads.queries,
            _ => heads.keys,
        };
        let (cosine, sine) = &self.pass.angles[self.rope];
        let positions = self.positions(projection);
        let sizes = [count * heads.width, heads.width];
        kernel::rotate(x, sizes, &positions, [cosine, sine], back);
    }

    /// The weight of the norm of the heads of queries or keys, if the model has one.
    fn head_norm(&self, projection: Projection) -> Option<&[f32]> {
        match projection {
            Projection::Q => self.weights.q_norm.as_deref(),
            _ => self.weights.k_norm.as_deref(),
        }
    }
}

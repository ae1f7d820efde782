//! The gradient of the gated delta rule; the parent's opening has its formulas.

use super::substitution::substitute_back;
use super::{
    CHUNK, Corrections, DeltaRule, DeltaRuleScratch, decayed, one_thread, scale_rows, similarity,
};
use crate::kernel::product::{Factor, Target, View};
use crate::kernel::rows::{add, dot};
use crate::kernel::simd::wide;

/// Where [`delta_rule_backward`] writes, or adds, the gradients of a [`DeltaRule`].
pub struct DeltaRuleGradients<'a> {
    /// Of the queries `[T, d_k]`.
    pub dq: Target<'a>,
    /// Of the keys `[T, d_k]`.
    pub dk: Target<'a>,
    /// Of the values `[T, d_v]`.
    pub dv: Target<'a>,
    /// Of β `[T, 1]`.
    pub d_beta: Target<'a>,
    /// Of g `[T, 1]`.
    pub dg: Target<'a>,
    /// Of the state before the first token `[d_k, d_v]`, added; none: not needed.
    pub d_start: Option<&'a mut [f32]>,
}

/// The gradients of one chunk, and what is needed on the way.
#[derive(Default)]
pub struct ChunkGradient {
    /// Rows times their decays.
    scaled: Vec<f32>,
    /// A `[C, C]`.
    attention: Vec<f32>,
    /// dA `[C, C]`, in the end dA ⊙ D.
    d_attention: Vec<f32>,
    /// dZ `[C, C]`, in the end dZ ⊙ D.
    d_overlap: Vec<f32>,
    /// R `[C, d_v]`.
    r: Vec<f32>,
    dq: Vec<f32>,
    dk: Vec<f32>,
    dv: Vec<f32>,
    d_beta: Vec<f32>,
    dg: Vec<f32>,
}

/// One chunk of the backward pass.
#[derive(Clone, Copy)]
struct ChunkBackward<'a> {
    chunk: DeltaRule<'a>,
    known: &'a Corrections,
    /// The gradient of the outputs `[C, d_v]`.
    d_out: View<'a>,
    /// The gradient of the state after the chunk; none: zeros.
    d_end: Option<&'a [f32]>,
}

/// The gradients of [`delta_rule`](super::delta_rule) from those of its outputs, `[T, d_v]`, and
/// of the state after the last token. What the forward pass computed is computed again.
pub fn delta_rule_backward(
    run: &DeltaRule<'_>,
    d_out: View<'_>,
    d_end: Option<&[f32]>,
    mut gradients: DeltaRuleGradients<'_>,
    scratch: &mut DeltaRuleScratch,
) {
    run.recompute(scratch);
    let DeltaRuleScratch {
        corrections,
        states,
        d_states: [d_after, d_before],
        gradient,
        ..
    } = scratch;
    let chunks = run.chunks();
    for index in (0..chunks).rev() {
        let last = index + 1 == chunks;
        let chunk = ChunkBackward {
            chunk: run.chunk(index, states),
            known: &corrections[index],
            d_out: d_out.part(run.tokens(index)),
            d_end: if last { d_end } else { Some(d_after) },
        };
        d_before.resize(run.state_len(), 0.0);
        let wanted = index > 0 || gradients.d_start.is_some();
        chunk.run(gradient, wanted.then_some(d_before));
        gradients.put(index * CHUNK, gradient);
        std::mem::swap(d_after, d_before);
    }
    if let Some(d_start) = gradients.d_start {
        add(d_start, d_after);
    }
}

impl DeltaRuleGradients<'_> {
    /// Writes the gradients of a chunk that starts at token `first`.
    fn put(&mut self, first: usize, gradient: &ChunkGradient) {
        let targets = [
            (&mut self.dq, &gradient.dq),
            (&mut self.dk, &gradient.dk),
            (&mut self.dv, &gradient.dv),
            (&mut self.d_beta, &gradient.d_beta),
            (&mut self.dg, &gradient.dg),
        ];
        let tokens = gradient.dg.len();
        for (target, values) in targets {
            for (row, values) in values.chunks_exact(values.len() / tokens).enumerate() {
                target.put(first + row, values);
            }
        }
    }
}

impl DeltaRule<'_> {
    /// The corrections of all chunks, and the states between them.
    fn recompute(&self, scratch: &mut DeltaRuleScratch) {
        let (chunks, len) = (self.chunks(), self.state_len());
        let (all, states) = (&mut scratch.corrections, &mut scratch.states);
        states.resize(chunks * len, 0.0);
        all.resize_with(all.len().max(chunks), Corrections::default);
        for (index, corrections) in all.iter_mut().take(chunks).enumerate() {
            let (before, after) = states.split_at_mut(index * len);
            let chunk = self.chunk(index, before);
            corrections.compute(&chunk);
            if index + 1 < chunks {
                chunk.advance(corrections, &mut scratch.room.scaled, &mut after[..len]);
            }
        }
    }
}

impl ChunkBackward<'_> {
    /// The gradients of the chunk, and in `d_start` that of the state before it.
    fn run(self, gradient: &mut ChunkGradient, mut d_start: Option<&mut Vec<f32>>) {
        gradient.clear(&self.chunk);
        if let Some(d_end) = self.d_end {
            self.end(d_end, gradient);
        }
        self.values(gradient);
        if let Some(d_start) = d_start.as_deref_mut() {
            decayed(self.d_end, self.known.whole(), d_start);
        }
        self.state(gradient, d_start);
        self.pairs(gradient);
        self.keys(gradient);
    }

    /// Tokens, and the widths of keys and values.
    fn sizes(self) -> [usize; 3] {
        [
            self.chunk.v.rows,
            self.chunk.k.columns,
            self.chunk.v.columns,
        ]
    }

    fn delta(&self) -> View<'_> {
        let [tokens, _, values] = self.sizes();
        View::new(&self.known.delta, tokens, values)
    }

    /// F K dS in R. A token's decay to the end is by the g of all tokens after it, and that of the
    /// state before the chunk by all g of the chunk: these share the gradients.
    fn end(self, d_end: &[f32], gradient: &mut ChunkGradient) {
        let [_, keys, values] = self.sizes();
        let scaled = scale_rows(self.chunk.k, &self.known.to_end, &mut gradient.scaled);
        let right = Factor::Plain(View::new(d_end, keys, values));
        let target = Target::over(&mut gradient.r, values);
        one_thread(target, 1.0, Factor::Plain(scaled), right);
        let rows = gradient.r.chunks_exact(values);
        let rows = rows.zip(self.known.delta.chunks_exact(values));
        let mut rows = rows.zip(&mut gradient.dg);
        let mut sum = 0.0;
        wide(
            #[inline(always)]
            || {
                if let Some(start) = self.chunk.start {
                    sum = dot(start, d_end) * self.known.whole();
                }
                for ((r, delta), dg) in &mut rows {
                    *dg += sum;
                    sum += dot(r, delta);
                }
            },
        );
    }

    /// R, dV and dβ.
    fn values(self, gradient: &mut ChunkGradient) {
        let [tokens, _, values] = self.sizes();
        let (known, chunk) = (self.known, self.chunk);
        similarity([chunk.q, chunk.k], &known.between, &mut gradient.attention);
        let attention = View::new(&gradient.attention, tokens, tokens);
        let (left, right) = (Factor::Transposed(attention), Factor::Plain(self.d_out));
        one_thread(Target::onto(&mut gradient.r, values), 1.0, left, right);
        substitute_back(
            &known.overlap,
            chunk.beta,
            [&mut gradient.r, &mut gradient.dv],
        );
        let rows = gradient.r.chunks_exact(values);
        let rows = rows.zip(known.u.chunks_exact(values));
        let mut rows = rows.zip(&mut gradient.d_beta);
        wide(
            #[inline(always)]
            || {
                for ((r, u), d_beta) in &mut rows {
                    *d_beta = dot(r, u);
                }
            },
        );
    }

    /// Through E Q S and −E K S, the products with the state before the chunk. A decay from the
    /// start to a token is by the g of all tokens up to it, which share its gradient.
    fn state(self, gradient: &mut ChunkGradient, mut d_start: Option<&mut Vec<f32>>) {
        let [tokens, _, values] = self.sizes();
        let dv = View::new(&gradient.dv, tokens, values);
        let sides = [
            (1.0, self.d_out, self.chunk.q, &mut gradient.dq),
            (-1.0, dv, self.chunk.k, &mut gradient.dk),
        ];
        for (sign, d, x, dx) in sides {
            let scaled = scale_rows(d, &self.known.from_start, &mut gradient.scaled);
            let scaled = Factor::Plain(scaled);
            if let Some(state) = self.chunk.state() {
                let target = Target::over(dx, x.columns);
                one_thread(target, sign, scaled, Factor::Transposed(state));
                add_sums_from_the_end(x, dx, &mut gradient.dg);
            }
            if let Some(d_start) = d_start.as_deref_mut() {
                let target = Target::onto(d_start, values);
                one_thread(target, sign, Factor::Transposed(x), scaled);
            }
        }
    }

    /// dA ⊙ D and dZ ⊙ D, and the gradients of the decays in D.
    fn pairs(self, gradient: &mut ChunkGradient) {
        let [tokens, _, values] = self.sizes();
        let (dv, delta) = (View::new(&gradient.dv, tokens, values), self.delta());
        let (da, dz) = (&mut gradient.d_attention, &mut gradient.d_overlap);
        for (sign, d, out) in [(1.0, self.d_out, &mut *da), (-1.0, dv, &mut *dz)] {
            let (left, right) = (Factor::Plain(d), Factor::Transposed(delta));
            one_thread(Target::over(out, tokens), sign, left, right);
        }
        let pairs = [
            (&gradient.attention[..], &da[..]),
            (&self.known.overlap, dz),
        ];
        add_sums_across(pairs, &mut gradient.dg);
        wide(
            #[inline(always)]
            || {
                for ((da, dz), decay) in da.iter_mut().zip(&mut *dz).zip(&self.known.between) {
                    *da *= decay;
                    *dz *= decay;
                }
            },
        );
        for token in 0..tokens {
            dz[token * (tokens + 1)] = 0.0;
        }
    }

    /// The shares of dQ and dK that do not pass through the state before the chunk.
    fn keys(self, gradient: &mut ChunkGradient) {
        let [tokens, keys, values] = self.sizes();
        let (q, k) = (Factor::Plain(self.chunk.q), Factor::Plain(self.chunk.k));
        let da = View::new(&gradient.d_attention, tokens, tokens);
        let dz = View::new(&gradient.d_overlap, tokens, tokens);
        let (dq, dk) = (&mut gradient.dq, &mut gradient.dk);
        one_thread(Target::onto(dq, keys), 1.0, Factor::Plain(da), k);
        for (pairs, x) in [
            (Factor::Transposed(da), q),
            (Factor::Plain(dz), k),
            (Factor::Transposed(dz), k),
        ] {
            one_thread(Target::onto(dk, keys), 1.0, pairs, x);
        }
        if let Some(d_end) = self.d_end {
            let scaled = scale_rows(self.delta(), &self.known.to_end, &mut gradient.scaled);
            let right = Factor::Transposed(View::new(d_end, keys, values));
            one_thread(Target::onto(dk, keys), 1.0, Factor::Plain(scaled), right);
        }
    }
}

impl ChunkGradient {
    /// The sizes of a chunk; zeros where gradients are added.
    fn clear(&mut self, chunk: &DeltaRule<'_>) {
        let (tokens, keys, values) = (chunk.v.rows, chunk.k.columns, chunk.v.columns);
        self.d_attention.resize(tokens * tokens, 0.0);
        self.d_overlap.resize(tokens * tokens, 0.0);
        self.dv.resize(tokens * values, 0.0);
        self.d_beta.resize(tokens, 0.0);
        for (sum, len) in [
            (&mut self.r, tokens * values),
            (&mut self.dq, tokens * keys),
            (&mut self.dk, tokens * keys),
            (&mut self.dg, tokens),
        ] {
            sum.clear();
            sum.resize(len, 0.0);
        }
    }
}

/// dg_t ← dg_t + Σ over s ≥ t of x_s · dx_s.
fn add_sums_from_the_end(x: View<'_>, dx: &[f32], dg: &mut [f32]) {
    let mut sum = 0.0;
    let mut rows = dx.chunks_exact(x.columns).zip(dg).enumerate().rev();
    wide(
        #[inline(always)]
        || {
            for (row, (dx, dg)) in &mut rows {
                sum += dot(x.row(row), dx);
                *dg += sum;
            }
        },
    );
}

/// dg_r ← dg_r + Σ over s < r ≤ t of (X ⊙ dX)_ts, for each pair X and dX: the decay from s to t is
/// by the g of the tokens s + 1 to t.
///
/// Columns are summed from the last row up, and these sums up to the diagonal: rows and columns of
/// the whole matrices would cancel each other in the sum over the later tokens.
fn add_sums_across(pairs: [(&[f32], &[f32]); 2], dg: &mut [f32]) {
    let tokens = dg.len();
    let mut columns = [0.0f32; CHUNK];
    wide(
        #[inline(always)]
        || {
            for token in (0..tokens).rev() {
                let past = token * tokens..token * tokens + token;
                for (x, dx) in &pairs {
                    let row = x[past.clone()].iter().zip(&dx[past.clone()]);
                    for (sum, (x, dx)) in columns.iter_mut().zip(row) {
                        *sum += x * dx;
                    }
                }
                dg[token] += columns[..token].iter().sum::<f32>();
            }
        },
    );
}

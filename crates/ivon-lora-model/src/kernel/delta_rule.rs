//! The gated delta rule of one head over a run of tokens, in chunks, and its gradient.
//!
//! A state S `[d_k, d_v]` maps keys to values. Each token lets it decay, corrects what it holds for
//! the token's key, and reads it:
//!
//! ```text
//! S ← e^{g_t} S      u_t = v_t − Sᵀ k_t      δ_t = β_t u_t      S ← S + k_t δ_tᵀ      o_t = Sᵀ q_t
//! ```
//!
//! A chunk of C tokens is computed from the state S before it by matrix products. With the sums
//! G_t = g_1 + … + g_t, E = diag(e^{G_t}), F = diag(e^{G_C − G_t}), and D_ts = e^{G_t − G_s} for
//! s ≤ t, 0 above the diagonal:
//!
//! ```text
//! A = Q Kᵀ ⊙ D              Z = K Kᵀ ⊙ D, strictly below the diagonal
//! U = V − E K S − Z Δ       Δ = β U                 (forward substitution, row by row)
//! O = E Q S + A Δ           S ← e^{G_C} S + Kᵀ F Δ
//! ```
//!
//! Backward, from dO and the gradient dS of the state after the chunk:
//!
//! ```text
//! R = Aᵀ dO + F K dS − Zᵀ dV          dV = β R       (backward substitution)      dβ_t = r_t · u_t
//! dA = dO Δᵀ                          dZ = −dV Δᵀ
//! dQ = E dO Sᵀ + (dA ⊙ D) K
//! dK = −E dV Sᵀ + F Δ dSᵀ + (dA ⊙ D)ᵀ Q + (dZ ⊙ D) K + (dZ ⊙ D)ᵀ K
//! dS ← e^{G_C} dS + (E Q)ᵀ dO − (E K)ᵀ dV
//! ```
//!
//! Only differences G_t − G_s ≤ 0 are exponentiated, so nothing overflows. The sums are in f64, in
//! which these differences keep their digits.
//!
//! Source: Yang, Kautz & Hatamizadeh 2024, Gated Delta Networks (arXiv 2412.06464).

mod substitution;
mod backward;

pub use backward::{DeltaRuleGradients, delta_rule_backward};

use backward::ChunkGradient;
use substitution::substitute;

use super::product::{Factor, Target, Threads, View, product};
use super::rows::exp;
use super::simd::wide;

/// Tokens in a chunk.
const CHUNK: usize = 64;

/// The inputs of one head for T ≥ 1 consecutive tokens of a sequence.
#[derive(Clone, Copy)]
pub struct DeltaRule<'a> {
    /// Queries, normalised and scaled, `[T, d_k]`.
    pub q: View<'a>,
    /// Keys of length 1, `[T, d_k]`.
    pub k: View<'a>,
    /// Values `[T, d_v]`.
    pub v: View<'a>,
    /// β, the share of the error that is corrected, 0 to 1, `[T, 1]`.
    pub beta: View<'a>,
    /// g ≤ 0, the logarithm of the decay, `[T, 1]`.
    pub g: View<'a>,
    /// The state before the first token, `[d_k, d_v]`; none: zeros.
    pub start: Option<&'a [f32]>,
}

/// Memory that the calls of one thread reuse.
#[derive(Default)]
pub struct DeltaRuleScratch {
    corrections: Vec<Corrections>,
    /// The state after each chunk.
    states: Vec<f32>,
    /// The gradients of the states after and before a chunk.
    d_states: [Vec<f32>; 2],
    room: Room,
    gradient: ChunkGradient,
}

/// What the tokens of a chunk write into the state, and the decays between them.
#[derive(Default)]
struct Corrections {
    /// e^{G_t} `[C]`.
    from_start: Vec<f32>,
    /// e^{G_C − G_t} `[C]`.
    to_end: Vec<f32>,
    /// D `[C, C]`.
    between: Vec<f32>,
    /// Z `[C, C]`.
    overlap: Vec<f32>,
    /// U `[C, d_v]`.
    u: Vec<f32>,
    /// Δ `[C, d_v]`.
    delta: Vec<f32>,
}

/// Intermediate results of one chunk.
#[derive(Default)]
struct Room {
    /// Rows times their decays.
    scaled: Vec<f32>,
    /// A `[C, C]`.
    attention: Vec<f32>,
}

/// Writes the outputs `[T, d_v]`, and to `end` the state after the last token.
pub fn delta_rule(
    run: &DeltaRule<'_>,
    mut out: Target<'_>,
    end: Option<&mut [f32]>,
    scratch: &mut DeltaRuleScratch,
) {
    let (chunks, len) = (run.chunks(), run.state_len());
    let DeltaRuleScratch {
        corrections,
        states,
        room,
        ..
    } = scratch;
    states.resize(chunks * len, 0.0);
    corrections.resize_with(corrections.len().max(1), Corrections::default);
    for index in 0..chunks {
        let (before, after) = states.split_at_mut(index * len);
        let chunk = run.chunk(index, before);
        corrections[0].compute(&chunk);
        chunk.read(&corrections[0], out.below(index * CHUNK), room);
        if index + 1 < chunks || end.is_some() {
            chunk.advance(&corrections[0], &mut room.scaled, &mut after[..len]);
        }
    }
    if let Some(end) = end {
        end.copy_from_slice(&states[(chunks - 1) * len..]);
    }
}

impl DeltaRule<'_> {
    fn chunks(&self) -> usize {
        self.q.rows.div_ceil(CHUNK)
    }

    fn state_len(&self) -> usize {
        self.k.columns * self.v.columns
    }

    /// The tokens of a chunk.
    fn tokens(&self, index: usize) -> std::ops::Range<usize> {
        index * CHUNK..((index + 1) * CHUNK).min(self.q.rows)
    }

    /// A chunk as a run of its own, from the states after the chunks before it.
    fn chunk<'b>(&'b self, index: usize, states: &'b [f32]) -> DeltaRule<'b> {
        let (tokens, len) = (self.tokens(index), self.state_len());
        DeltaRule {
            q: self.q.part(tokens.clone()),
            k: self.k.part(tokens.clone()),
            v: self.v.part(tokens.clone()),
            beta: self.beta.part(tokens.clone()),
            g: self.g.part(tokens),
            start: match index {
                0 => self.start,
                _ => Some(&states[(index - 1) * len..index * len]),
            },
        }
    }

    /// The start of the run as a matrix.
    fn state(&self) -> Option<View<'_>> {
        let [keys, values] = [self.k.columns, self.v.columns];
        self.start.map(|start| View::new(start, keys, values))
    }
}

impl Corrections {
    /// D, Z, U and Δ of a chunk.
    fn compute(&mut self, chunk: &DeltaRule<'_>) {
        self.decay(chunk.g);
        let (tokens, width) = (chunk.v.rows, chunk.v.columns);
        similarity([chunk.k, chunk.k], &self.between, &mut self.overlap);
        for token in 0..tokens {
            self.overlap[token * (tokens + 1)] = 0.0;
        }
        self.delta.resize(tokens * width, 0.0);
        self.u.resize(tokens * width, 0.0);
        match chunk.state() {
            Some(state) => {
                let target = Target::over(&mut self.u, width);
                one_thread(target, 1.0, Factor::Plain(chunk.k), Factor::Plain(state));
            }
            None => self.u.fill(0.0),
        }
        let rows = self.u.chunks_exact_mut(width);
        let mut rows = rows.zip(&self.from_start).enumerate();
        wide(
            #[inline(always)]
            || {
                for (token, (row, decay)) in &mut rows {
                    for (u, v) in row.iter_mut().zip(chunk.v.row(token)) {
                        *u = v - decay * *u;
                    }
                }
            },
        );
        substitute(&self.overlap, chunk.beta, [&mut self.u, &mut self.delta]);
    }

    /// E, F and D from g.
    fn decay(&mut self, g: View<'_>) {
        let tokens = g.rows;
        let mut sums = [0.0f64; CHUNK];
        let mut sum = 0.0;
        for (token, place) in sums[..tokens].iter_mut().enumerate() {
            sum += f64::from(g.row(token)[0]);
            *place = sum;
        }
        self.from_start.resize(tokens, 0.0);
        self.to_end.resize(tokens, 0.0);
        self.between.resize(tokens * tokens, 0.0);
        wide(
            #[inline(always)]
            || {
                for token in 0..tokens {
                    self.from_start[token] = exp(sums[token] as f32);
                    self.to_end[token] = exp((sum - sums[token]) as f32);
                    let row = &mut self.between[token * tokens..][..tokens];
                    let (past, future) = row.split_at_mut(token + 1);
                    for (decay, earlier) in past.iter_mut().zip(&sums) {
                        *decay = exp((sums[token] - earlier) as f32);
                    }
                    future.fill(0.0);
                }
            },
        );
    }

    /// e^{G_C}.
    fn whole(&self) -> f32 {
        self.from_start[self.from_start.len() - 1]
    }
}

/// Forward.
impl DeltaRule<'_> {
    /// O ← A Δ + E Q S.
    fn read(&self, known: &Corrections, mut out: Target<'_>, room: &mut Room) {
        similarity([self.q, self.k], &known.between, &mut room.attention);
        let (tokens, width) = (self.q.rows, self.v.columns);
        let attention = View::new(&room.attention, tokens, tokens);
        let delta = View::new(&known.delta, tokens, width);
        let (left, right) = (Factor::Plain(attention), Factor::Plain(delta));
        one_thread(out.below(0), 1.0, left, right);
        if let Some(state) = self.state() {
            let scaled = scale_rows(self.q, &known.from_start, &mut room.scaled);
            let (left, right) = (Factor::Plain(scaled), Factor::Plain(state));
            one_thread(out.added(), 1.0, left, right);
        }
    }

    /// The state after the chunk: e^{G_C} S + Kᵀ F Δ.
    fn advance(&self, known: &Corrections, scaled: &mut Vec<f32>, end: &mut [f32]) {
        let width = self.v.columns;
        decayed(self.start, known.whole(), end);
        let delta = View::new(&known.delta, self.v.rows, width);
        let scaled = scale_rows(delta, &known.to_end, scaled);
        let (left, right) = (Factor::Transposed(self.k), Factor::Plain(scaled));
        one_thread(Target::onto(end, width), 1.0, left, right);
    }
}

/// A product on the calling thread: the tasks of a batch are its heads and sequences.
fn one_thread(target: Target<'_>, scale: f32, left: Factor<'_>, right: Factor<'_>) {
    product(target, scale, left, right, Threads::One);
}

/// out `[C, C]` ← X Yᵀ ⊙ D.
fn similarity([x, y]: [View<'_>; 2], decays: &[f32], out: &mut Vec<f32>) {
    out.resize(decays.len(), 0.0);
    let target = Target::over(out, y.rows);
    one_thread(target, 1.0, Factor::Plain(x), Factor::Transposed(y));
    wide(
        #[inline(always)]
        || {
            out.iter_mut()
                .zip(decays)
                .for_each(|(out, decay)| *out *= decay)
        },
    );
}

/// The rows of `x`, each times its factor.
fn scale_rows<'a>(x: View<'_>, factors: &[f32], out: &'a mut Vec<f32>) -> View<'a> {
    out.resize(x.rows * x.columns, 0.0);
    wide(
        #[inline(always)]
        || {
            let rows = out.chunks_exact_mut(x.columns).zip(factors).enumerate();
            for (row, (out, factor)) in rows {
                for (out, x) in out.iter_mut().zip(x.row(row)) {
                    *out = x * factor;
                }
            }
        },
    );
    View::new(out, x.rows, x.columns)
}

/// out ← decay · state, where none is zeros.
fn decayed(state: Option<&[f32]>, decay: f32, out: &mut [f32]) {
    match state {
        Some(state) => out
            .iter_mut()
            .zip(state)
            .for_each(|(out, state)| *out = decay * state),
        None => out.fill(0.0),
    }
}

#[cfg(test)]
mod tests;

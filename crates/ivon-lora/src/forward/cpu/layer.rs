//! One decoder layer on slices, forward and backward.
//!
//! ```text
//! n₁ = norm(x)                 q, k, v = rotate(norm?(W n₁ + b + s·B A drop(n₁)))
//! o  = attend(q, k, v)         m = x + W o
//! n₂ = norm(m)                 y = m + W (silu(W n₂) ⊙ W n₂)
//! ```
//! The low-rank side is in [`super::low_rank`].
//!
//! The backward pass keeps x, q, k, v, o, m and the gate's two inputs, and computes n₁, n₂, the
//! gated product and the attention weights again.

use std::borrow::Cow;
use std::sync::Mutex;

use super::attention::{Attended, Heads, Tile, attend, attend_backward};
use super::layout::AdapterLayout;
use super::low_rank::{Low, Through};
use crate::data::Batch;
use crate::forward::Observer;
use crate::kernel::{self, Buffer, Output, Pool, apply, apply_transposed};
use crate::lora::Dropout;
use crate::model::{DecoderConfig, DecoderLayer, Gate, LayerKind, Norms, Projection};

/// What all layers of a forward pass share.
pub struct Pass<'a> {
    pub config: &'a DecoderConfig,
    pub pool: &'a Pool,
    pub batch: &'a Batch,
    /// Cosine and sine of the rotary angles, `[positions, head_dim / 2]`, of each rotary embedding.
    pub angles: &'a [(Vec<f32>, Vec<f32>)],
    /// The adapter, flat, with its layout.
    pub adapter: &'a [f32],
    pub layout: &'a AdapterLayout,
    /// The factor s of B A.
    pub scaling: f32,
    pub dropout: Option<Dropout>,
    /// Watches the backward pass.
    pub observer: Option<&'a dyn Observer>,
    /// Tiles of all tokens, and of the asked ones.
    pub tiles: [&'a [Tile]; 2],
    /// What each token has read, where noise is drawn by it; else empty.
    pub keys: &'a [u64],
    /// What the sides of the layers that ran forward add to the loss, nats, and its gradient on the
    /// way back.
    pub penalty: Mutex<f64>,
    pub d_penalty: f32,
}

/// A layer with its index; the last one works past attention only on the tokens that are asked for.
#[derive(Clone, Copy)]
pub struct Layer<'a> {
    pub weights: &'a DecoderLayer,
    pub kind: &'a LayerKind,
    /// Which of the rotary embeddings it has.
    pub rope: usize,
    pub index: usize,
    pub last: bool,
}

/// What a forward pass leaves for the backward pass of a layer.
pub struct Tape {
    x: Buffer,
    inverse: [Buffer; 2],
    /// Queries and keys before their norm, where the model has one, with the norm's row factors.
    unnormed: Option<[(Buffer, Buffer); 2]>,
    q: Buffer,
    k: Buffer,
    v: Buffer,
    attended: Buffer,
    middle: Buffer,
    gate: Buffer,
    up: Buffer,
    low: [Option<Low>; 7],
}

impl Pass<'_> {
    fn heads(&self, layer: Layer<'_>) -> Heads {
        Heads {
            queries: self.config.num_attention_heads,
            keys: self.config.num_key_value_heads,
            width: self.config.head_dim,
            window: layer.kind.window,
        }
    }

    /// The batch's tokens of the rows that a projection works on: all, or the asked ones.
    pub fn tokens(&self, layer: Layer<'_>, projection: Projection) -> Option<&[usize]> {
        let all = !layer.last || matches!(projection, Projection::K | Projection::V);
        (!all).then_some(self.batch.asked.as_slice())
    }

    /// y `[n, out]` = (onto +) W x + b + s · B A drop(x) for several projections of the same x.
    fn project<const N: usize>(
        &self,
        layer: Layer<'_>,
        projections: [Projection; N],
        x: &[f32],
        onto: Option<&[f32]>,
    ) -> [(Buffer, Option<Low>); N] {
        let weights = projections.map(|projection| &layer.weights.linear(projection).weight);
        let mut outputs =
            weights.map(|weight| self.pool.take(x.len() / weight.columns() * weight.rows()));
        apply(
            x,
            weights
                .into_iter()
                .zip(&mut outputs)
                .map(|(matrix, y)| Output { matrix, y, onto })
                .collect(),
        );
        let mut lows = self
            .add_low(layer, projections, x, &mut outputs)
            .into_iter();
        outputs.map(|y| (y, lows.next().flatten()))
    }

    /// The gradients of [`Self::project`]: dA and dB go to `gradient`, Σ dx of all projections (if
    /// wanted) is written or added to `dx`.
    fn project_backward(
        &self,
        layer: Layer<'_>,
        through: &[Through<'_>],
        x: &[f32],
        mut dx: Option<(&mut [f32], bool)>,
        gradient: &mut [f32],
    ) {
        if let Some((dx, add)) = &mut dx {
            let pairs: Vec<_> = through
                .iter()
                .map(|through| (&layer.weights.linear(through.projection).weight, through.dy))
                .collect();
            apply_transposed(&pairs, dx, *add);
        }
        self.low_backward(layer, through, x, dx.map(|(dx, _)| dx), gradient);
    }

    /// Norms each head (if the model does) and turns it by its position; gives back what the
    /// gradient needs.
    fn place_heads(
        &self,
        layer: Layer<'_>,
        projection: Projection,
        x: &mut Buffer,
    ) -> Option<(Buffer, Buffer)> {
        let (heads, norm) = self.heads_of(layer, projection);
        let width = self.config.head_dim;
        let unnormed = norm.map(|weight| {
            let mut normed = self.pool.take(x.len());
            let mut inverse = self.pool.take(x.len() / width);
            kernel::rms_norm(
                x,
                weight,
                self.config.rms_norm_eps as f32,
                &mut normed,
                &mut inverse,
            );
            (std::mem::replace(x, normed), inverse)
        });
        kernel::rotate(
            x,
            heads * width,
            width,
            &self.positions(layer, projection),
            &self.angles[layer.rope].0,
            &self.angles[layer.rope].1,
            false,
        );
        unnormed
    }

    /// The gradient of [`Self::place_heads`], in place.
    fn place_heads_backward(
        &self,
        layer: Layer<'_>,
        projection: Projection,
        d: &mut Buffer,
        unnormed: Option<&(Buffer, Buffer)>,
    ) {
        let (heads, norm) = self.heads_of(layer, projection);
        let width = self.config.head_dim;
        kernel::rotate(
            d,
            heads * width,
            width,
            &self.positions(layer, projection),
            &self.angles[layer.rope].0,
            &self.angles[layer.rope].1,
            true,
        );
        if let (Some(weight), Some((x, inverse))) = (norm, unnormed) {
            let mut before = self.pool.take(d.len());
            kernel::rms_norm_backward(d, x, weight, inverse, &mut before, false);
            *d = before;
        }
    }

    /// Rows of `x` `[N, width]` at the asked tokens.
    fn pick(&self, x: &[f32], width: usize) -> Buffer {
        let mut picked = self.pool.take(self.batch.asked.len() * width);
        for (row, &token) in picked.chunks_exact_mut(width).zip(&self.batch.asked) {
            row.copy_from_slice(&x[token * width..(token + 1) * width]);
        }
        picked
    }

    /// Adds rows at the asked tokens back into `x` `[N, width]`: the gradient of [`Self::pick`].
    fn put(&self, picked: &[f32], x: &mut [f32], width: usize) {
        for (row, &token) in picked.chunks_exact(width).zip(&self.batch.asked) {
            for (x, row) in x[token * width..(token + 1) * width].iter_mut().zip(row) {
                *x += row;
            }
        }
    }

    /// The positions of the rows that a projection works on.
    fn positions(&self, layer: Layer<'_>, projection: Projection) -> Cow<'_, [u32]> {
        match self.tokens(layer, projection) {
            Some(tokens) => tokens
                .iter()
                .map(|&token| self.batch.positions[token])
                .collect(),
            None => Cow::Borrowed(&self.batch.positions),
        }
    }

    /// The heads of queries or of keys, and the weight of their norm where the model has one.
    fn heads_of<'a>(&self, layer: Layer<'a>, projection: Projection) -> (usize, Option<&'a [f32]>) {
        let (heads, weights) = (self.heads(layer), layer.weights);
        match projection {
            Projection::Q => (heads.queries, weights.q_norm.as_deref()),
            _ => (heads.keys, weights.k_norm.as_deref()),
        }
    }

    /// y of x `[N, H]`; `[S, H]` at the asked tokens for the last layer.
    pub fn forward(&self, layer: Layer<'_>, x: Buffer) -> (Buffer, Tape) {
        let (weights, hidden) = (layer.weights, self.config.hidden_size);
        let Norms::Before = layer.kind.norms;
        let epsilon = self.config.rms_norm_eps as f32;
        let heads = self.heads(layer);
        let n = x.len() / hidden;
        let mut normed = self.pool.take(x.len());
        let mut inverse = self.pool.take(n);
        kernel::rms_norm(
            &x,
            &weights.input_layernorm,
            epsilon,
            &mut normed,
            &mut inverse,
        );
        let [(mut q, low_q), (mut k, low_k), (v, low_v)] = match layer.last {
            false => self.project(
                layer,
                [Projection::Q, Projection::K, Projection::V],
                &normed,
                None,
            ),
            true => {
                let [q] = self.project(layer, [Projection::Q], &self.pick(&normed, hidden), None);
                let [k, v] = self.project(layer, [Projection::K, Projection::V], &normed, None);
                [q, k, v]
            }
        };
        drop(normed);
        let unnormed_q = self.place_heads(layer, Projection::Q, &mut q);
        let unnormed_k = self.place_heads(layer, Projection::K, &mut k);
        let mut attended = self.pool.take(q.len());
        attend(
            heads,
            self.tiles[usize::from(layer.last)],
            &q,
            &k,
            &v,
            &mut attended,
        );
        let asked = layer.last.then(|| self.pick(&x, hidden));
        let [(middle, low_o)] = self.project(
            layer,
            [Projection::O],
            &attended,
            Some(asked.as_deref().unwrap_or(&x)),
        );
        let rows = middle.len() / hidden;
        let mut inverse_middle = self.pool.take(rows);
        let mut normed = self.pool.take(middle.len());
        kernel::rms_norm(
            &middle,
            &weights.post_attention_layernorm,
            epsilon,
            &mut normed,
            &mut inverse_middle,
        );
        let [(gate, low_gate), (up, low_up)] =
            self.project(layer, [Projection::Gate, Projection::Up], &normed, None);
        drop(normed);
        let mut gated = self.pool.take(gate.len());
        let Gate::Silu = layer.kind.gate;
        kernel::gated(&gate, &up, &mut gated);
        let [(y, low_down)] = self.project(layer, [Projection::Down], &gated, Some(&middle));
        let tape = Tape {
            x,
            inverse: [inverse, inverse_middle],
            unnormed: unnormed_q.zip(unnormed_k).map(|(q, k)| [q, k]),
            q,
            k,
            v,
            attended,
            middle,
            gate,
            up,
            low: [low_q, low_k, low_v, low_o, low_gate, low_up, low_down],
        };
        (y, tape)
    }

    /// dx `[N, H]` from dy, with the gradients of A and B written to `gradient`; no dx for the
    /// first adapted layer.
    pub fn backward(
        &self,
        layer: Layer<'_>,
        dy: Buffer,
        mut tape: Tape,
        gradient: &mut [f32],
        first: bool,
    ) -> Option<Buffer> {
        let Norms::Before = layer.kind.norms;
        let d_middle = self.gated_backward(layer, dy, &mut tape, gradient);
        let d_heads = self.attention_backward(layer, &d_middle, &tape, gradient);
        let (hidden, x) = (self.config.hidden_size, &tape.x);
        let d_normed = self.heads_backward(layer, d_heads, &tape, gradient, first)?;
        // x also runs past the norm and attention into m.
        let mut dx = match layer.last {
            true => {
                let mut dx = self.pool.zeros(x.len());
                self.put(&d_middle, &mut dx, hidden);
                dx
            }
            false => d_middle,
        };
        kernel::rms_norm_backward(
            &d_normed,
            x,
            &layer.weights.input_layernorm,
            &tape.inverse[0],
            &mut dx,
            true,
        );
        Some(dx)
    }

    /// Back through y = m + Down(silu(Gate n₂) ⊙ Up n₂): dm, in the place of dy. The tape's gate
    /// and up are used up.
    fn gated_backward(
        &self,
        layer: Layer<'_>,
        dy: Buffer,
        tape: &mut Tape,
        gradient: &mut [f32],
    ) -> Buffer {
        let [low_gate, low_up, low_down] = [Projection::Gate, Projection::Up, Projection::Down]
            .map(|at| tape.low[at as usize].as_ref());
        let (gate, up, middle) = (&mut tape.gate, &mut tape.up, &tape.middle);
        let Gate::Silu = layer.kind.gate;
        let mut d_gated = self.pool.take(gate.len());
        let mut gated = self
            .pool
            .take(if low_down.is_some() { gate.len() } else { 0 });
        if !gated.is_empty() {
            kernel::gated(gate, up, &mut gated);
        }
        let through = [Through {
            projection: Projection::Down,
            dy: &dy,
            low: low_down,
        }];
        self.project_backward(
            layer,
            &through,
            &gated,
            Some((&mut d_gated, false)),
            gradient,
        );
        drop(gated);
        kernel::gated_backward(&d_gated, gate, up);
        drop(d_gated);
        let norm = &layer.weights.post_attention_layernorm;
        let mut normed = self.pool.take(middle.len());
        kernel::rms_norm_again(middle, norm, &tape.inverse[1], &mut normed);
        let mut d_normed = self.pool.take(middle.len());
        let through = [
            (Projection::Gate, &*gate, low_gate),
            (Projection::Up, &*up, low_up),
        ];
        let through = through.map(|(projection, dy, low)| Through {
            projection,
            dy,
            low,
        });
        self.project_backward(
            layer,
            &through,
            &normed,
            Some((&mut d_normed, false)),
            gradient,
        );
        let mut d_middle = dy;
        kernel::rms_norm_backward(
            &d_normed,
            middle,
            norm,
            &tape.inverse[1],
            &mut d_middle,
            true,
        );
        d_middle
    }

    /// Back through m = x + O(attend(q, k, v)) and the placing of heads: the gradients of the
    /// projections' outputs q, k, v.
    fn attention_backward(
        &self,
        layer: Layer<'_>,
        d_middle: &[f32],
        tape: &Tape,
        gradient: &mut [f32],
    ) -> [Buffer; 3] {
        let Tape {
            q,
            k,
            v,
            attended,
            unnormed,
            ..
        } = tape;
        let heads = self.heads(layer);
        let mut d_attended = self.pool.take(attended.len());
        let low = tape.low[Projection::O as usize].as_ref();
        let through = [Through {
            projection: Projection::O,
            dy: d_middle,
            low,
        }];
        self.project_backward(
            layer,
            &through,
            attended,
            Some((&mut d_attended, false)),
            gradient,
        );
        let (mut dq, mut dk, mut dv) = (
            self.pool.zeros(q.len()),
            self.pool.zeros(k.len()),
            self.pool.zeros(v.len()),
        );
        let given = Attended {
            q,
            k,
            v,
            out: attended,
            d_out: &d_attended,
        };
        attend_backward(
            heads,
            self.tiles[usize::from(layer.last)],
            &given,
            &mut dq,
            &mut dk,
            &mut dv,
        );
        let (unnormed_q, unnormed_k) = unnormed.as_ref().map(|[q, k]| (q, k)).unzip();
        self.place_heads_backward(layer, Projection::Q, &mut dq, unnormed_q);
        self.place_heads_backward(layer, Projection::K, &mut dk, unnormed_k);
        [dq, dk, dv]
    }

    /// Back through q, k, v of n₁: dn₁ `[N, H]`, if anything below needs it.
    fn heads_backward(
        &self,
        layer: Layer<'_>,
        [dq, dk, dv]: [Buffer; 3],
        tape: &Tape,
        gradient: &mut [f32],
        first: bool,
    ) -> Option<Buffer> {
        let hidden = self.config.hidden_size;
        let low = |projection: Projection| tape.low[projection as usize].as_ref();
        let mut normed = self.pool.take(tape.x.len());
        kernel::rms_norm_again(
            &tape.x,
            &layer.weights.input_layernorm,
            &tape.inverse[0],
            &mut normed,
        );
        let mut d_normed = (!first).then(|| self.pool.take(tape.x.len()));
        let [q, k, v] = [
            (Projection::Q, &dq),
            (Projection::K, &dk),
            (Projection::V, &dv),
        ]
        .map(|(projection, dy)| Through {
            projection,
            dy,
            low: low(projection),
        });
        if !layer.last {
            self.project_backward(
                layer,
                &[q, k, v],
                &normed,
                d_normed.as_deref_mut().map(|d| (d, false)),
                gradient,
            );
            return d_normed;
        }
        self.project_backward(
            layer,
            &[k, v],
            &normed,
            d_normed.as_deref_mut().map(|d| (d, false)),
            gradient,
        );
        let asked = self.pick(&normed, hidden);
        let mut d_asked = (!first).then(|| self.pool.take(asked.len()));
        self.project_backward(
            layer,
            &[q],
            &asked,
            d_asked.as_deref_mut().map(|d| (d, false)),
            gradient,
        );
        if let Some((d_normed, d_asked)) = d_normed.as_mut().zip(d_asked) {
            self.put(&d_asked, d_normed, hidden);
        }
        d_normed
    }
}

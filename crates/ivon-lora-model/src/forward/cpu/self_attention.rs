//! Softmax attention of a decoder layer on slices, forward and backward:
//!
//! ```text
//! q, k, v = rotate(norm?(W x + b))      y = W (attend(q, k, v) ⊙ σ(gate)?)
//! ```
//!
//! The backward pass keeps q, k, v and the output of attention, and recomputes the attention
//! weights.

use std::sync::Arc;

use super::attention::{AttentionValues, Heads, attend, attend_backward};
use super::key_values::KeysAndValues;
use super::low_rank::{Low, ProjectionGradient};
use super::pass::{LayerPass, MixerGradient};
use crate::kernel::{self, Buffer, ColumnsMut, View};
use crate::model::{Attention, HeadNorm, KeyValues, LayerVector, Projection};

/// What the forward pass keeps.
pub struct AttentionTape {
    q: Buffer,
    key_values: Arc<KeysAndValues>,
    /// Queries, keys and values before their norm, if they have one, with the norm's row factors.
    unnormed: [Option<(Buffer, Buffer)>; 3],
    attended: Buffer,
    /// Queries and gates as q_proj computes them, if there are gates.
    gate: Option<Buffer>,
    /// Of q, k, v, or of qkv.
    low: [Option<Low>; 3],
    low_o: Option<Low>,
}

/// The outputs of the linear layers: q (in the last layer at the requested tokens only), and k and v
/// unless they are those of another layer; with what the gradients of their adapters need.
struct Projected {
    q: Buffer,
    key_values: Option<[Buffer; 2]>,
    low: [Option<Low>; 3],
}

impl LayerPass<'_> {
    /// y of x `[N, H]`, added `onto` rows if there are any; `[S, H]` at the requested tokens for the
    /// last layer.
    pub fn attention(
        &self,
        attention: &Attention,
        x: &[f32],
        onto: Option<&[f32]>,
    ) -> (Buffer, AttentionTape) {
        let Projected { q, key_values, low } = self.project_heads(attention, x);
        let (mut q, gate) = match attention.has_gate {
            true => (self.queries_of(attention, &q), Some(q)),
            false => (q, None),
        };
        let unnormed_q = self.place_heads(attention, Projection::Q, &mut q);
        let (key_values, unnormed_k, unnormed_v) = match key_values {
            Some([mut k, mut v]) => {
                let unnormed_k = self.place_heads(attention, Projection::K, &mut k);
                let unnormed_v = self.norm_values(attention, &mut v);
                (self.share(KeysAndValues { k, v }), unnormed_k, unnormed_v)
            }
            None => (self.shared_key_values(attention), None, None),
        };
        let mut attended = self.take(q.len());
        self.attend(attention, &q, &key_values, &mut attended);
        let gated = self.gated_heads(attention, &attended, gate.as_deref());
        let [(y, low_o)] =
            self.project([Projection::O], gated.as_deref().unwrap_or(&attended), onto);
        let tape = AttentionTape {
            q,
            key_values,
            unnormed: [unnormed_q, unnormed_k, unnormed_v],
            attended,
            gate,
            low,
            low_o,
        };
        (y, tape)
    }

    /// Attention over the tokens of the batch or, where earlier passes have read some, over all
    /// tokens of its sequences.
    fn attend(
        &self,
        attention: &Attention,
        q: &[f32],
        key_values: &KeysAndValues,
        out: &mut [f32],
    ) {
        let (heads, batch) = (Heads::of(attention), self.pass.batch);
        if let Some((cache, index)) = self.pass.cache.zip(self.index) {
            let source = match attention.key_values {
                KeyValues::OfLayer(layer) => layer,
                _ => {
                    cache.remember(index, batch, key_values);
                    index
                }
            };
            if cache.has_past {
                let all = 0..batch.len();
                let asked = batch.asked.iter().copied();
                return match self.last {
                    true => cache.attend((source, batch), heads, (asked, q), out),
                    false => cache.attend((source, batch), heads, (all, q), out),
                };
            }
        }
        let values = [q, &key_values.k, &key_values.v];
        attend(heads, self.tiles(), values, out);
    }

    fn project_heads(&self, attention: &Attention, x: &[f32]) -> Projected {
        match attention.key_values {
            KeyValues::Separate if !self.last => {
                let all = [Projection::Q, Projection::K, Projection::V];
                let [(q, low_q), (k, low_k), (v, low_v)] = self.project(all, x, None);
                Projected {
                    q,
                    key_values: Some([k, v]),
                    low: [low_q, low_k, low_v],
                }
            }
            KeyValues::Separate => {
                let (q, low_q) = self.project_queries(x);
                let [(k, low_k), (v, low_v)] =
                    self.project([Projection::K, Projection::V], x, None);
                Projected {
                    q,
                    key_values: Some([k, v]),
                    low: [low_q, low_k, low_v],
                }
            }
            KeyValues::ValuesAreKeys => {
                let (q, low_q) = self.project_queries(x);
                let [(k, low_k)] = self.project([Projection::K], x, None);
                let mut v = self.take(k.len());
                v.copy_from_slice(&k);
                Projected {
                    q,
                    key_values: Some([k, v]),
                    low: [low_q, low_k, None],
                }
            }
            KeyValues::OfLayer(_) => {
                let (q, low_q) = self.project_queries(x);
                Projected {
                    q,
                    key_values: None,
                    low: [low_q, None, None],
                }
            }
            KeyValues::Fused => self.project_fused(attention, x),
        }
    }

    /// q, in the last layer at the requested tokens only.
    fn project_queries(&self, x: &[f32]) -> (Buffer, Option<Low>) {
        let picked = self.last.then(|| self.pick(x));
        let [q] = self.project([Projection::Q], picked.as_deref().unwrap_or(x), None);
        q
    }

    fn project_fused(&self, attention: &Attention, x: &[f32]) -> Projected {
        let [(qkv, low)] = self.project([Projection::Qkv], x, None);
        let (queries, keys) = (attention.query_width(), attention.key_width());
        let whole = queries + 2 * keys;
        let q = self.columns(&qkv, [0, queries, whole]);
        Projected {
            q: if self.last { self.pick(&q) } else { q },
            key_values: Some([
                self.columns(&qkv, [queries, keys, whole]),
                self.columns(&qkv, [queries + keys, keys, whole]),
            ]),
            low: [low, None, None],
        }
    }

    /// The keys and values, known to later layers if any uses them.
    fn share(&self, key_values: KeysAndValues) -> Arc<KeysAndValues> {
        let key_values = Arc::new(key_values);
        if let Some(index) = self.index.filter(|_| self.is_shared) {
            self.pass.key_values.put(index, &key_values);
        }
        key_values
    }

    /// The keys and values of an earlier layer.
    fn shared_key_values(&self, attention: &Attention) -> Arc<KeysAndValues> {
        let found = match attention.key_values {
            KeyValues::OfLayer(layer) => self.pass.key_values.get(layer),
            _ => None,
        };
        // The configuration names only earlier layers, which have put theirs.
        found.unwrap_or_else(|| {
            let zeros = || {
                let count = self.pass.batch.len() * attention.key_width();
                self.pass.pool.zeros(count)
            };
            Arc::new(KeysAndValues {
                k: zeros(),
                v: zeros(),
            })
        })
    }

    /// The queries among the outputs of a q_proj with gates, `[rows, heads, 2 · width]`.
    fn queries_of(&self, attention: &Attention, both: &[f32]) -> Buffer {
        let width = attention.head_dim;
        self.columns(both, [0, width, 2 * width])
    }

    /// attended ⊙ σ(gate), if there are gates.
    fn gated_heads(
        &self,
        attention: &Attention,
        attended: &[f32],
        both: Option<&[f32]>,
    ) -> Option<Buffer> {
        let width = attention.head_dim;
        let gate = View {
            values: &both?[width..],
            rows: attended.len() / width,
            columns: width,
            stride: 2 * width,
        };
        let mut gated = self.take(attended.len());
        kernel::sigmoid_gated(attended, gate, &mut gated);
        Some(gated)
    }

    /// The gradient of x `[N, H]`, if it is wanted.
    pub fn attention_backward(
        &self,
        attention: &Attention,
        mut tape: AttentionTape,
        given: MixerGradient<'_>,
    ) -> Option<Buffer> {
        let [dq, dk, dv] = self.attend_backward(attention, given.d_out, &mut tape, given.gradient);
        let d_key_values = match attention.key_values {
            KeyValues::OfLayer(layer) => {
                let gradient = KeysAndValues { k: dk, v: dv };
                self.pass.key_values.add_gradient(layer, gradient);
                None
            }
            _ => Some(self.key_values_backward(attention, [dk, dv], &tape)),
        };
        match attention.key_values {
            KeyValues::Fused => {
                let [dk, dv] = d_key_values?;
                let d_qkv = self.fused_gradient(attention, [&dq, &dk, &dv]);
                let mut dx = given.wants_dx.then(|| self.take(given.input.len()));
                let low = tape.low[0].as_ref();
                let through = [ProjectionGradient::new(Projection::Qkv, &d_qkv, low)];
                self.project_backward(&through, given.input, dx.as_deref_mut(), given.gradient);
                dx
            }
            _ => self.heads_backward((&dq, d_key_values), &tape, given),
        }
    }

    /// Backward through y = O(attend(q, k, v) ⊙ σ(gate)?) and the placement of q: the gradients of
    /// the output of q_proj, and of k and v.
    fn attend_backward(
        &self,
        attention: &Attention,
        dy: &[f32],
        tape: &mut AttentionTape,
        gradient: &mut [f32],
    ) -> [Buffer; 3] {
        let gated = self.gated_heads(attention, &tape.attended, tape.gate.as_deref());
        let through = ProjectionGradient::new(Projection::O, dy, tape.low_o.as_ref());
        let output = gated.as_deref().unwrap_or(&tape.attended);
        let mut d_attended = self.input_gradient(through, output, gradient);
        let width = attention.head_dim;
        let mut d_both = tape.gate.take();
        if let Some(both) = &mut d_both {
            let (d, y) = (&mut d_attended[..], &tape.attended[..]);
            kernel::sigmoid_gated_backward(d, y, &mut both[width..], [width, 2 * width]);
        }
        let KeysAndValues { k, v } = &*tape.key_values;
        let [mut dq, mut dk, mut dv] =
            [&tape.q, k, v].map(|values| self.pass.pool.zeros(values.len()));
        let given = AttentionValues {
            q: &tape.q,
            k,
            v,
            out: &tape.attended,
            d_out: &d_attended,
        };
        let gradients = [&mut *dq, &mut *dk, &mut *dv];
        attend_backward(Heads::of(attention), self.tiles(), &given, gradients);
        let unnormed = tape.unnormed[0].as_ref();
        self.place_heads_backward(attention, Projection::Q, &mut dq, unnormed);
        if let Some(both) = &mut d_both {
            let queries = ColumnsMut {
                values: &mut both[..],
                columns: width,
                stride: 2 * width,
            };
            kernel::copy_columns(View::new(&dq, dq.len() / width, width), queries);
        }
        [d_both.unwrap_or(dq), dk, dv]
    }

    /// Backward through the placement of k and v: the gradients of the outputs of their linear
    /// layers.
    fn key_values_backward(
        &self,
        attention: &Attention,
        [mut dk, mut dv]: [Buffer; 2],
        tape: &AttentionTape,
    ) -> [Buffer; 2] {
        let index = self.index.filter(|_| self.is_shared);
        let shared = index.and_then(|index| self.pass.key_values.take_gradient(index));
        if let Some(shared) = shared {
            kernel::add(&mut dk, &shared.k);
            kernel::add(&mut dv, &shared.v);
        }
        let [_, unnormed_k, unnormed_v] = tape.unnormed.each_ref().map(Option::as_ref);
        self.place_heads_backward(attention, Projection::K, &mut dk, unnormed_k);
        if let Some((v, inverse)) = unnormed_v {
            let mut before = self.take(dv.len());
            let ones = vec![1.0; attention.head_dim];
            kernel::rms_norm_backward(&dv, v, &ones, inverse, &mut before, false);
            dv = before;
        }
        [dk, dv]
    }

    /// Backward through q, k, v of x: dx `[N, H]`, if anything below needs it.
    fn heads_backward(
        &self,
        (dq, d_key_values): (&[f32], Option<[Buffer; 2]>),
        tape: &AttentionTape,
        given: MixerGradient<'_>,
    ) -> Option<Buffer> {
        let MixerGradient {
            input: x,
            gradient,
            wants_dx,
            ..
        } = given;
        let mut dx = wants_dx.then(|| self.take(x.len()));
        let [low_q, low_k, low_v] = tape.low.each_ref().map(Option::as_ref);
        let q = ProjectionGradient::new(Projection::Q, dq, low_q);
        // Where values are keys, the gradients of both are that of k_proj's output.
        let d_key_values = d_key_values.map(|[mut dk, dv]| match self.has_values() {
            true => (dk, Some(dv)),
            false => {
                kernel::add(&mut dk, &dv);
                (dk, None)
            }
        });
        let key_values: Vec<_> = match &d_key_values {
            None => Vec::new(),
            Some((dk, dv)) => {
                let k = ProjectionGradient::new(Projection::K, dk, low_k);
                let v = dv
                    .as_ref()
                    .map(|dv| ProjectionGradient::new(Projection::V, dv, low_v));
                [k].into_iter().chain(v).collect()
            }
        };
        if !self.last {
            let all: Vec<_> = [q].into_iter().chain(key_values).collect();
            self.project_backward(&all, x, dx.as_deref_mut(), gradient);
            return dx;
        }
        match (key_values.is_empty(), &mut dx) {
            (false, dx) => self.project_backward(&key_values, x, dx.as_deref_mut(), gradient),
            (true, Some(dx)) => dx.fill(0.0),
            (true, None) => {}
        }
        let asked = self.pick(x);
        let mut d_asked = wants_dx.then(|| self.take(asked.len()));
        self.project_backward(&[q], &asked, d_asked.as_deref_mut(), gradient);
        if let Some((dx, d_asked)) = dx.as_mut().zip(d_asked) {
            self.put(&d_asked, dx);
        }
        dx
    }

    /// Whether it has a v_proj.
    fn has_values(&self) -> bool {
        self.weights.linear(Projection::V).weight.rows() > 0
    }

    /// The gradient of qkv_proj's output from those of its parts.
    fn fused_gradient(&self, attention: &Attention, [dq, dk, dv]: [&[f32]; 3]) -> Buffer {
        let (queries, keys) = (attention.query_width(), attention.key_width());
        let (whole, tokens) = (queries + 2 * keys, self.pass.batch.len());
        let mut d_qkv = self.pass.pool.zeros(tokens * whole);
        let mut put = |values: &[f32], first: usize, columns: usize| {
            let out = ColumnsMut {
                values: &mut d_qkv[first..],
                columns,
                stride: whole,
            };
            kernel::copy_columns(View::new(values, tokens, columns), out);
        };
        put(dk, queries, keys);
        put(dv, queries + keys, keys);
        if !self.last {
            put(dq, 0, queries);
            return d_qkv;
        }
        let asked = &self.pass.batch.asked;
        for (row, &token) in dq.chunks_exact(queries).zip(asked) {
            kernel::add(&mut d_qkv[token * whole..token * whole + queries], row);
        }
        d_qkv
    }

    /// Normalises queries or keys (if the model does) and rotates each head by its position; returns
    /// what the gradient needs.
    fn place_heads(
        &self,
        attention: &Attention,
        projection: Projection,
        x: &mut Buffer,
    ) -> Option<(Buffer, Buffer)> {
        let unnormed = self.head_norm(attention, projection).map(|weight| {
            let (normed, inverse) = self.norm(x, weight);
            (std::mem::replace(x, normed), inverse)
        });
        self.rotate(attention, projection, x, false);
        unnormed
    }

    /// The gradient of [`Self::place_heads`], in place.
    fn place_heads_backward(
        &self,
        attention: &Attention,
        projection: Projection,
        d: &mut Buffer,
        unnormed: Option<&(Buffer, Buffer)>,
    ) {
        self.rotate(attention, projection, d, true);
        let weight = self.head_norm(attention, projection);
        if let (Some(weight), Some((x, inverse))) = (weight, unnormed) {
            let mut before = self.take(d.len());
            kernel::rms_norm_backward(d, x, weight, inverse, &mut before, false);
            *d = before;
        }
    }

    /// Normalises the values of each head, if the model does; returns what the gradient needs.
    fn norm_values(&self, attention: &Attention, v: &mut Buffer) -> Option<(Buffer, Buffer)> {
        attention.v_norm.then(|| {
            let (normed, inverse) = self.norm(v, &vec![1.0; attention.head_dim]);
            (std::mem::replace(v, normed), inverse)
        })
    }

    /// Rotates queries or keys by their positions, or `back`; without a rotary embedding, not at
    /// all.
    fn rotate(&self, attention: &Attention, projection: Projection, x: &mut [f32], back: bool) {
        let Some(rope) = self.rope else { return };
        let (are_queries, width) = match projection {
            Projection::Q => (true, attention.query_width()),
            _ => (false, attention.key_width()),
        };
        let table = &self.pass.rotary[rope];
        let rows = self.rotary_rows(table, are_queries);
        let sizes = [width, attention.head_dim, table.width];
        kernel::rotate(x, sizes, &rows, table.of(are_queries), back);
    }

    /// The weight of the norm of queries or keys, if the model has one.
    fn head_norm(&self, attention: &Attention, projection: Projection) -> Option<&[f32]> {
        let vector = match projection {
            Projection::Q => LayerVector::QNorm,
            _ => LayerVector::KNorm,
        };
        (attention.qk_norm != HeadNorm::None).then(|| self.weights.vector(vector))
    }
}

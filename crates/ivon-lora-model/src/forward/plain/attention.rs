//! Softmax attention of a decoder layer in plain operations.

use std::ops::Range;

use burn::tensor::activation::{sigmoid, softmax};
use burn::tensor::{Bool, Tensor, TensorData};

use super::pass::Pass;
use crate::model::{Attention, HeadNorm, KeyValues, LayerVector, Projection};

/// The outputs of the linear layers, `[N, heads, width]`: queries, their gates if there are any,
/// and keys and values unless they are those of another layer.
struct Projected {
    q: Tensor<3>,
    gate: Option<Tensor<3>>,
    key_values: Option<[Tensor<3>; 2]>,
}

impl Pass<'_> {
    /// y of x `[N, H]`.
    pub fn attention(&self, index: usize, attention: &Attention, x: Tensor<2>) -> Tensor<2> {
        let Projected {
            q,
            gate,
            key_values,
        } = self.project_heads(index, attention, x);
        let q = self.place_heads(index, attention, LayerVector::QNorm, q);
        let [k, v] = match (key_values, attention.key_values) {
            (Some([k, v]), _) => {
                let k = self.place_heads(index, attention, LayerVector::KNorm, k);
                let v = match attention.v_norm {
                    true => self.plain.normed(v),
                    false => v,
                };
                self.key_values.borrow_mut()[index] = Some([k.clone(), v.clone()]);
                [k, v]
            }
            (None, KeyValues::OfLayer(layer)) => match &self.key_values.borrow()[layer] {
                Some(key_values) => key_values.clone(),
                None => [q.clone(), q.clone()],
            },
            (None, _) => [q.clone(), q.clone()],
        };
        let mut attended = self.attend(attention, [&q, &k, &v]);
        if let Some(gate) = gate {
            attended = attended.clone() * sigmoid(gate.reshape(attended.dims()));
        }
        self.project(Some(index), Projection::O, attended)
    }

    fn project_heads(&self, index: usize, attention: &Attention, x: Tensor<2>) -> Projected {
        let (tokens, width) = (self.batch.len(), attention.head_dim);
        let heads = [attention.num_attention_heads, attention.num_key_value_heads];
        let project = |projection, count: usize, width: usize| {
            let y = self.project(Some(index), projection, x.clone());
            y.reshape([tokens, count, width])
        };
        if attention.key_values == KeyValues::Fused {
            let all = project(Projection::Qkv, heads[0] + 2 * heads[1], width);
            let part = |first, count| all.clone().narrow(1, first, count);
            return Projected {
                q: part(0, heads[0]),
                gate: None,
                key_values: Some([
                    part(heads[0], heads[1]),
                    part(heads[0] + heads[1], heads[1]),
                ]),
            };
        }
        let (q, gate) = match attention.has_gate {
            true => {
                let both = project(Projection::Q, heads[0], 2 * width);
                let gate = both.clone().narrow(2, width, width);
                (both.narrow(2, 0, width), Some(gate))
            }
            false => (project(Projection::Q, heads[0], width), None),
        };
        let key_values = match attention.key_values {
            KeyValues::OfLayer(_) => None,
            KeyValues::ValuesAreKeys => {
                let k = project(Projection::K, heads[1], width);
                Some([k.clone(), k])
            }
            _ => Some([
                project(Projection::K, heads[1], width),
                project(Projection::V, heads[1], width),
            ]),
        };
        Projected {
            q,
            gate,
            key_values,
        }
    }

    /// Queries or keys `[N, heads, width]`, normalised (if the model does) and rotated by position.
    fn place_heads(
        &self,
        index: usize,
        attention: &Attention,
        norm: LayerVector,
        x: Tensor<3>,
    ) -> Tensor<3> {
        let shape = x.dims();
        let [tokens, heads, width] = shape;
        let x = match (attention.qk_norm, self.plain.layers[index].vector(norm)) {
            (HeadNorm::PerHead, Some(weight)) => self.plain.norm(x, weight),
            (HeadNorm::Whole, Some(weight)) => {
                let whole = x.reshape([tokens, heads * width]);
                self.plain.norm(whole, weight).reshape(shape)
            }
            _ => x,
        };
        let Some(rope) = self.rope_of_layer[index] else {
            return x;
        };
        let rotation = &self.rotary[rope];
        let [cosine, sine] = match norm {
            LayerVector::QNorm => &rotation.queries,
            _ => &rotation.keys,
        };
        let (part, half) = (x.clone().narrow(2, 0, rotation.width), rotation.width / 2);
        let turned = Tensor::cat(
            vec![
                -part.clone().narrow(2, half, half),
                part.clone().narrow(2, 0, half),
            ],
            2,
        );
        let rotated = part * cosine.clone().unsqueeze_dim::<3>(1)
            + turned * sine.clone().unsqueeze_dim::<3>(1);
        match width - rotation.width {
            0 => rotated,
            rest => Tensor::cat(vec![rotated, x.narrow(2, rotation.width, rest)], 2),
        }
    }

    /// Attention segment by segment, `[N, heads, width]` → `[N, heads · width]`.
    fn attend(&self, attention: &Attention, [q, k, v]: [&Tensor<3>; 3]) -> Tensor<2> {
        let segments = 0..self.batch.segments.len();
        let outputs = segments.map(|index| self.attend_segment(index, attention, [q, k, v]));
        Tensor::cat(outputs.collect(), 0)
    }

    /// softmax(multiplier · Q Kᵀ) V for the queries of one segment, over the tokens of its ancestors
    /// and its own.
    fn attend_segment(
        &self,
        index: usize,
        attention: &Attention,
        [q, k, v]: [&Tensor<3>; 3],
    ) -> Tensor<2> {
        let segment = &self.batch.segments[index];
        let mut seen = self.batch.above(index);
        seen.push(segment.start..segment.start + segment.len);
        let [_, queries, width] = q.dims();
        let group = queries / k.dims()[1];
        let (keys, values) = (
            repeat_heads(pick(k, &seen), group),
            repeat_heads(pick(v, &seen), group),
        );
        let hidden = self.hidden_columns(attention.window, segment.len, keys.dims()[1]);
        let query = q
            .clone()
            .narrow(0, segment.start, segment.len)
            .swap_dims(0, 1);
        let mut scores = query.matmul(keys.swap_dims(1, 2)) * attention.score_multiplier();
        if let Some(cap) = attention.softcap {
            scores = (scores / cap).tanh() * cap;
        }
        let scores = scores.mask_fill(hidden.unsqueeze::<3>(), f32::NEG_INFINITY);
        softmax(scores, 2)
            .matmul(values)
            .swap_dims(0, 1)
            .reshape([segment.len, queries * width])
    }

    /// True where a query of a segment must not attend: later tokens, and those beyond the sliding
    /// window.
    fn hidden_columns(
        &self,
        window: Option<usize>,
        queries: usize,
        keys: usize,
    ) -> Tensor<2, Bool> {
        let window = window.unwrap_or(usize::MAX);
        let hidden = (0..queries).flat_map(|row| {
            let position = keys - queries + row;
            (0..keys).map(move |column| column > position || position - column >= window)
        });
        Tensor::from_data(
            TensorData::new(hidden.collect::<Vec<bool>>(), [queries, keys]),
            &self.plain.device,
        )
    }
}

/// Some runs of tokens, concatenated, `[tokens, heads, width]`.
fn pick(x: &Tensor<3>, runs: &[Range<usize>]) -> Tensor<3> {
    let run = |range: &Range<usize>| x.clone().narrow(0, range.start, range.len());
    Tensor::cat(runs.iter().map(run).collect(), 0)
}

/// `[tokens, heads, width]` → `[heads · group, tokens, width]`: repeats each key head for its group
/// of queries.
fn repeat_heads(x: Tensor<3>, group: usize) -> Tensor<3> {
    let [tokens, heads, width] = x.dims();
    x.swap_dims(0, 1)
        .unsqueeze_dim::<4>(1)
        .expand([heads, group, tokens, width])
        .reshape([heads * group, tokens, width])
}

//! The decoder in plain Burn operations: for devices other than the CPU, and as the reference with
//! which the CPU operation is tested. Written for readers, in the order of the forward pass.

use std::cell::RefCell;
use std::ops::Range;

use burn::tensor::activation::{silu, softmax};
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};

use super::hidden::Hidden;
use crate::data::Batch;
use crate::lora::{Draw, LoraPair, PlainRows, PlainSide, Side, pair_path};
use crate::model::{
    Decoder, DecoderConfig, DecoderLayer, FrozenMatrix, Gate, Linear, Norms, Projection, Rope,
};

/// The decoder's weights as tensors on a device.
#[derive(Debug)]
pub struct Plain {
    config: DecoderConfig,
    embed_tokens: FrozenMatrix,
    lm_head: Option<FrozenMatrix>,
    layers: Vec<PlainLayer>,
    norm: Tensor<1>,
    device: Device,
}

#[derive(Debug)]
struct PlainLayer {
    input_layernorm: Tensor<1>,
    post_attention_layernorm: Tensor<1>,
    q_norm: Option<Tensor<1>>,
    k_norm: Option<Tensor<1>>,
    /// Weight `[in, out]` and bias `[out]`, in the order of [`Projection::ALL`].
    linears: Vec<(Tensor<2>, Option<Tensor<1>>)>,
}

impl PlainLayer {
    fn new(layer: DecoderLayer, device: &Device) -> Self {
        Self {
            input_layernorm: vector(layer.input_layernorm, device),
            post_attention_layernorm: vector(layer.post_attention_layernorm, device),
            q_norm: layer.q_norm.map(|norm| vector(norm, device)),
            k_norm: layer.k_norm.map(|norm| vector(norm, device)),
            linears: layer
                .linears
                .into_iter()
                .map(|layer| linear(layer, device))
                .collect(),
        }
    }
}

fn vector(values: Vec<f32>, device: &Device) -> Tensor<1> {
    let len = values.len();
    Tensor::from_data(TensorData::new(values, [len]), device)
}

fn linear(linear: Linear, device: &Device) -> (Tensor<2>, Option<Tensor<1>>) {
    let shape = [linear.weight.rows(), linear.weight.columns()];
    let rows: Vec<u32> = (0..shape[0] as u32).collect();
    let weight = TensorData::new(linear.weight.gather(&rows), shape);
    let weight = Tensor::<2>::from_data(weight, device).transpose();
    (weight, linear.bias.map(|bias| vector(bias, device)))
}

/// The data shared by all layers of a forward pass.
struct Pass<'a> {
    plain: &'a Plain,
    batch: &'a Batch,
    draw: &'a Draw,
    /// Cosine and sine of the rotary angles of each rotary embedding, `[N, head_dim]`.
    angles: Vec<(Tensor<2>, Tensor<2>)>,
    /// The index of each layer's rotary embedding.
    rope_of_layer: Vec<usize>,
    /// The prefix key of each token if a side needs it; else empty.
    keys: Vec<u64>,
    /// The penalty of the layers so far, `[1]`, nats.
    penalty: RefCell<Option<Tensor<1>>>,
}

impl Plain {
    /// Moves a decoder's weights to a device, layer by layer.
    pub fn new(decoder: Decoder, device: &Device) -> Self {
        let device = device.clone().without_autodiff();
        let layers = decoder.layers.into_iter();
        Self {
            config: decoder.config,
            embed_tokens: decoder.embed_tokens,
            lm_head: decoder.lm_head,
            layers: layers
                .map(|layer| PlainLayer::new(layer, &device))
                .collect(),
            norm: vector(decoder.norm, &device),
            device,
        }
    }

    /// The decoder's shape.
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// The output table `[V, H]`.
    pub fn output(&self) -> &FrozenMatrix {
        self.lm_head.as_ref().unwrap_or(&self.embed_tokens)
    }

    /// The hidden states after the last norm at the requested tokens, and the penalty if the
    /// adapter's draw has one.
    pub fn hidden(&self, batch: &Batch, draw: &Draw) -> Hidden {
        let embedded = TensorData::new(
            self.embed_tokens.gather(&batch.tokens),
            [batch.len(), self.config.hidden_size],
        );
        let mut x = Tensor::<2>::from_data(embedded, &self.device);
        let (ropes, rope_of_layer) = self.config.ropes();
        let pass = Pass {
            plain: self,
            batch,
            draw,
            angles: ropes
                .into_iter()
                .map(|rope| self.angles(batch, rope))
                .collect(),
            rope_of_layer,
            keys: match draw.adapter.has_sides() {
                true => batch.prefix_keys(),
                false => Vec::new(),
            },
            penalty: RefCell::default(),
        };
        for index in 0..self.layers.len() {
            x = pass.layer(index, x);
        }
        let asked = batch.asked.iter().map(|&token| token as i64);
        let asked = TensorData::new(asked.collect::<Vec<_>>(), [batch.asked.len()]);
        let asked = Tensor::<1, Int>::from_data(asked, &self.device);
        Hidden {
            states: self.norm(x.select(0, asked), &self.norm),
            penalty: pass.penalty.take(),
        }
    }

    /// x · w / √(mean(x²) + ε) along the last dimension.
    fn norm<const D: usize>(&self, x: Tensor<D>, weight: &Tensor<1>) -> Tensor<D> {
        let inverse = (x.clone().powi_scalar(2).mean_dim(D - 1) + self.config.rms_norm_eps)
            .sqrt()
            .recip();
        x * inverse * weight.clone().unsqueeze::<D>()
    }

    fn angles(&self, batch: &Batch, rope: &Rope) -> (Tensor<2>, Tensor<2>) {
        let frequencies = rope.inverse_frequencies(self.config.head_dim);
        let angles = batch.positions.iter().flat_map(|&position| {
            let half = frequencies
                .iter()
                .map(move |frequency| f64::from(position as f32 * frequency));
            half.clone().chain(half)
        });
        let (cosine, sine): (Vec<f32>, Vec<f32>) = angles
            .map(|angle| (angle.cos() as f32, angle.sin() as f32))
            .unzip();
        let shape = [batch.len(), self.config.head_dim];
        (
            Tensor::from_data(TensorData::new(cosine, shape), &self.device),
            Tensor::from_data(TensorData::new(sine, shape), &self.device),
        )
    }
}

impl Pass<'_> {
    /// W x + b + s · B A dropout(x), `[N, in]` → `[N, out]`.
    fn project(&self, layer: usize, projection: Projection, x: Tensor<2>) -> Tensor<2> {
        let (weight, bias) = &self.plain.layers[layer].linears[projection as usize];
        let mut y = x.clone().matmul(weight.clone());
        if let Some(bias) = bias {
            y = y + bias.clone().unsqueeze::<2>();
        }
        let adapted = self.draw.adapter.layers.get(layer);
        match adapted.and_then(|layer| layer.pair(projection)) {
            None => y,
            Some(pair) => y + self.low_rank(layer, projection, pair, x),
        }
    }

    /// s · B A dropout(x), or s · B f(x, h) with h = A dropout(x) if the pair has a side.
    fn low_rank(
        &self,
        layer: usize,
        projection: Projection,
        pair: &LoraPair,
        x: Tensor<2>,
    ) -> Tensor<2> {
        let path = pair_path(layer, projection);
        let x = self.dropped(&path, x);
        let mut low = x.clone().matmul(pair.lora_A.val().transpose());
        if let Some(side) = &pair.side {
            // In the last layer only keys and values are computed for all tokens.
            let all = layer + 1 < self.plain.layers.len()
                || matches!(projection, Projection::K | Projection::V);
            let rows = PlainRows {
                path: &path,
                keys: &self.keys,
                needed: (!all).then_some(self.batch.asked.as_slice()),
                device: &self.plain.device,
            };
            low = self.beside(side, &rows, x, low);
        }
        low.matmul(pair.lora_B.val().transpose()) * self.draw.adapter.scaling
    }

    /// dropout(x) for the projection at `path`.
    fn dropped(&self, path: &str, x: Tensor<2>) -> Tensor<2> {
        let Some(dropout) = self.draw.dropout else {
            return x;
        };
        let shape = x.dims();
        let mask = dropout.mask(path, self.batch, shape[1]).values();
        x * Tensor::<2>::from_data(TensorData::new(mask, shape), &self.plain.device)
    }

    /// f(x, h) of a side; adds its penalty to the sum.
    fn beside(&self, side: &Side, rows: &PlainRows<'_>, x: Tensor<2>, h: Tensor<2>) -> Tensor<2> {
        let PlainSide { low, penalty } = side.form().plain(rows, x, h);
        if let Some(penalty) = penalty {
            let mut sum = self.penalty.borrow_mut();
            *sum = Some(match sum.take() {
                None => penalty,
                Some(before) => before + penalty,
            });
        }
        low
    }

    /// `[N, heads · width]` → `[N, heads, width]`, normalised per head (Qwen3) and rotated by
    /// position.
    fn place_heads(
        &self,
        layer: usize,
        x: Tensor<2>,
        heads: usize,
        norm: Option<&Tensor<1>>,
    ) -> Tensor<3> {
        let (n, width) = (x.dims()[0], self.plain.config.head_dim);
        let mut x = x.reshape([n, heads, width]);
        if let Some(weight) = norm {
            x = self.plain.norm(x, weight);
        }
        let half = width / 2;
        let turned = Tensor::cat(
            vec![
                -x.clone().narrow(2, half, half),
                x.clone().narrow(2, 0, half),
            ],
            2,
        );
        let (cosine, sine) = &self.angles[self.rope_of_layer[layer]];
        x * cosine.clone().unsqueeze_dim::<3>(1) + turned * sine.clone().unsqueeze_dim::<3>(1)
    }

    /// Attention segment by segment, `[N, heads, width]` → `[N, heads · width]`.
    fn attend(&self, window: Option<usize>, q: Tensor<3>, k: Tensor<3>, v: Tensor<3>) -> Tensor<2> {
        let segments = 0..self.batch.segments.len();
        let outputs = segments.map(|index| self.attend_segment(index, window, [&q, &k, &v]));
        Tensor::cat(outputs.collect(), 0)
    }

    /// softmax(Q Kᵀ / √width) V for the queries of one segment, over the tokens of its ancestors
    /// and its own.
    fn attend_segment(
        &self,
        index: usize,
        window: Option<usize>,
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
        let hidden = self.hidden_columns(window, segment.len, keys.dims()[1]);
        let query = q
            .clone()
            .narrow(0, segment.start, segment.len)
            .swap_dims(0, 1);
        let scores = query.matmul(keys.swap_dims(1, 2)) * (1.0 / (width as f64).sqrt());
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

    fn layer(&self, index: usize, x: Tensor<2>) -> Tensor<2> {
        let (layer, config) = (&self.plain.layers[index], &self.plain.config);
        let kind = &config.layers[index];
        let (Norms::Before, Gate::Silu) = (kind.norms, kind.gate);
        let normed = self.plain.norm(x.clone(), &layer.input_layernorm);
        let q = self.project(index, Projection::Q, normed.clone());
        let k = self.project(index, Projection::K, normed.clone());
        let v = self.project(index, Projection::V, normed);
        let q = self.place_heads(index, q, config.num_attention_heads, layer.q_norm.as_ref());
        let k = self.place_heads(index, k, config.num_key_value_heads, layer.k_norm.as_ref());
        let v = v.reshape([
            self.batch.len(),
            config.num_key_value_heads,
            config.head_dim,
        ]);
        let x = x + self.project(index, Projection::O, self.attend(kind.window, q, k, v));
        let normed = self.plain.norm(x.clone(), &layer.post_attention_layernorm);
        let gate = silu(self.project(index, Projection::Gate, normed.clone()));
        let gated = gate * self.project(index, Projection::Up, normed);
        x + self.project(index, Projection::Down, gated)
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

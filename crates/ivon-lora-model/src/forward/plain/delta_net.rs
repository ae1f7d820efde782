//! Qwen3.5's gated delta net in plain operations, chunk by chunk.
//!
//! With G the running sum of g in a chunk, D_ts = e^{G_t − G_s} for s ≤ t and S the state before it:
//!
//! ```text
//! (I + β (K Kᵀ ⊙ D, s < t)) Δ = β (V − e^G K S)
//! O = e^G Q S + (Q Kᵀ ⊙ D) Δ      S ← e^{G_C} S + (e^{G_C − G} K)ᵀ Δ
//! ```

use burn::tensor::activation::{sigmoid, silu, softplus};
use burn::tensor::{Bool, Tensor, TensorData};

use super::pass::Pass;
use crate::model::{DeltaNet, LayerVector, Projection};

/// Tokens in a chunk.
const CHUNK: usize = 64;

/// The inputs of the delta rule, heads first: q and k `[heads, T, d_k]`, v `[heads, T, d_v]`, β and
/// g `[heads, T, 1]`.
#[derive(Clone)]
struct RuleInputs {
    q: Tensor<3>,
    k: Tensor<3>,
    v: Tensor<3>,
    beta: Tensor<3>,
    g: Tensor<3>,
}

impl RuleInputs {
    fn narrow(&self, start: usize, len: usize) -> Self {
        let part = |x: &Tensor<3>| x.clone().narrow(1, start, len);
        Self {
            q: part(&self.q),
            k: part(&self.k),
            v: part(&self.v),
            beta: part(&self.beta),
            g: part(&self.g),
        }
    }
}

impl Pass<'_> {
    /// y of x `[N, H]`.
    pub fn delta_net(&self, index: usize, net: &DeltaNet, x: Tensor<2>) -> Tensor<2> {
        let project = |projection| self.project(Some(index), projection, x.clone());
        let qkv = project(Projection::DeltaQkv);
        let filters = LayerVector::DeltaConvolution;
        let mixed = silu(self.convolve(index, filters, net.kernel, qkv));
        let rates = [project(Projection::DeltaB), project(Projection::DeltaA)];
        let inputs = self.rule_inputs(index, net, mixed, rates);
        let tokens = self.batch.len();
        let o = self.run_rule(&inputs).swap_dims(0, 1);
        let normed = match self.plain.layers[index].vector(LayerVector::DeltaNorm) {
            Some(weight) => self.plain.norm(o, weight),
            None => o,
        };
        let gate = silu(project(Projection::DeltaZ));
        let gated = normed.reshape([tokens, net.value_width()]) * gate;
        self.project(Some(index), Projection::DeltaOut, gated)
    }

    fn rule_inputs(
        &self,
        index: usize,
        net: &DeltaNet,
        mixed: Tensor<2>,
        [b, a]: [Tensor<2>; 2],
    ) -> RuleInputs {
        let tokens = self.batch.len();
        let heads = |first: usize, count: usize, width: usize| {
            let part = mixed.clone().narrow(1, first, count * width);
            part.reshape([tokens, count, width]).swap_dims(0, 1)
        };
        let group = net.value_heads / net.key_heads;
        let (keys, width) = (net.key_heads, net.key_head_dim);
        let unit = |x: Tensor<3>| {
            let length = (x.clone().powi_scalar(2).sum_dim(2) + 1e-6).sqrt();
            let unit: Tensor<3> = x / length;
            unit.unsqueeze_dim::<4>(1)
                .expand([keys, group, tokens, width])
                .reshape([net.value_heads, tokens, width])
        };
        let columns = |x: Tensor<2>| x.transpose().unsqueeze_dim::<3>(2);
        let layer = &self.plain.layers[index];
        let rate = |vector| match layer.vector(vector) {
            Some(rate) => rate.clone().unsqueeze::<2>(),
            None => Tensor::zeros([1, net.value_heads], &self.plain.device),
        };
        let steps = softplus(a + rate(LayerVector::DeltaTimeStep), 1.0);
        RuleInputs {
            q: unit(heads(0, keys, width)) / (width as f64).sqrt(),
            k: unit(heads(net.key_width(), keys, width)),
            v: heads(2 * net.key_width(), net.value_heads, net.value_head_dim),
            beta: columns(sigmoid(b)),
            g: columns(-(rate(LayerVector::DeltaDecay).exp() * steps)),
        }
    }

    /// The outputs `[heads, N, d_v]`, segment by segment.
    fn run_rule(&self, inputs: &RuleInputs) -> Tensor<3> {
        let ([heads, _, keys], values) = (inputs.k.dims(), inputs.v.dims()[2]);
        let mut states: Vec<Tensor<3>> = Vec::new();
        let mut outputs = Vec::new();
        for segment in &self.batch.segments {
            let mut state = match segment.parent {
                Some(parent) => states[parent].clone(),
                None => Tensor::zeros([heads, keys, values], &self.plain.device),
            };
            for start in (0..segment.len).step_by(CHUNK) {
                let len = CHUNK.min(segment.len - start);
                let chunk = inputs.narrow(segment.start + start, len);
                let (output, after) = self.run_chunk(chunk, state);
                outputs.push(output);
                state = after;
            }
            states.push(state);
        }
        Tensor::cat(outputs, 1)
    }

    /// The outputs of a chunk, and the state after it.
    fn run_chunk(&self, chunk: RuleInputs, state: Tensor<3>) -> (Tensor<3>, Tensor<3>) {
        let RuleInputs { q, k, v, beta, g } = chunk;
        let len = k.dims()[1];
        let sums = self.below(len, true).matmul(g);
        let between = sums.clone() - sums.clone().swap_dims(1, 2);
        let earlier = self.hidden_above(len, true);
        let decay = between
            .clone()
            .mask_fill(self.hidden_above(len, false), f32::NEG_INFINITY)
            .exp();
        let strict = between.mask_fill(earlier, f32::NEG_INFINITY).exp();
        let from_start = sums.clone().exp();
        let overlap = k.clone().matmul(k.clone().swap_dims(1, 2)) * strict * beta.clone();
        let wanted = v - (k.clone() * from_start.clone()).matmul(state.clone());
        let delta = solve_unit_lower(overlap, wanted * beta);
        let attention = q.clone().matmul(k.clone().swap_dims(1, 2)) * decay;
        let output = (q * from_start).matmul(state.clone()) + attention.matmul(delta.clone());
        let total = sums.clone().narrow(1, len - 1, 1);
        let kept = k * (total.clone() - sums).exp();
        let after = state * total.exp() + kept.swap_dims(1, 2).matmul(delta);
        (output, after)
    }

    /// 1 on and below the diagonal, or only below it, else 0, `[1, len, len]`.
    fn below(&self, len: usize, with_diagonal: bool) -> Tensor<3> {
        let numbers = (0..len).flat_map(|row| {
            (0..len).map(move |column| f32::from(column < row || (with_diagonal && column == row)))
        });
        let numbers = TensorData::new(numbers.collect::<Vec<_>>(), [1, len, len]);
        Tensor::from_data(numbers, &self.plain.device)
    }

    /// True above the diagonal, and on it if `with_diagonal`, `[1, len, len]`.
    fn hidden_above(&self, len: usize, with_diagonal: bool) -> Tensor<3, Bool> {
        let hidden = (0..len).flat_map(|row| {
            (0..len).map(move |column| column > row || (with_diagonal && column == row))
        });
        let hidden = TensorData::new(hidden.collect::<Vec<_>>(), [1, len, len]);
        Tensor::from_data(hidden, &self.plain.device)
    }
}

/// X of (I + L) X = Y with L below the diagonal, `[heads, n, n]`: (I + L)⁻¹ is the product of
/// I + (−L)^(2^i) for all powers below n, since L^n = 0.
fn solve_unit_lower(lower: Tensor<3>, y: Tensor<3>) -> Tensor<3> {
    let len = lower.dims()[1];
    let mut power = -lower;
    let mut x = y;
    let mut reach = 1;
    while reach < len {
        x = x.clone() + power.clone().matmul(x);
        power = power.clone().matmul(power);
        reach *= 2;
    }
    x
}

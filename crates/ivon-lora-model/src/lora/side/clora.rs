//! A small network beside each A and B that predicts, for each token, a matrix between them
//! (C-LoRA, arXiv 2505.17773):
//!
//! ```text
//! y = W x + s · B E h,   h = A drop(x),   E = M(h) + √τ Σ(h) ⊙ ε,   ε standard normal
//! a = relu(W₁ h + b₁),   (M, Q) = W₂ a + b₂,   Σ = σ(Q)² (σ is the logistic function)
//! ```

use std::sync::Arc;

use burn::module::{Module, Param};
use burn::tensor::activation::{relu, sigmoid};
use burn::tensor::{Device, Int, Tensor, TensorData};
use ivon::noise::Address;

use super::form::{
    BackwardRows, CpuBackward, CpuForward, CpuRows, CpuSide, PlainRows, PlainSide, SideForm,
};
use crate::kernel::{Buffer, Factor, Target, Threads, View, product};
use crate::lora::{HostMatrix, LoraError};
use crate::random::{Purpose, stream, uniform};

/// The path suffixes of W₁ and W₂.
const PARTS: [&str; 2] = ["context.inner", "context.outer"];

/// The network of one adapted layer. The last column of each matrix is its bias.
#[derive(Module, Debug)]
pub struct CloraNetwork {
    /// W₁ and b₁, `[hidden, r + 1]`.
    pub inner: Param<Tensor<2>>,
    /// W₂ and b₂, `[2 r², hidden + 1]`: the rows of M, row by row, then those of Q.
    pub outer: Param<Tensor<2>>,
    /// The function that a forward pass computes from E's distribution.
    #[module(skip)]
    pub draw: CloraDraw,
}

/// The function that a forward pass computes from E's distribution: by default the mean.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CloraDraw {
    /// The noise; none for the mean.
    pub noise: Option<CloraNoise>,
    /// The divergence from the prior, if it is to be computed.
    pub divergence: Option<Divergence>,
}

/// ε by address. The ε of a token depends on the draw, the layer and the tokens up to it: a draw is
/// one function of a text, in any batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CloraNoise {
    /// The address of the draw.
    pub address: Address,
    /// √τ.
    pub factor: f32,
}

impl CloraNoise {
    /// The ε of a token in the layer at `path`; `key` is its prefix key.
    fn fill(&self, path: &str, key: u64, normals: &mut [f32]) {
        self.address
            .fill(&format!("{path}.context.{key:016x}"), normals);
    }
}

/// weight · Σ over tokens, layers and entries of KL(N(M, Σ²) ‖ N(0, p²)), nats.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Divergence {
    /// p, the prior's standard deviation.
    pub prior_sd: f32,
    /// The weight.
    pub weight: f32,
}

/// The initialisation of a network.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CloraStart {
    /// The width between W₁ and W₂.
    pub hidden: usize,
    /// The approximate initial value of every element of Σ.
    pub sd: f64,
    /// The seed of the initial values.
    pub seed: u64,
}

impl CloraStart {
    /// W₁, b₁ and W₂ are uniform in ±1/√(inputs), as in PyTorch's linear layers; b₂ is such that E
    /// is about the identity and Σ about `sd`. `path` is that of the layer and addresses the
    /// numbers.
    pub fn network(self, path: &str, rank: usize, device: &Device) -> CloraNetwork {
        let inner = self.random(path, PARTS[0], [self.hidden, rank + 1]);
        let mut outer = self.random(path, PARTS[1], [2 * rank * rank, self.hidden + 1]);
        let root = self.sd.sqrt();
        let spread = (root / (1.0 - root)).ln() as f32;
        for (row, values) in outer.values.chunks_exact_mut(self.hidden + 1).enumerate() {
            values[self.hidden] = match row.checked_sub(rank * rank) {
                Some(_) => spread,
                None => f32::from(u8::from(row / rank == row % rank)),
            };
        }
        CloraNetwork {
            inner: inner.parameter(device),
            outer: outer.parameter(device),
            draw: CloraDraw::default(),
        }
    }

    fn random(self, path: &str, part: &str, shape: [usize; 2]) -> HostMatrix {
        let bound = 1.0 / (shape[1] as f64 - 1.0).sqrt();
        let address = format!("{path}.{part}");
        let mut numbers = stream(self.seed, Purpose::Initialisation, 0, 0, &address);
        let values = (0..shape[0] * shape[1])
            .map(|_| (bound * (2.0 * uniform(&mut numbers) - 1.0)) as f32)
            .collect();
        HostMatrix { shape, values }
    }
}

/// Σ = σ(q)².
fn spread(q: f32) -> f32 {
    let root = 1.0 / (1.0 + (-q).exp());
    root * root
}

impl CloraNetwork {
    /// The network of the layer at `path`, `[hidden, r + 1]` and `[2 r², hidden + 1]`; none if
    /// `take` returns neither matrix.
    pub(super) fn from_matrices(
        path: &str,
        rank: usize,
        device: &Device,
        take: &mut dyn FnMut(&str) -> Option<HostMatrix>,
    ) -> Result<Option<Self>, LoraError> {
        let names = PARTS.map(|part| format!("{path}.{part}"));
        let (inner, outer) = match names.each_ref().map(|name| take(name)) {
            [None, None] => return Ok(None),
            [Some(inner), Some(outer)] => (inner, outer),
            [inner, _] => {
                let [first, second] = names;
                let name = if inner.is_some() { second } else { first };
                return Err(LoraError::MissingTensor {
                    path: "the adapter".into(),
                    name,
                });
            }
        };
        let hidden = inner.shape[0].max(1);
        inner.check_shape(&names[0], [hidden, rank + 1])?;
        outer.check_shape(&names[1], [2 * rank * rank, hidden + 1])?;
        Ok(Some(Self {
            inner: inner.parameter(device),
            outer: outer.parameter(device),
            draw: CloraDraw::default(),
        }))
    }
}

impl SideForm for CloraNetwork {
    fn parameters(&self) -> Vec<(&'static str, &Param<Tensor<2>>)> {
        PARTS.into_iter().zip([&self.inner, &self.outer]).collect()
    }

    fn parameters_mut(&mut self) -> Vec<&mut Param<Tensor<2>>> {
        vec![&mut self.inner, &mut self.outer]
    }

    /// E h.
    fn plain(&self, rows: &PlainRows<'_>, _: Tensor<2>, h: Tensor<2>) -> PlainSide {
        let [n, r] = h.dims();
        let active = relu(plain_linear(h.clone(), self.inner.val()));
        let out = plain_linear(active, self.outer.val());
        let mean = out.clone().narrow(1, 0, r * r);
        let sd = sigmoid(out.narrow(1, r * r, r * r)).powi_scalar(2);
        let penalty = self
            .draw
            .divergence
            .map(|wanted| plain_divergence(wanted, mean.clone(), sd.clone(), rows));
        let matrix = match self.draw.noise {
            None => mean,
            Some(noise) => mean + sd * plain_normals(noise, rows, n, r * r) * noise.factor,
        };
        let low = matrix
            .reshape([n, r, r])
            .matmul(h.unsqueeze_dim::<3>(2))
            .reshape([n, r]);
        PlainSide { low, penalty }
    }

    fn on_cpu(&self) -> Arc<dyn CpuSide> {
        Arc::new(CpuNetwork {
            hidden: self.inner.lazy_shape().dims::<2>()[0],
            draw: self.draw,
        })
    }
}

/// x Wᵀ + b, with b as the last column of the weights.
fn plain_linear(x: Tensor<2>, weights: Tensor<2>) -> Tensor<2> {
    let [rows, columns] = weights.dims();
    let weight = weights.clone().narrow(1, 0, columns - 1);
    x.matmul(weight.transpose()) + weights.narrow(1, columns - 1, 1).reshape([1, rows])
}

/// ε `[n, r²]`.
fn plain_normals(noise: CloraNoise, rows: &PlainRows<'_>, n: usize, size: usize) -> Tensor<2> {
    let mut normals = vec![0.0; n * size];
    for (row, key) in normals.chunks_exact_mut(size).zip(rows.keys) {
        noise.fill(rows.path, *key, row);
    }
    Tensor::from_data(TensorData::new(normals, [n, size]), rows.device)
}

/// weight · Σ KL(N(mean, sd²) ‖ N(0, p²)) over the needed rows of `[N, r²]`.
fn plain_divergence(
    wanted: Divergence,
    mean: Tensor<2>,
    sd: Tensor<2>,
    rows: &PlainRows<'_>,
) -> Tensor<1> {
    let prior = f64::from(wanted.prior_sd);
    let mut terms = sd.clone().log().neg()
        + (sd.powi_scalar(2) + mean.powi_scalar(2)) / (2.0 * prior * prior)
        + (prior.ln() - 0.5);
    if let Some(needed) = rows.needed {
        let needed: Vec<i64> = needed.iter().map(|&row| row as i64).collect();
        let needed = TensorData::new(needed.clone(), [needed.len()]);
        terms = terms.select(0, Tensor::<1, Int>::from_data(needed, rows.device));
    }
    terms.sum() * f64::from(wanted.weight)
}

/// The network on slices.
#[derive(Debug)]
struct CpuNetwork {
    /// The width between W₁ and W₂.
    hidden: usize,
    draw: CloraDraw,
}

/// The output of the network for each row.
struct Prediction {
    /// a `[n, hidden]`.
    active: Buffer,
    /// M and Q, `[n, 2 r²]`.
    out: Buffer,
    /// √τ ε `[n, r²]`; none at the mean.
    noise: Option<Buffer>,
    /// E `[n, r²]`.
    matrix: Buffer,
}

impl CpuSide for CpuNetwork {
    fn reads_keys(&self) -> bool {
        self.draw.noise.is_some()
    }

    fn has_penalty(&self) -> bool {
        self.draw.divergence.is_some()
    }

    fn forward(&self, rows: &CpuRows<'_>, _: &[f32], h: &mut Buffer) -> CpuForward {
        let prediction = self.predict(rows, h);
        CpuForward {
            low: Some(between(rows, &prediction, h)),
            penalty: self
                .draw
                .divergence
                .map_or(0.0, |wanted| divergence(wanted, &prediction, rows.rank)),
        }
    }

    /// dh = Eᵀ dv + W₁ᵀ da, with dv the gradient of E h.
    fn backward(
        &self,
        rows: &CpuRows<'_>,
        given: BackwardRows<'_>,
        gradient: &mut [f32],
    ) -> CpuBackward {
        let (r, n, h) = (rows.rank, rows.count, given.h);
        let prediction = self.predict(rows, h);
        let d_out = self.out_backward(rows, &prediction, &given);
        let mut d_active = rows.pool.take(n * self.hidden);
        product(
            Target::over(&mut d_active, self.hidden),
            1.0,
            Factor::Plain(View::new(&d_out, n, 2 * r * r)),
            Factor::Plain(self.outer(rows)),
            Threads::All,
        );
        d_active
            .iter_mut()
            .zip(&*prediction.active)
            .filter(|(_, a)| **a <= 0.0)
            .for_each(|(d, _)| *d = 0.0);
        let (inner, outer) = gradient.split_at_mut(self.hidden * (r + 1));
        linear_backward(&d_out, &prediction.active, 2 * r * r, outer);
        linear_backward(&d_active, h, self.hidden, inner);
        let mut d_h = between_backward(rows, &prediction, &given.d_low);
        product(
            Target::onto(&mut d_h, r),
            1.0,
            Factor::Plain(View::new(&d_active, n, self.hidden)),
            Factor::Plain(self.inner(rows)),
            Threads::All,
        );
        CpuBackward {
            low: Some(between(rows, &prediction, h)),
            d_h,
            d_x: None,
        }
    }
}

impl CpuNetwork {
    /// W₁, each row followed by its bias.
    fn inner<'a>(&self, rows: &CpuRows<'a>) -> View<'a> {
        let values = &rows.weights[..self.hidden * (rows.rank + 1)];
        View {
            values,
            rows: self.hidden,
            columns: rows.rank,
            stride: rows.rank + 1,
        }
    }

    /// W₂, each row followed by its bias.
    fn outer<'a>(&self, rows: &CpuRows<'a>) -> View<'a> {
        let values = &rows.weights[self.hidden * (rows.rank + 1)..];
        View {
            values,
            rows: 2 * rows.rank * rows.rank,
            columns: self.hidden,
            stride: self.hidden + 1,
        }
    }

    fn predict(&self, rows: &CpuRows<'_>, h: &[f32]) -> Prediction {
        let size = rows.rank * rows.rank;
        let mut active = linear(rows, h, self.inner(rows));
        active.iter_mut().for_each(|value| *value = value.max(0.0));
        let out = linear(rows, &active, self.outer(rows));
        let noise = self.draw.noise.map(|noise| normals(noise, rows));
        let mut matrix = rows.pool.take(rows.count * size);
        let each = matrix
            .chunks_exact_mut(size)
            .zip(out.chunks_exact(2 * size));
        for (row, (matrix, out)) in each.enumerate() {
            let (mean, raw) = out.split_at(size);
            matrix.copy_from_slice(mean);
            if let Some(noise) = &noise {
                let noise = &noise[row * size..][..size];
                for ((e, raw), noise) in matrix.iter_mut().zip(raw).zip(noise) {
                    *e += spread(*raw) * noise;
                }
            }
        }
        Prediction {
            active,
            out,
            noise,
            matrix,
        }
    }

    /// The gradient of M and Q, `[n, 2 r²]`.
    ///
    /// σ = γ² with γ = 1/(1 + e^−q): dσ/dq = 2 σ (1 − γ), and σ ∂KL/∂σ = σ²/p² − 1.
    fn out_backward(
        &self,
        rows: &CpuRows<'_>,
        prediction: &Prediction,
        given: &BackwardRows<'_>,
    ) -> Buffer {
        let (r, size) = (rows.rank, rows.rank * rows.rank);
        let mut d_out = rows.pool.take(prediction.out.len());
        let (precision, weight) = match self.draw.divergence {
            Some(wanted) => (wanted.prior_sd.powi(-2), wanted.weight * given.d_penalty),
            None => (0.0, 0.0),
        };
        for (row, d_out) in d_out.chunks_exact_mut(2 * size).enumerate() {
            let (h, dv) = (&given.h[row * r..][..r], &given.d_low[row * r..][..r]);
            let (mean, raw) = prediction.out[row * 2 * size..][..2 * size].split_at(size);
            let noise = prediction
                .noise
                .as_ref()
                .map(|noise| &noise[row * size..][..size]);
            let (d_mean, d_raw) = d_out.split_at_mut(size);
            for at in 0..size {
                let de = dv[at / r] * h[at % r];
                let sd = spread(raw[at]);
                let by_log_sd = de * noise.map_or(0.0, |noise| noise[at]) * sd
                    + weight * (sd * sd * precision - 1.0);
                d_mean[at] = de + weight * mean[at] * precision;
                d_raw[at] = by_log_sd * 2.0 * (1.0 - sd.sqrt());
            }
        }
        d_out
    }
}

/// √τ ε `[n, r²]`.
fn normals(noise: CloraNoise, rows: &CpuRows<'_>) -> Buffer {
    let size = rows.rank * rows.rank;
    let mut values = rows.pool.take(rows.count * size);
    for (row, key) in values.chunks_exact_mut(size).zip(rows.keys) {
        noise.fill(rows.path, *key, row);
        row.iter_mut().for_each(|value| *value *= noise.factor);
    }
    values
}

/// x Wᵀ + b, `[n, rows of W]`, with the bias after each row of the weights.
fn linear(rows: &CpuRows<'_>, x: &[f32], weights: View<'_>) -> Buffer {
    let mut out = rows.pool.take(rows.count * weights.rows);
    for row in out.chunks_exact_mut(weights.rows) {
        let lines = weights.values.chunks_exact(weights.stride);
        row.iter_mut()
            .zip(lines)
            .for_each(|(out, line)| *out = line[weights.columns]);
    }
    product(
        Target::onto(&mut out, weights.rows),
        1.0,
        Factor::Plain(View::new(x, rows.count, weights.columns)),
        Factor::Transposed(weights),
        Threads::All,
    );
    out
}

/// The gradients of W and b (its last column) of y = x Wᵀ + b, added to `[rows, columns + 1]`.
fn linear_backward(dy: &[f32], x: &[f32], rows: usize, gradient: &mut [f32]) {
    let n = dy.len() / rows.max(1);
    let columns = x.len() / n.max(1);
    for dy in dy.chunks_exact(rows) {
        gradient
            .chunks_exact_mut(columns + 1)
            .zip(dy)
            .for_each(|(line, dy)| line[columns] += dy);
    }
    product(
        Target::onto(gradient, columns + 1),
        1.0,
        Factor::Transposed(View::new(dy, n, rows)),
        Factor::Plain(View::new(x, n, columns)),
        Threads::All,
    );
}

/// E h, `[n, r]`.
fn between(rows: &CpuRows<'_>, prediction: &Prediction, h: &[f32]) -> Buffer {
    let r = rows.rank;
    let mut v = rows.pool.take(h.len());
    for ((v, h), e) in v
        .chunks_exact_mut(r)
        .zip(h.chunks_exact(r))
        .zip(prediction.matrix.chunks_exact(r * r))
    {
        for (v, line) in v.iter_mut().zip(e.chunks_exact(r)) {
            *v = line.iter().zip(h).map(|(e, h)| e * h).sum();
        }
    }
    v
}

/// Eᵀ dv, `[n, r]`.
fn between_backward(rows: &CpuRows<'_>, prediction: &Prediction, dv: &[f32]) -> Buffer {
    let r = rows.rank;
    let mut d_h = rows.pool.zeros(dv.len());
    for ((d_h, dv), e) in d_h
        .chunks_exact_mut(r)
        .zip(dv.chunks_exact(r))
        .zip(prediction.matrix.chunks_exact(r * r))
    {
        for (dv, line) in dv.iter().zip(e.chunks_exact(r)) {
            d_h.iter_mut().zip(line).for_each(|(d_h, e)| *d_h += dv * e);
        }
    }
    d_h
}

/// The weighted divergence of all rows from the prior, nats.
fn divergence(wanted: Divergence, prediction: &Prediction, rank: usize) -> f64 {
    let size = rank * rank;
    let prior = f64::from(wanted.prior_sd);
    let rows = prediction.out.chunks_exact(2 * size).map(|out| -> f64 {
        let (mean, raw) = out.split_at(size);
        let entries = mean.iter().zip(raw);
        entries
            .map(|(mean, raw)| divergence_of(f64::from(*mean), f64::from(*raw), prior))
            .sum()
    });
    let sum: f64 = rows.sum();
    f64::from(wanted.weight) * sum
}

/// KL(N(mean, σ²) ‖ N(0, prior²)) with σ = 1/(1 + e^−raw)², nats.
fn divergence_of(mean: f64, raw: f64, prior: f64) -> f64 {
    // ln σ = −2 ln(1 + e^−raw), finite however small σ is.
    let log_sd = -2.0 * (-raw).exp().ln_1p();
    prior.ln() - log_sd + ((2.0 * log_sd).exp() + mean * mean) / (2.0 * prior * prior) - 0.5
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lora::{Adapter, Side};
    use crate::testing::tiny::adapter;

    const START: CloraStart = CloraStart {
        hidden: 6,
        sd: 0.05,
        seed: 3,
    };

    fn with_networks(targets: &str, draw: CloraDraw) -> Adapter {
        adapter(1, targets).with_sides(|path, pair| {
            let network = START.network(path, pair.rank(), &Device::flex());
            Some(Side::Clora(CloraNetwork { draw, ..network }))
        })
    }

    #[test]
    fn networks_start_near_the_identity_with_the_spread_that_was_asked_for() {
        let contextual = with_networks("q_proj,v_proj", CloraDraw::default());
        let matrices = contextual.to_matrices().unwrap();
        let paths: Vec<&str> = matrices
            .iter()
            .map(|(path, _)| path.strip_prefix("layers.0.self_attn.").unwrap())
            .collect();
        let expected = ["lora_A", "lora_B", "context.inner", "context.outer"];
        let expected: Vec<String> = ["q_proj", "v_proj"]
            .iter()
            .flat_map(|at| expected.map(|part| format!("{at}.{part}")))
            .collect();
        assert_eq!(paths, expected);
        let (inner, outer) = (&matrices[2].1, &matrices[3].1);
        assert_eq!((inner.shape, outer.shape), ([6, 5], [32, 7]));
        assert!(
            inner.values.iter().all(|value| value.abs() <= 0.5)
                && inner.values.iter().any(|value| value.abs() > 0.25)
        );
        for (row, values) in outer.values.chunks(7).enumerate() {
            let bias = values[6];
            assert!(
                values[..6]
                    .iter()
                    .all(|value| value.abs() <= 1.0 / 6f32.sqrt())
            );
            if row < 16 {
                assert_eq!(bias, if row % 5 == 0 { 1.0 } else { 0.0 });
            } else {
                assert!((spread(bias) - 0.05).abs() < 1e-6);
            }
        }
        assert_ne!(matrices[2].1, matrices[6].1);
        assert_eq!(
            contextual.without_sides().flatten().unwrap(),
            adapter(1, "q_proj,v_proj").flatten().unwrap()
        );
    }

    #[test]
    fn a_draw_is_kept_where_numbers_change_and_gradients_are_tracked() {
        let noise = CloraNoise {
            address: Address {
                seed: 1,
                purpose: ivon::noise::Purpose::Training,
                step: 2,
                draw: 3,
            },
            factor: 0.5,
        };
        let draw = CloraDraw {
            noise: Some(noise),
            divergence: Some(Divergence {
                prior_sd: 0.2,
                weight: 1.0,
            }),
        };
        let drawn = with_networks("q_proj", draw);
        let draw_of = |adapter: &Adapter| match &adapter.pairs().next().unwrap().1.side {
            Some(Side::Clora(network)) => network.draw,
            other => panic!("{other:?}"),
        };
        let trained = drawn.clone().train();
        assert_eq!(
            [
                draw_of(&drawn.clone_with(|_, tensor| tensor * 2.0)),
                draw_of(&trained),
                draw_of(&trained.valid())
            ],
            [draw; 3]
        );
        assert!(drawn.has_sides() && !adapter(1, "q_proj").has_sides());
    }
}

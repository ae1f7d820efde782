//! E h between A and B on slices, forward and backward: see [`crate::lora::Context`].
//!
//! ```text
//! a = relu(W₁ h + b₁)   (M, Q) = W₂ a + b₂   E = M + √τ σ(Q)² ⊙ ε   v = E h
//! ```

use super::layout::{ContextPlace, Part};
use crate::kernel::{Buffer, Factor, Pool, Target, Threads, View, product};
use crate::lora::{ContextNoise, spread};

/// The network of one projection.
pub struct Predictor<'a> {
    pub pool: &'a Pool,
    pub place: &'a ContextPlace,
    /// The path of the layer, which names its noise.
    pub path: String,
    /// The adapter, flat.
    pub adapter: &'a [f32],
    pub rank: usize,
}

/// What the network says of each row.
pub struct Predicted {
    /// a `[n, hidden]`.
    active: Buffer,
    /// M and Q, `[n, 2 r²]`.
    out: Buffer,
    /// √τ ε `[n, r²]`; none at the mean.
    noise: Option<Buffer>,
    /// E `[n, r²]`.
    matrix: Buffer,
}

impl Predictor<'_> {
    /// W₁ or W₂ without its last column, which is the bias.
    fn weights(&self, range: &std::ops::Range<usize>, rows: usize, columns: usize) -> View<'_> {
        View {
            values: &self.adapter[range.clone()],
            rows,
            columns,
            stride: columns + 1,
        }
    }

    /// x Wᵀ + b, `[n, rows]`.
    fn linear(&self, x: &[f32], weights: View<'_>) -> Buffer {
        let View {
            values,
            rows,
            columns,
            stride,
        } = weights;
        let n = x.len() / columns;
        let mut out = self.pool.take(n * rows);
        for row in out.chunks_exact_mut(rows) {
            row.iter_mut()
                .zip(values.chunks_exact(stride))
                .for_each(|(out, line)| *out = line[columns]);
        }
        let x = Factor::Plain(View::new(x, n, columns));
        product(
            Target::onto(&mut out, rows),
            1.0,
            x,
            Factor::Transposed(weights),
            Threads::All,
        );
        out
    }

    /// `keys` `[n]` names what each row has read so far, see [`crate::data::Batch::prefix_keys`].
    pub fn predict(&self, h: &[f32], keys: Vec<u64>) -> Predicted {
        let (r, hidden) = (self.rank, self.place.hidden);
        let mut active = self.linear(h, self.weights(&self.place.inner, hidden, r));
        active.iter_mut().for_each(|value| *value = value.max(0.0));
        let out = self.linear(&active, self.weights(&self.place.outer, 2 * r * r, hidden));
        let noise = self
            .place
            .draw
            .noise
            .map(|noise| self.noise(noise, keys, h.len() / r));
        let mut matrix = self.pool.take(h.len() * r);
        for (row, (matrix, out)) in matrix
            .chunks_exact_mut(r * r)
            .zip(out.chunks_exact(2 * r * r))
            .enumerate()
        {
            let (mean, raw) = out.split_at(r * r);
            matrix.copy_from_slice(mean);
            if let Some(noise) = &noise {
                let noise = &noise[row * r * r..][..r * r];
                matrix
                    .iter_mut()
                    .zip(raw)
                    .zip(noise)
                    .for_each(|((e, raw), noise)| *e += spread(*raw) * noise);
            }
        }
        Predicted {
            active,
            out,
            noise,
            matrix,
        }
    }

    fn noise(&self, noise: ContextNoise, keys: Vec<u64>, rows: usize) -> Buffer {
        let size = self.rank * self.rank;
        let mut values = self.pool.take(rows * size);
        for (row, key) in values.chunks_exact_mut(size).zip(keys) {
            noise.address.fill(&noise_path(&self.path, key), row);
            row.iter_mut().for_each(|value| *value *= noise.factor);
        }
        values
    }

    /// v = E h, `[n, r]`.
    pub fn apply(&self, predicted: &Predicted, h: &[f32]) -> Buffer {
        let r = self.rank;
        let mut v = self.pool.take(h.len());
        for ((v, h), e) in v
            .chunks_exact_mut(r)
            .zip(h.chunks_exact(r))
            .zip(predicted.matrix.chunks_exact(r * r))
        {
            for (v, line) in v.iter_mut().zip(e.chunks_exact(r)) {
                *v = line.iter().zip(h).map(|(e, h)| e * h).sum();
            }
        }
        v
    }

    /// The weighted divergence of all rows from the prior, nats; 0 where none is wanted.
    pub fn divergence(&self, predicted: &Predicted) -> f64 {
        let Some(wanted) = self.place.draw.divergence else {
            return 0.0;
        };
        let size = self.rank * self.rank;
        let prior = f64::from(wanted.prior_sd);
        let of_row = |out: &[f32]| -> f64 {
            let (mean, raw) = out.split_at(size);
            let term = |(mean, raw): (&f32, &f32)| {
                // ln σ = −2 ln(1 + e^−q), finite however small σ is.
                let (mean, log_sd) = (f64::from(*mean), -2.0 * (-f64::from(*raw)).exp().ln_1p());
                prior.ln() - log_sd + ((2.0 * log_sd).exp() + mean * mean) / (2.0 * prior * prior)
                    - 0.5
            };
            mean.iter().zip(raw).map(term).sum()
        };
        f64::from(wanted.weight)
            * predicted
                .out
                .chunks_exact(2 * size)
                .map(of_row)
                .sum::<f64>()
    }

    /// The gradient of h `[n, r]` from that of v and of the divergence; those of W₁, b₁, W₂ and b₂
    /// go to `gradient`.
    pub fn backward(
        &self,
        predicted: &Predicted,
        h: &[f32],
        dv: &[f32],
        d_divergence: f32,
        gradient: &mut Part<'_>,
    ) -> Buffer {
        let (r, hidden) = (self.rank, self.place.hidden);
        let (size, n) = (r * r, h.len() / r);
        let d_out = self.out_backward(predicted, h, dv, d_divergence);
        let mut d_active = self.pool.take(n * hidden);
        let outer = self.weights(&self.place.outer, 2 * size, hidden);
        let d = Factor::Plain(View::new(&d_out, n, 2 * size));
        product(
            Target::over(&mut d_active, hidden),
            1.0,
            d,
            Factor::Plain(outer),
            Threads::All,
        );
        d_active
            .iter_mut()
            .zip(&*predicted.active)
            .filter(|(_, a)| **a <= 0.0)
            .for_each(|(d, _)| *d = 0.0);
        linear_backward(
            &d_out,
            &predicted.active,
            2 * size,
            gradient.at(&self.place.outer),
        );
        linear_backward(&d_active, h, hidden, gradient.at(&self.place.inner));
        let mut dh = self.pool.take(h.len());
        // dh = Eᵀ dv + W₁ᵀ da.
        for ((dh, dv), e) in dh
            .chunks_exact_mut(r)
            .zip(dv.chunks_exact(r))
            .zip(predicted.matrix.chunks_exact(size))
        {
            dh.fill(0.0);
            for (dv, line) in dv.iter().zip(e.chunks_exact(r)) {
                dh.iter_mut().zip(line).for_each(|(dh, e)| *dh += dv * e);
            }
        }
        let inner = self.weights(&self.place.inner, hidden, r);
        product(
            Target::onto(&mut dh, r),
            1.0,
            Factor::Plain(View::new(&d_active, n, hidden)),
            Factor::Plain(inner),
            Threads::All,
        );
        dh
    }

    /// The gradient of M and Q, `[n, 2 r²]`.
    fn out_backward(
        &self,
        predicted: &Predicted,
        h: &[f32],
        dv: &[f32],
        d_divergence: f32,
    ) -> Buffer {
        let (r, size) = (self.rank, self.rank * self.rank);
        let mut d_out = self.pool.take(predicted.out.len());
        let (precision, weight) = match self.place.draw.divergence {
            Some(wanted) => (wanted.prior_sd.powi(-2), wanted.weight * d_divergence),
            None => (0.0, 0.0),
        };
        for (row, d_out) in d_out.chunks_exact_mut(2 * size).enumerate() {
            let (h, dv) = (&h[row * r..][..r], &dv[row * r..][..r]);
            let (mean, raw) = predicted.out[row * 2 * size..][..2 * size].split_at(size);
            let noise = predicted
                .noise
                .as_ref()
                .map(|noise| &noise[row * size..][..size]);
            let (d_mean, d_raw) = d_out.split_at_mut(size);
            for at in 0..size {
                let de = dv[at / r] * h[at % r];
                // σ = γ² with γ = 1/(1 + e^−q): dσ/dq = 2 σ (1 − γ), and σ ∂KL/∂σ = σ²/p² − 1.
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

/// The address of a token's noise in a layer.
pub fn noise_path(layer: &str, key: u64) -> String {
    format!("{layer}.context.{key:016x}")
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
    let dy = Factor::Transposed(View::new(dy, n, rows));
    product(
        Target::onto(gradient, columns + 1),
        1.0,
        dy,
        Factor::Plain(View::new(x, n, columns)),
        Threads::All,
    );
}

//! Noise on A with different signs for each token (flipout, Wen et al., arXiv 1803.04386):
//!
//! ```text
//! h = A x + s ⊙ N (r ⊙ x),   s and r signs of the token
//! ```
//!
//! Each token has the noise s rᵀ ⊙ N on A. If N is normal with independent elements of mean 0, this
//! has the distribution of N, and the noise of two tokens is uncorrelated.

use std::sync::Arc;

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use rand_core::Rng;
use rayon::prelude::*;

use super::form::{
    BackwardRows, CpuBackward, CpuForward, CpuRows, CpuSide, PlainRows, PlainSide, SideForm,
};
use crate::kernel::{self, Buffer, Factor, Target, Threads, View, product, wide};
use crate::lora::HostMatrix;
use crate::random::{Purpose, stream};

/// The signs on the inputs and on the outputs of N.
const INPUTS: u64 = 0;
const OUTPUTS: u64 = 1;

/// Noise on A with the address of its signs.
#[derive(Module, Debug)]
pub struct Flipout {
    /// N, `[r, in]`.
    pub noise: Param<Tensor<2>>,
    /// The address of the signs.
    #[module(skip)]
    pub signs: Signs,
}

impl Flipout {
    /// Noise `[r, in]` on `device`.
    pub fn new(noise: HostMatrix, signs: Signs, device: &Device) -> Self {
        Self {
            noise: noise.parameter(device),
            signs,
        }
    }
}

/// Signs by address: those of a token depend on the layer and on the tokens up to it, not on the
/// rest of the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signs {
    /// The run's seed.
    pub seed: u64,
    /// The training step.
    pub step: u64,
    /// The draw within the step.
    pub draw: u64,
}

impl Signs {
    /// Multiplies `values` by the signs r (`part` 0) or s (`part` 1) of each row in the layer at
    /// `path`; `keys` are the prefix keys of the rows, see [`crate::data::Batch::prefix_keys`].
    pub fn apply(&self, path: &str, part: u64, keys: &[u64], values: &mut [f32]) {
        let width = values.len() / keys.len().max(1);
        let start = || {
            (
                stream(self.seed, Purpose::Flip, self.step, self.draw, path),
                vec![0u8; width.div_ceil(8)],
            )
        };
        values
            .par_chunks_exact_mut(width.max(1))
            .zip(keys)
            .for_each_init(start, |(numbers, bytes), (row, key)| {
                // A separate stream for each token, with the two parts far apart in it.
                numbers.set_stream(*key);
                numbers.set_word_pos(u128::from(part) << 32);
                numbers.fill_bytes(bytes);
                wide(
                    #[inline(always)]
                    || {
                        for (values, byte) in row.chunks_mut(8).zip(&*bytes) {
                            for (bit, value) in values.iter_mut().enumerate() {
                                *value = f32::from_bits(
                                    value.to_bits() ^ (u32::from(byte >> bit & 1) << 31),
                                );
                            }
                        }
                    },
                );
            });
    }
}

impl SideForm for Flipout {
    fn parameters(&self) -> Vec<(&'static str, &Param<Tensor<2>>)> {
        vec![("flip.noise", &self.noise)]
    }

    fn parameters_mut(&mut self) -> Vec<&mut Param<Tensor<2>>> {
        vec![&mut self.noise]
    }

    fn plain(&self, rows: &PlainRows<'_>, x: Tensor<2>, h: Tensor<2>) -> PlainSide {
        let [rank, inputs] = self.noise.val().dims();
        let flipped = x * self.signs.plain(rows, INPUTS, inputs);
        let noise = flipped.matmul(self.noise.val().transpose());
        PlainSide {
            low: h + noise * self.signs.plain(rows, OUTPUTS, rank),
            penalty: None,
        }
    }

    fn on_cpu(&self) -> Arc<dyn CpuSide> {
        Arc::new(self.signs)
    }
}

impl Signs {
    /// The signs of one side of N, `[rows, width]`.
    fn plain(&self, rows: &PlainRows<'_>, part: u64, width: usize) -> Tensor<2> {
        let mut values = vec![1.0; rows.keys.len() * width];
        self.apply(rows.path, part, rows.keys, &mut values);
        let shape = [rows.keys.len(), width];
        Tensor::from_data(TensorData::new(values, shape), rows.device)
    }

    /// `values` times the signs of one side of N, in a new buffer.
    fn times(&self, rows: &CpuRows<'_>, part: u64, values: &[f32]) -> Buffer {
        let mut turned = rows.pool.take(values.len());
        turned.copy_from_slice(values);
        self.apply(rows.path, part, rows.keys, &mut turned);
        turned
    }
}

impl CpuSide for Signs {
    fn reads_keys(&self) -> bool {
        true
    }

    fn forward(&self, rows: &CpuRows<'_>, x: &[f32], h: &mut Buffer) -> CpuForward {
        let inputs = rows.weights.len() / rows.rank;
        let flipped = self.times(rows, INPUTS, x);
        let mut change = rows.pool.take(h.len());
        product(
            Target::over(&mut change, rows.rank),
            1.0,
            Factor::Plain(View::new(&flipped, rows.count, inputs)),
            Factor::Transposed(View::new(rows.weights, rows.rank, inputs)),
            rows.threads,
        );
        self.apply(rows.path, OUTPUTS, rows.keys, &mut change);
        kernel::add(h, &change);
        CpuForward {
            low: None,
            penalty: 0.0,
        }
    }

    /// dN = (s ⊙ dh)ᵀ (r ⊙ x); dx is r ⊙ ((s ⊙ dh) N).
    fn backward(
        &self,
        rows: &CpuRows<'_>,
        given: BackwardRows<'_>,
        gradient: &mut [f32],
    ) -> CpuBackward {
        let inputs = rows.weights.len() / rows.rank;
        let turned = self.times(rows, OUTPUTS, &given.d_low);
        let turned = View::new(&turned, rows.count, rows.rank);
        let flipped = self.times(rows, INPUTS, given.x);
        product(
            Target::over(gradient, inputs),
            1.0,
            Factor::Transposed(turned),
            Factor::Plain(View::new(&flipped, rows.count, inputs)),
            Threads::All,
        );
        let mut d_x = rows.pool.take(given.x.len());
        product(
            Target::over(&mut d_x, inputs),
            1.0,
            Factor::Plain(turned),
            Factor::Plain(View::new(rows.weights, rows.rank, inputs)),
            Threads::All,
        );
        self.apply(rows.path, INPUTS, rows.keys, &mut d_x);
        CpuBackward {
            low: None,
            d_h: given.d_low,
            d_x: Some(d_x),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNS: Signs = Signs {
        seed: 1,
        step: 2,
        draw: 0,
    };

    fn signs(signs: Signs, part: u64, keys: &[u64], width: usize) -> Vec<f32> {
        let mut values = vec![1.0; keys.len() * width];
        signs.apply("layers.0.self_attn.q_proj", part, keys, &mut values);
        values
    }

    #[test]
    fn signs_are_fair_and_independent_of_one_another() {
        let keys: Vec<u64> = (0..200).collect();
        let (r, s) = (signs(SIGNS, 0, &keys, 30), signs(SIGNS, 1, &keys, 30));
        assert!(r.iter().all(|sign| sign.abs() == 1.0));
        // 6,000 fair signs: their sum has a standard deviation of 77; so do products with other
        // signs.
        let next: Vec<f32> = r.iter().skip(30).chain(&r[..30]).copied().collect();
        let other = signs(Signs { step: 3, ..SIGNS }, 0, &keys, 30);
        for factor in [vec![1.0; 6000], s, next, other] {
            let sum: f32 = r.iter().zip(&factor).map(|(a, b)| a * b).sum();
            assert!(sum.abs() < 350.0, "{sum}");
        }
    }

    #[test]
    fn a_token_has_its_signs_in_every_batch() {
        assert_eq!(
            signs(SIGNS, 0, &[7, 8, 9], 13)[26..],
            signs(SIGNS, 0, &[9], 13)
        );
    }
}

//! Noise on A whose signs differ from token to token (flipout, Wen et al., arXiv 1803.04386):
//!
//! ```text
//! h = A x + s ⊙ N (r ⊙ x),   s and r signs of the token
//! ```
//!
//! Each token has the noise s rᵀ ⊙ N on A. Where N is normal with independent entries about 0, that
//! has the distribution of N, and what two tokens have is uncorrelated.

use burn::module::{Module, Param};
use burn::tensor::Tensor;
use rand_core::Rng;
use rayon::prelude::*;

use super::parameters::parameter;
use super::{Adapter, HostMatrix, parameter_path};
use crate::kernel::wide;
use crate::random::{Purpose, stream};

/// Noise on A with the address of its signs.
#[derive(Module, Debug)]
pub struct Flip {
    /// N, `[r, in]`.
    pub noise: Param<Tensor<2>>,
    /// Names the signs.
    #[module(skip)]
    pub signs: Signs,
}

/// Signs by address: those of a token depend on the layer and on the tokens up to it, whatever else
/// is in the batch.
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
    /// `path`; `keys` say what each row has read, see [`crate::data::Batch::prefix_keys`].
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
                // A stream of its own for each token, and in it each part far from the other.
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

impl Adapter {
    /// With noise on every A whose path `noise` knows.
    pub fn with_flips(
        &self,
        signs: Signs,
        mut noise: impl FnMut(&str) -> Option<Vec<f32>>,
    ) -> Self {
        self.map_pairs(|layer, projection, pair| {
            let shape = pair.lora_A.lazy_shape().dims::<2>();
            let values = noise(&parameter_path(layer, projection, "lora_A"))
                .filter(|values| values.len() == shape[0] * shape[1]);
            let device = pair.lora_A.val().device();
            let flip = values.map(|values| Flip {
                noise: parameter(HostMatrix { shape, values }, &device),
                signs,
            });
            super::LoraPair {
                flip,
                ..pair.clone()
            }
        })
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
        // 6,000 fair signs: their sum has a standard deviation of 77; so have products with other
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

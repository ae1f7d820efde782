//! Dropout masks by address: example, token and layer determine the mask, whatever else is in the
//! batch.

use rand_core::Rng;
use rayon::prelude::*;

use crate::data::Batch;
use crate::kernel::wide;
use crate::random::{self, Purpose};

/// The address of the masks of one forward pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Probability that an input is set to zero, in (0, 1); the others are divided by 1 − rate.
    pub rate: f64,
    /// The run's seed.
    pub seed: u64,
    /// The training step, or 0.
    pub step: u64,
    /// The draw within the step, or the posterior sample.
    pub draw: u64,
}

/// The inputs of a linear layer that are kept: one bit each, `[tokens, width]`.
#[derive(Clone, Debug)]
pub struct Mask {
    words: Vec<u64>,
    width: usize,
    /// 1 / (1 − rate), by which kept inputs are multiplied.
    factor: f32,
}

impl Dropout {
    /// The mask on the inputs (`width` of them) of the layer at `path`, for all tokens of a batch.
    pub(crate) fn mask(&self, path: &str, batch: &Batch, width: usize) -> Mask {
        let row = width.div_ceil(64);
        let mut words = vec![0u64; batch.len() * row];
        let threshold = (self.rate * 65536.0).round() as u32;
        let mut rest = words.as_mut_slice();
        let mut parts = Vec::with_capacity(batch.segments.len());
        for segment in &batch.segments {
            let (part, after) = rest.split_at_mut(segment.len * row);
            parts.push((segment.key, part));
            rest = after;
        }
        parts.into_par_iter().for_each(|(key, words)| {
            let mut stream =
                random::stream(self.seed, Purpose::Dropout, self.step, self.draw, path);
            stream.set_stream(key);
            fill_bits(&mut stream, threshold, words);
        });
        Mask {
            words,
            width,
            factor: (1.0 / (1.0 - self.rate)) as f32,
        }
    }
}

/// Fills words with random bits that are 1 with probability 1 − threshold/2¹⁶.
fn fill_bits(stream: &mut impl Rng, threshold: u32, words: &mut [u64]) {
    let mut bytes = [0u8; 128];
    for word in words {
        stream.fill_bytes(&mut bytes);
        wide(
            #[inline(always)]
            || {
                let (mut bits, least) = (0, threshold);
                for (bit, pair) in bytes.as_chunks::<2>().0.iter().enumerate() {
                    bits |= u64::from(u32::from(u16::from_le_bytes(*pair)) >= least) << bit;
                }
                *word = bits;
            },
        );
    }
}

impl Mask {
    /// out ← x ⊙ mask / (1 − rate), or added to `out`; `tokens` are the indices in the batch of the
    /// token of each row, all in order if absent.
    pub fn apply(&self, x: &[f32], tokens: Option<&[usize]>, out: &mut [f32], add: bool) {
        let words = self.width.div_ceil(64);
        x.par_chunks(self.width)
            .zip(out.par_chunks_mut(self.width))
            .enumerate()
            .for_each(|(row, (x, out))| {
                let token = tokens.map_or(row, |tokens| tokens[row]);
                let mask = &self.words[token * words..(token + 1) * words];
                wide(
                    #[inline(always)]
                    || {
                        let (factor, add) = (self.factor, add);
                        let words = mask.iter().zip(x.chunks(64).zip(out.chunks_mut(64)));
                        for (word, (x, out)) in words {
                            for (half, (x, out)) in x.chunks(32).zip(out.chunks_mut(32)).enumerate()
                            {
                                let bits = (word >> (32 * half)) as u32;
                                for (bit, (x, out)) in x.iter().zip(out).enumerate() {
                                    // All bits or none: without a branch, so that it vectorises.
                                    let kept = 0u32.wrapping_sub(bits >> bit & 1);
                                    *out = f32::from_bits((x * factor).to_bits() & kept)
                                        + if add { *out } else { 0.0 };
                                }
                            }
                        }
                    },
                );
            });
    }

    /// The mask as numbers, 0 or 1 / (1 − rate), `[tokens, width]`.
    pub fn values(&self) -> Vec<f32> {
        let ones = vec![1.0; self.words.len() / self.width.div_ceil(64).max(1) * self.width];
        let mut out = vec![0.0; ones.len()];
        self.apply(&ones, None, &mut out, false);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DROPOUT: Dropout = Dropout {
        rate: 0.1,
        seed: 3,
        step: 5,
        draw: 0,
    };

    #[test]
    fn the_share_of_zeros_is_the_rate_and_the_mean_is_kept() {
        let mut batch = Batch::default();
        batch.push(&[0; 200], None, 7);
        let values = DROPOUT.mask("q", &batch, 100).values();
        let zeros = values.iter().filter(|&&value| value == 0.0).count();
        // 20,000 entries: 2,000 expected, standard deviation 42.
        assert!(zeros.abs_diff(2000) < 200, "{zeros}");
        assert!(
            values
                .iter()
                .all(|&value| value == 0.0 || (value - 1.0 / 0.9).abs() < 1e-6)
        );
    }

    #[test]
    fn an_example_has_the_same_mask_in_every_batch() {
        let (mut alone, mut among) = (Batch::default(), Batch::default());
        alone.push(&[1, 2, 3], None, 42);
        among.push(&[9; 5], None, 41);
        among.push(&[1, 2, 3], None, 42);
        let (alone, among) = (DROPOUT.mask("q", &alone, 70), DROPOUT.mask("q", &among, 70));
        assert_eq!(alone.values(), among.values()[5 * 70..]);
    }
}

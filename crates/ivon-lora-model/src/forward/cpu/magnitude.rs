//! Magnitudes on slices (DoRA, arXiv 2402.09353): each row of W + s · B A is scaled to a length m of
//! its own. As in PEFT, the lengths of the rows are constants in the backward pass (section 4.3 of
//! the paper), and dropout acts on the whole addition:
//!
//! ```text
//! g = m / ‖W + s B A‖      z = W drop(x) + s B A drop(x)
//! y = W x − W drop(x) + g ⊙ z
//! dm = Σ dy ⊙ z / ‖W + s B A‖
//! ```
//!
//! A row of zeros is divided by 1 (in PEFT the result is not a number): it stays zero at any m.

use rayon::prelude::*;

use crate::kernel::{Buffer, View};
use crate::model::FrozenMatrix;

/// What the forward pass of a pair with magnitudes keeps.
pub struct Magnitude {
    /// z, `[n, out]`.
    pub z: Buffer,
    /// ‖W + s B A‖, 1 for a row of zeros, `[out]`.
    lengths: Vec<f32>,
    /// g, `[out]`.
    factors: Vec<f32>,
}

impl Magnitude {
    /// From z without its low-rank part, the lengths of the rows, and m.
    pub fn new(z: Buffer, mut lengths: Vec<f32>, magnitudes: &[f32]) -> Self {
        let zero = lengths.iter_mut().filter(|length| **length == 0.0);
        zero.for_each(|length| *length = 1.0);
        let factors = magnitudes
            .iter()
            .zip(&lengths)
            .map(|(m, length)| m / length);
        Self {
            factors: factors.collect(),
            z,
            lengths,
        }
    }

    /// y += g ⊙ z.
    pub fn add_scaled(&self, y: &mut [f32]) {
        let width = self.factors.len();
        for (y, z) in y.chunks_exact_mut(width).zip(self.z.chunks_exact(width)) {
            for ((y, z), factor) in y.iter_mut().zip(z).zip(&self.factors) {
                *y += factor * z;
            }
        }
    }

    /// g ⊙ dy, `[n, out]`: the gradient of z.
    pub fn scaled(&self, dy: &[f32]) -> Vec<f32> {
        let factors = self.factors.iter().cycle();
        dy.iter()
            .zip(factors)
            .map(|(dy, factor)| dy * factor)
            .collect()
    }

    /// dm, `[out]`.
    pub fn gradient(&self, dy: &[f32], gradient: &mut [f32]) {
        gradient.fill(0.0);
        let width = self.lengths.len();
        for (dy, z) in dy.chunks_exact(width).zip(self.z.chunks_exact(width)) {
            for ((sum, dy), z) in gradient.iter_mut().zip(dy).zip(z) {
                *sum += dy * z;
            }
        }
        let each = gradient.iter_mut().zip(&self.lengths);
        each.for_each(|(sum, length)| *sum /= length);
    }
}

/// ‖W + s · B A‖ of each row, `[out]`.
pub fn row_lengths(weight: &FrozenMatrix, a: View<'_>, b: View<'_>, scaling: f32) -> Vec<f32> {
    let length = |row: usize| {
        let mut sum = vec![0.0; weight.columns()];
        weight.row(row, &mut sum);
        let factors = &b.values[row * b.columns..][..b.columns];
        for (factor, a) in factors.iter().zip(a.values.chunks_exact(a.columns.max(1))) {
            let factor = scaling * factor;
            sum.iter_mut()
                .zip(a)
                .for_each(|(sum, a)| *sum += factor * a);
        }
        sum.iter().map(|x| x * x).sum::<f32>().sqrt()
    };
    (0..weight.rows()).into_par_iter().map(length).collect()
}

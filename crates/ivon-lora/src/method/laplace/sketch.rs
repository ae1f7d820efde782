//! The leading eigenpairs of S = Σ x xᵀ over very many rows x, in one pass over the rows and without
//! ever holding S.
//!
//! With a fixed matrix Ω of normals `[n, l]` only Y = S Ω is kept, to which each block of rows X
//! adds Xᵀ (X Ω). At the end S is approximated by Y (Ωᵀ Y)⁻¹ Yᵀ (Nyström; Tropp et al., arXiv
//! 1706.05736), whose leading eigenpairs are taken: exact if the rank of S is at most l, and
//! otherwise off by at most a multiple of the eigenvalues beyond. How the rows are divided into
//! blocks makes no difference.

use std::sync::Arc;

use ivon::noise::{Address, Purpose};

use crate::kernel::{Factor, Target, Threads, View, eigenvectors, product};
use crate::lora::HostMatrix;
use crate::posterior::Eigenpairs;

/// Eigenvalues of Ωᵀ Y below this share of the largest are rounding errors of f32.
const NOISE: f64 = 1e-5;

/// Ω `[n, l]`, shared by all sketches of one width; the identity if l = n.
#[derive(Clone, Debug)]
pub struct TestMatrix {
    values: Arc<Vec<f32>>,
    width: usize,
    size: usize,
}

impl TestMatrix {
    /// For `kept` eigenpairs of matrices of this width: l = 3 · kept + 10.
    pub fn new(width: usize, kept: usize) -> Self {
        let size = (3 * kept + 10).min(width);
        let mut values = vec![0.0; width * size];
        if size == width {
            (0..width).for_each(|i| values[i * width + i] = 1.0);
        } else {
            // One address for all runs: the sketch is part of the method, not of its randomness.
            let address = Address {
                seed: 0,
                purpose: Purpose::Training,
                step: 0,
                draw: 0,
            };
            address.fill(&format!("laplace.sketch.{width}.{size}"), &mut values);
        }
        Self {
            values: Arc::new(values),
            width,
            size,
        }
    }
}

/// Y of a growing sum.
#[derive(Clone, Debug)]
pub struct Sketch {
    test: TestMatrix,
    /// Y, `[n, l]`.
    image: Vec<f32>,
}

impl Sketch {
    /// The sketch of an empty sum.
    pub fn new(test: TestMatrix) -> Self {
        Self {
            image: vec![0.0; test.width * test.size],
            test,
        }
    }

    /// Adds x xᵀ for rows `[rows, n]`.
    pub fn add(&mut self, rows: &[f32]) {
        let TestMatrix {
            values,
            width,
            size,
        } = &self.test;
        let count = rows.len() / (*width).max(1);
        let rows = View::new(rows, count, *width);
        let mut turned = vec![0.0; count * size];
        let test = Factor::Plain(View::new(values, *width, *size));
        product(
            Target::over(&mut turned, *size),
            1.0,
            Factor::Plain(rows),
            test,
            Threads::All,
        );
        let turned = Factor::Plain(View::new(&turned, count, *size));
        product(
            Target::onto(&mut self.image, *size),
            1.0,
            Factor::Transposed(rows),
            turned,
            Threads::All,
        );
    }

    /// The leading `kept` eigenpairs of factor · S, largest first; one pair of zeros if S is 0.
    pub fn leading(&self, kept: usize, factor: f64) -> Eigenpairs {
        let (half, rank) = self.half();
        let (squares, turns) = eigenvectors(transposed_product(&half, &half, rank), rank);
        let mut order: Vec<usize> = (0..rank).filter(|&i| squares[i] > 0.0).collect();
        order.sort_by(|&a, &b| squares[b].total_cmp(&squares[a]));
        order.truncate(kept);
        let width = self.test.width;
        if order.is_empty() {
            let values = vec![0.0; width];
            let shape = [1, width];
            return Eigenpairs {
                values: vec![0.0],
                vectors: HostMatrix { shape, values },
            };
        }
        let entry = |i: usize, row: &[f64]| {
            let terms = row.iter().enumerate();
            let product = terms.map(|(k, e)| e * turns[k * rank + i]).sum::<f64>();
            (product / squares[i].sqrt()) as f32
        };
        let direction = |&i: &usize| half.chunks_exact(rank).map(move |row| entry(i, row));
        Eigenpairs {
            values: order
                .iter()
                .map(|&i| (factor * squares[i]) as f32)
                .collect(),
            vectors: HostMatrix {
                shape: [order.len(), width],
                values: order.iter().flat_map(direction).collect(),
            },
        }
    }

    /// E = Y V b^(−½) `[n, k]` and k, with the eigenvectors V and eigenvalues b of Ωᵀ Y above
    /// [`NOISE`]: E Eᵀ is the approximation of S.
    fn half(&self) -> (Vec<f64>, usize) {
        let l = self.test.size;
        let image: Vec<f64> = self.image.iter().map(|value| f64::from(*value)).collect();
        let test = self.test.values.iter();
        let test: Vec<f64> = test.map(|value| f64::from(*value)).collect();
        // Ωᵀ Y, symmetric but for rounding.
        let core = transposed_product(&test, &image, l);
        let symmetric = |at: usize| 0.5 * (core[at] + core[at % l * l + at / l]);
        let (values, vectors) = eigenvectors((0..l * l).map(symmetric).collect(), l);
        let largest = values.iter().copied().fold(0.0, f64::max);
        let held: Vec<usize> = (0..l)
            .filter(|&i| largest > 0.0 && values[i] > NOISE * largest)
            .collect();
        let entry = |i: usize, row: &[f64]| {
            let terms = row.iter().enumerate();
            let product = terms.map(|(k, y)| y * vectors[k * l + i]).sum::<f64>();
            product / values[i].sqrt()
        };
        let rows = image.chunks_exact(l.max(1));
        let half = rows.flat_map(|row| held.iter().map(|&i| entry(i, row)).collect::<Vec<_>>());
        (half.collect(), held.len())
    }
}

/// Aᵀ B `[l, l]` of A and B `[n, l]`.
fn transposed_product(a: &[f64], b: &[f64], l: usize) -> Vec<f64> {
    let mut out = vec![0.0; l * l];
    for (a, b) in a.chunks_exact(l.max(1)).zip(b.chunks_exact(l.max(1))) {
        for (out, a) in out.chunks_exact_mut(l).zip(a) {
            out.iter_mut().zip(b).for_each(|(out, b)| *out += a * b);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::golden_normals;

    /// Rows of S = Σ over directions of `sizes` times e eᵀ, with e the columns of a rotation of the
    /// first coordinates.
    fn rows(width: usize, sizes: &[f64]) -> Vec<f32> {
        // Pairs of coordinates turned by 30°: orthonormal directions that are no coordinate's.
        let (cosine, sine) = (0.75f64.sqrt(), 0.5);
        let row = |(index, size): (usize, &f64)| {
            let mut row = vec![0.0f32; width];
            let (own, other) = (index / 2 * 2, index / 2 * 2 + 1);
            let [a, b] = if index % 2 == 0 {
                [cosine, sine]
            } else {
                [-sine, cosine]
            };
            (row[own], row[other]) = ((size.sqrt() * a) as f32, (size.sqrt() * b) as f32);
            row
        };
        sizes.iter().enumerate().flat_map(row).collect()
    }

    fn sketch(width: usize, kept: usize, rows: &[f32], block: usize) -> Sketch {
        let mut sketch = Sketch::new(TestMatrix::new(width, kept));
        rows.chunks(block * width).for_each(|rows| sketch.add(rows));
        sketch
    }

    #[test]
    fn a_sum_of_low_rank_is_read_off_exactly() {
        // Width 100, twelve directions, of which four are asked for: l is 22.
        let sizes: Vec<f64> = (0..12).map(|i| 1.5f64.powi(-i)).collect();
        let rows = rows(100, &sizes);
        for block in [1, 5, 12] {
            let found = sketch(100, 4, &rows, block).leading(4, 2.0);
            assert_eq!(found.vectors.shape, [4, 100]);
            for (k, vector) in found.vectors.values.chunks(100).enumerate() {
                assert!(
                    (f64::from(found.values[k]) / (2.0 * sizes[k]) - 1.0).abs() < 1e-4,
                    "{block} {k}: {}",
                    found.values[k]
                );
                let expected = &rows[k * 100..(k + 1) * 100];
                let inner: f64 = vector
                    .iter()
                    .zip(expected)
                    .map(|(a, b)| f64::from(a * b))
                    .sum();
                assert!(
                    (inner.abs() / sizes[k].sqrt() - 1.0).abs() < 1e-4,
                    "{block} {k}: {inner}"
                );
            }
        }
    }

    #[test]
    fn a_narrow_sum_is_that_of_its_definition_whatever_its_rank() {
        // l would be 22: all of the width of 8.
        let rows: Vec<f32> = golden_normals(3, 40 * 8)
            .iter()
            .map(|x| *x as f32)
            .collect();
        let found = sketch(8, 4, &rows, 7).leading(8, 1.0);
        for a in 0..8 {
            for b in 0..8 {
                let expected: f64 = rows
                    .chunks(8)
                    .map(|row| f64::from(row[a]) * f64::from(row[b]))
                    .sum();
                let term = |k: usize| {
                    f64::from(
                        found.values[k]
                            * found.vectors.values[k * 8 + a]
                            * found.vectors.values[k * 8 + b],
                    )
                };
                assert!(
                    ((0..8).map(term).sum::<f64>() - expected).abs() < 1e-3,
                    "{a} {b}"
                );
            }
        }
    }

    #[test]
    fn beyond_its_rank_a_sum_loses_little() {
        // Sixty directions whose eigenvalues fall as 1/k², four of them from a sketch of 22: what
        // lies beyond eleven, 0.087 in all, over the eleven columns to spare is 0.008, which is
        // about what an eigenvalue may lose. None gains.
        let sizes: Vec<f64> = (1..=60).map(|k| f64::from(k).powi(-2)).collect();
        let found = sketch(200, 4, &rows(200, &sizes), 16).leading(4, 1.0);
        for (found, size) in found.values.iter().zip(&sizes) {
            let lost = size - f64::from(*found);
            assert!((-1e-4..0.02).contains(&lost), "{found} {size}");
        }
        let nothing = sketch(200, 4, &vec![0.0; 400], 1).leading(4, 1.0);
        assert_eq!(
            (nothing.values, nothing.vectors.shape),
            (vec![0.0], [1, 200])
        );
    }
}

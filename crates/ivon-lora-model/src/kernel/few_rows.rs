//! Products of few rows of activations with frozen matrices, y = x Wᵀ: bound by memory, so that
//! each weight is read once for all rows, in the order in which it lies there, and is decoded or
//! multiplied where it arrives.
//!
//! A row of the result does not depend on the other rows, nor on the number of threads.

use std::cell::RefCell;
use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::integer;
use super::output::Output;
use super::product::Shared;
use super::simd::wide;
use crate::model::{Compute, Encoding, FrozenMatrix, PANEL, Values, decode_row};

/// The maximum number of rows of x for which a weight is read once.
const MOST: usize = 64;
/// The size of a task's weights, in bytes, about.
const TASK: usize = 1 << 17;
/// Sums of a task of f32: a cache line for each row of W and of x.
const SUMS: usize = 512;
/// Rows of W that are decoded and multiplied together.
const GROUP: usize = 4;
/// Panels that are added to a sum at once.
const PANELS: usize = 4;

/// The products of few rows x `[n, in]` with several matrices.
pub fn apply_to_few(x: &[f32], outputs: Vec<Output<'_>>) {
    let (integers, outputs): (Vec<_>, Vec<_>) = outputs
        .into_iter()
        .partition(|output| is_integer(output.matrix));
    integer::apply(x, integers);
    let outputs: Vec<_> = outputs
        .into_iter()
        .map(|Output { matrix, y, onto }| {
            let [columns, rows] = [matrix.columns(), matrix.rows()];
            assert!(
                x.len() * rows == y.len() * columns
                    && onto.is_none_or(|onto| onto.len() == y.len()),
                "{} numbers times {columns} × {rows} into {}",
                x.len(),
                y.len()
            );
            (matrix, Shared::new(y), onto)
        })
        .collect();
    let tasks = outputs.iter().flat_map(|output| {
        let (matrix, n) = (output.0, x.len() / output.0.columns().max(1));
        let (rows, step) = (matrix.rows(), task_rows(matrix, n));
        let starts = (0..rows).step_by(step);
        starts.map(move |start| (output, start..rows.min(start + step)))
    });
    let tasks = tasks.collect::<Vec<_>>().into_par_iter().with_max_len(1);
    tasks.for_each(|((matrix, y, onto), rows)| {
        let columns = matrix.columns();
        for (index, x) in x.chunks(MOST * columns).enumerate() {
            let first = index * MOST;
            let part = Part {
                matrix,
                rows: rows.clone(),
                x,
            };
            part.run(&mut |token, row, sum| {
                let place = (first + token) * matrix.rows() + row;
                let sum = onto.map_or(sum, |onto| onto[place] + sum);
                // SAFETY: each task writes its own columns of y.
                unsafe { *y.place(place).0 = sum };
            });
        }
    });
}

/// Whether a matrix is multiplied in integers: not if they would have to be made of its blocks for a
/// few rows, which takes longer than the product in f32.
fn is_integer(matrix: &FrozenMatrix) -> bool {
    let has_integers = match matrix.values() {
        Values::F32(_) => false,
        Values::Encoded { encoding, .. } => matches!(encoding, Encoding::Q8_0 | Encoding::Q4_0),
    };
    has_integers && matrix.compute() == Compute::Int8
}

/// The number of rows of W in a task: enough to be read at full speed, and few enough for their
/// sums to stay in the L1 cache; all threads have equally many tasks.
fn task_rows(matrix: &FrozenMatrix, n: usize) -> usize {
    let rows = matrix.rows().max(1);
    let most = match matrix.values() {
        Values::F32(_) => (SUMS / n.clamp(1, MOST)).max(8),
        Values::Encoded { .. } => (TASK * rows / matrix.bytes().max(1)).max(1),
    };
    let tasks = rows.div_ceil(most);
    let tasks = tasks.next_multiple_of(rayon::current_num_threads());
    rows.div_ceil(tasks).next_multiple_of(GROUP)
}

thread_local! {
    /// Sums, or decoded rows.
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Some rows of W and at most [`MOST`] rows of x.
struct Part<'a> {
    matrix: &'a FrozenMatrix,
    rows: Range<usize>,
    /// `[n, in]`.
    x: &'a [f32],
}

impl Part<'_> {
    /// Passes the sum of each row of x and of W to `put`.
    fn run(&self, put: &mut impl FnMut(usize, usize, f32)) {
        SCRATCH.with_borrow_mut(|scratch| match self.matrix.values() {
            Values::F32(values) => self.panels(values, scratch, put),
            Values::Encoded { encoding, bytes } => {
                let row = bytes.len() / self.matrix.rows();
                let bytes = &bytes[self.rows.start * row..self.rows.end * row];
                Arch::new().dispatch(EncodedRows {
                    encoding: *encoding,
                    bytes,
                    row,
                    columns: self.matrix.columns(),
                    x: self.x,
                    first: self.rows.start,
                    scratch,
                    put,
                });
            }
        });
    }

    /// The sums over panels `[⌈in / PANEL⌉, out, PANEL]`: in a panel, the task's rows are
    /// contiguous, and a sum has a lane for each of its columns.
    fn panels(
        &self,
        values: &[f32],
        scratch: &mut Vec<f32>,
        put: &mut impl FnMut(usize, usize, f32),
    ) {
        let (columns, all) = (self.matrix.columns(), self.matrix.rows());
        let (padded, count) = (columns.next_multiple_of(PANEL), self.rows.len());
        let n = self.x.len() / columns;
        // x, padded as the panels are, and after it the sums `[n, rows, PANEL]`.
        scratch.clear();
        scratch.resize(n * (padded + count * PANEL), 0.0);
        let (x, sums) = scratch.split_at_mut(n * padded);
        for (to, from) in x.chunks_exact_mut(padded).zip(self.x.chunks_exact(columns)) {
            to[..columns].copy_from_slice(from);
        }
        for first in (0..padded / PANEL).step_by(PANELS) {
            let panel = |index: usize| {
                let start = ((first + index) * all + self.rows.start) * PANEL;
                values[start..start + count * PANEL].as_chunks::<PANEL>().0
            };
            for (x, sums) in x
                .chunks_exact(padded)
                .zip(sums.chunks_exact_mut(count * PANEL))
            {
                let x = x[first * PANEL..].as_chunks::<PANEL>().0;
                let sums = sums.as_chunks_mut::<PANEL>().0;
                match padded / PANEL - first {
                    1 => add_panels(sums, [panel(0)], [x[0]]),
                    2 => add_panels(sums, [0, 1].map(panel), [x[0], x[1]]),
                    3 => add_panels(sums, [0, 1, 2].map(panel), [x[0], x[1], x[2]]),
                    _ => add_panels(sums, [0, 1, 2, 3].map(panel), [x[0], x[1], x[2], x[3]]),
                }
            }
        }
        for (index, sum) in sums.as_chunks::<PANEL>().0.iter().enumerate() {
            let row = self.rows.start + index % count;
            put(index / count, row, sum.iter().sum());
        }
    }
}

/// sum ← sum + Σ w ⊙ x over some panels, row by row.
fn add_panels<const N: usize>(
    sums: &mut [[f32; PANEL]],
    panels: [&[[f32; PANEL]]; N],
    x: [[f32; PANEL]; N],
) {
    let panels = panels.map(|panel| &panel[..sums.len()]);
    wide(
        #[inline(always)]
        || {
            for (row, sum) in sums.iter_mut().enumerate() {
                let mut total = *sum;
                for (panel, x) in panels.iter().zip(&x) {
                    let weights = &panel[row];
                    for lane in 0..PANEL {
                        total[lane] += weights[lane] * x[lane];
                    }
                }
                *sum = total;
            }
        },
    );
}

/// The sums over encoded rows, a group of them decoded at a time.
struct EncodedRows<'a, P> {
    encoding: Encoding,
    bytes: &'a [u8],
    /// The size of a row in bytes.
    row: usize,
    columns: usize,
    x: &'a [f32],
    /// The index of the first row.
    first: usize,
    scratch: &'a mut Vec<f32>,
    put: &'a mut P,
}

impl<P: FnMut(usize, usize, f32)> WithSimd for EncodedRows<'_, P> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let columns = self.columns;
        self.scratch.resize(GROUP * columns, 0.0);
        for (index, group) in self.bytes.chunks(GROUP * self.row).enumerate() {
            let first = self.first + index * GROUP;
            let count = group.len() / self.row;
            let decoded = &mut self.scratch[..count * columns];
            decode_row(self.encoding, group, decoded);
            let mut rows = decoded.chunks_exact(columns);
            if let (GROUP, [Some(a), Some(b), Some(c), Some(d)]) =
                (count, std::array::from_fn(|_| rows.next()))
            {
                products(simd, [a, b, c, d], self.x, |token, row, sum| {
                    (self.put)(token, first + row, sum);
                });
                continue;
            }
            for (row, weights) in decoded.chunks_exact(columns).enumerate() {
                products(simd, [weights], self.x, |token, _, sum| {
                    (self.put)(token, first + row, sum);
                });
            }
        }
    }
}

/// The sums of every row of x with some rows of weights.
#[inline(always)]
fn products<S: Simd, const R: usize>(
    simd: S,
    weights: [&[f32]; R],
    x: &[f32],
    mut put: impl FnMut(usize, usize, f32),
) {
    let columns = weights[0].len();
    let mut give = |first: usize, sums: &[[f32; R]]| {
        for (token, sums) in sums.iter().enumerate() {
            for (row, sum) in sums.iter().enumerate() {
                put(first + token, row, *sum);
            }
        }
    };
    let mut quads = x.chunks_exact(4 * columns);
    let mut token = 0;
    for quad in &mut quads {
        let x = std::array::from_fn(|index| &quad[index * columns..][..columns]);
        give(token, &tile::<S, R, 4>(simd, weights, x));
        token += 4;
    }
    for x in quads.remainder().chunks_exact(columns) {
        give(token, &tile::<S, R, 1>(simd, weights, [x]));
        token += 1;
    }
}

/// The sums of a few rows of x with a few rows of weights, which stay in registers.
#[inline(always)]
fn tile<S: Simd, const R: usize, const T: usize>(
    simd: S,
    weights: [&[f32]; R],
    x: [&[f32]; T],
) -> [[f32; R]; T] {
    let len = weights[0].len();
    let (weights, x) = (weights.map(|row| &row[..len]), x.map(|row| &row[..len]));
    let split = |row| S::as_simd_f32s(row);
    let (heads, x_heads) = (weights.map(|row| split(row).0), x.map(|row| split(row).0));
    let mut sums = [[simd.splat_f32s(0.0); R]; T];
    let vectors = heads[0].len();
    let (heads, x_heads) = (
        heads.map(|row| &row[..vectors]),
        x_heads.map(|row| &row[..vectors]),
    );
    for at in 0..vectors {
        let weights: [S::f32s; R] = std::array::from_fn(|row| heads[row][at]);
        for (x, sums) in x_heads.iter().zip(&mut sums) {
            let x = x[at];
            for (sum, weight) in sums.iter_mut().zip(weights) {
                *sum = simd.mul_add_e_f32s(x, weight, *sum);
            }
        }
    }
    let (tails, x_tails) = (weights.map(|row| split(row).1), x.map(|row| split(row).1));
    std::array::from_fn(|token| {
        std::array::from_fn(|row| {
            let pairs = x_tails[token].iter().zip(tails[row]);
            let tail: f32 = pairs.map(|(x, weight)| x * weight).sum();
            simd.reduce_sum_f32s(sums[token][row]) + tail
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::apply;
    use crate::model::{Change, StoredTensor};

    fn numbers(count: usize) -> Vec<f32> {
        (0..count)
            .map(|i| ((i * 7919 % 101) as f32 - 50.0) / 50.0)
            .collect()
    }

    /// Blocks of arbitrary bits whose scales, of two bytes, are near 0.01.
    fn encoded(encoding: Encoding, [rows, columns]: [usize; 2]) -> FrozenMatrix {
        let (values, length) = encoding.block();
        let scales: &[usize] = match encoding {
            Encoding::Q2K => &[80, 82],
            Encoding::Q3K => &[108],
            Encoding::Q4K | Encoding::Q5K | Encoding::Q4_1 | Encoding::Q5_1 => &[0, 2],
            Encoding::Q6K => &[208],
            _ => &[0],
        };
        let block = |index: usize| {
            let mut block: Vec<u8> = (0..length)
                .map(|byte| ((index * 31 + byte * 7919) % 251) as u8)
                .collect();
            let scale = 0.01 * (1.0 + (index % 17) as f32 / 17.0);
            let bits = match encoding {
                Encoding::BF16 => half::bf16::from_f32(scale).to_bits(),
                _ => half::f16::from_f32(scale).to_bits(),
            };
            match encoding {
                Encoding::MXFP4 => block[0] = 120 + (index % 5) as u8,
                _ => scales
                    .iter()
                    .for_each(|&at| block[at..at + 2].copy_from_slice(&bits.to_le_bytes())),
            }
            block
        };
        let bytes: Vec<u8> = (0..rows * columns / values).flat_map(block).collect();
        let shape = vec![rows, columns];
        let stored = StoredTensor::new("w".into(), shape, encoding, &bytes, Change::default());
        FrozenMatrix::kept(&stored.unwrap())
    }

    fn few(matrix: &FrozenMatrix, x: &[f32], onto: Option<&[f32]>) -> Vec<f32> {
        let mut y = vec![f32::NAN; x.len() / matrix.columns() * matrix.rows()];
        let y_mut = &mut y;
        apply_to_few(
            x,
            vec![Output {
                matrix,
                y: y_mut,
                onto,
            }],
        );
        y
    }

    /// y = onto + x Wᵀ by definition in f64.
    fn check(matrix: &FrozenMatrix, n: usize, what: &str) {
        let (inputs, outputs) = (matrix.columns(), matrix.rows());
        let weight = matrix.gather(&(0..outputs as u32).collect::<Vec<_>>());
        let (x, onto) = (numbers(n * inputs), numbers(n * outputs));
        let y = few(matrix, &x, Some(&onto));
        for (index, y) in y.iter().enumerate() {
            let (token, output) = (index / outputs, index % outputs);
            let x = &x[token * inputs..][..inputs];
            let weights = &weight[output * inputs..][..inputs];
            let products = x.iter().zip(weights);
            let products = products.map(|(x, w)| f64::from(*x) * f64::from(*w));
            let expected = f64::from(onto[index]) + products.clone().sum::<f64>();
            let size = products.map(f64::abs).sum::<f64>() + 1.0;
            let off = (f64::from(*y) - expected).abs();
            assert!(
                off < 1e-6 * size,
                "{what}: y[{token}, {output}] off by {off}"
            );
        }
    }

    #[test]
    fn few_rows_are_multiplied_as_the_definition_says_at_any_shape() {
        for (n, inputs, outputs) in [
            (1, 5, 3),
            (1, 48, 97),
            (3, 64, 70),
            (5, 650, 100),
            (16, 33, 31),
            (70, 80, 9),
        ] {
            let matrix = FrozenMatrix::new(outputs, inputs, numbers(inputs * outputs));
            check(&matrix, n, "f32");
        }
    }

    #[test]
    fn every_encoding_is_decoded_on_the_way() {
        for (encoding, name, _) in Encoding::ALL {
            for (n, inputs, outputs) in [(1, 256, 13), (7, 768, 66)] {
                if encoding != Encoding::F32 {
                    check(&encoded(encoding, [outputs, inputs]), n, name);
                }
            }
        }
    }

    #[test]
    fn a_row_depends_neither_on_the_others_nor_on_the_number_of_threads() {
        let matrices = [
            FrozenMatrix::new(90, 600, numbers(54_000)),
            encoded(Encoding::Q8_0, [90, 608]),
        ];
        for matrix in matrices {
            let x = numbers(9 * matrix.columns());
            let run = |threads: usize, rows: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
                let x = &x[..rows * matrix.columns()];
                pool.build().unwrap().install(|| few(&matrix, x, None))
            };
            let whole = run(1, 9);
            assert!(whole == run(3, 9));
            assert!(whole[..90] == run(1, 1) && whole[..5 * 90] == run(2, 5));
        }
    }

    #[test]
    fn several_matrices_at_once_are_as_the_product_of_many_rows_has_them() {
        let matrices = [3, 100].map(|rows| FrozenMatrix::new(rows, 64, numbers(rows * 64)));
        let x = numbers(2 * 64);
        let run = |product: fn(&[f32], Vec<Output<'_>>)| {
            let mut ys = matrices
                .each_ref()
                .map(|matrix| vec![0.0; 2 * matrix.rows()]);
            let outputs = matrices.iter().zip(&mut ys);
            let outputs = outputs.map(|(matrix, y)| Output {
                matrix,
                y,
                onto: None,
            });
            product(&x, outputs.collect());
            ys.concat()
        };
        let (few, many) = (run(apply_to_few), run(apply));
        let pairs = few.iter().zip(&many);
        assert!(
            pairs
                .into_iter()
                .all(|(few, many)| (few - many).abs() < 1e-5)
        );
    }
}

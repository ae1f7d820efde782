//! Rows of activations or of their gradients, rounded to 8-bit integers: each block of a row has a
//! scale of its own, and numbers that stand far out of their row are kept apart in f32 (as in
//! LLM.int8, arXiv 2208.07339), so that they do not coarsen their block.
//!
//! What becomes of a row depends on that row alone.

use std::cell::Cell;

use rayon::prelude::*;

use super::tile::{BLOCK, RowBlock, SHIFT};
use crate::kernel::simd::wide;

/// The largest integer.
const LARGEST: f32 = 127.0;
/// A number is an outlier if it is larger than so many times the mean size of its row. A block with a
/// number of that size has steps of a fifth of the mean size; larger ones would erase the others.
const OUTLIER: f32 = 24.0;
/// A block whose numbers are all smaller is zero: 127 / largest would not be finite.
const SMALLEST: f32 = 1e-36;
/// The maximum depth of a piece, about: two panels of it and a few rows of x fit the L1 cache.
const DEPTH: usize = 1024;
/// Rows of a task, at least.
const ROWS: usize = 8;

/// Rows `[n, depth]` in blocks of integers, padded with zeros, a piece of the depth after the other.
pub struct RoundedRows {
    /// The depth of a piece, but for the last.
    piece: usize,
    /// The blocks of one piece after the other, each `[n, blocks]`.
    blocks: Vec<RowBlock>,
    /// The blocks of a row.
    stride: usize,
    outliers: Vec<Vec<Outlier>>,
}

thread_local! {
    /// The blocks of the last rows, whose memory is used again.
    static BUFFER: Cell<Vec<RowBlock>> = const { Cell::new(Vec::new()) };
}

impl Drop for RoundedRows {
    fn drop(&mut self) {
        BUFFER.set(std::mem::take(&mut self.blocks));
    }
}

/// A number that is not rounded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outlier {
    /// Its column.
    pub column: usize,
    /// The number.
    pub value: f32,
}

impl RoundedRows {
    /// Rounds x `[n, depth]`.
    pub fn new(x: &[f32], depth: usize) -> Self {
        let n = x.len().checked_div(depth).unwrap_or(0);
        let piece = depth.div_ceil(depth.div_ceil(DEPTH).max(1)).max(1);
        let piece = piece.next_multiple_of(BLOCK);
        let stride = depth.div_ceil(BLOCK);
        let mut rounded = Self {
            piece,
            blocks: BUFFER.take(),
            stride,
            outliers: vec![Vec::new(); n],
        };
        rounded.blocks.resize(n * stride, RowBlock::default());
        let rows = x.par_chunks(depth.max(1)).with_min_len(ROWS);
        let most: Vec<f32> = rows.clone().map(|x| OUTLIER * mean_size(x)).collect();
        let starts = (0..depth).step_by(piece);
        let pieces = rounded.blocks.chunks_mut((n * piece / BLOCK).max(1));
        for (start, blocks) in starts.zip(pieces) {
            let of_row = start..depth.min(start + piece);
            let places = blocks.par_chunks_mut(of_row.len().div_ceil(BLOCK));
            let tasks = rows
                .clone()
                .zip(places)
                .zip(&mut rounded.outliers)
                .zip(&most);
            tasks.for_each(|(((x, blocks), outliers), most)| {
                round_part(&x[of_row.clone()], *most, start, blocks, outliers);
            });
        }
        rounded
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.outliers.len()
    }

    /// The depth of a piece, but for the last.
    pub fn piece(&self) -> usize {
        self.piece
    }

    /// The blocks of a row in the piece that begins at this depth.
    pub fn part(&self, row: usize, start: usize) -> &[RowBlock] {
        let first = start / BLOCK;
        let count = (self.piece / BLOCK).min(self.stride - first);
        &self.blocks[self.len() * first + row * count..][..count]
    }

    /// The outliers of a row, by column.
    pub fn outliers(&self, row: usize) -> &[Outlier] {
        &self.outliers[row]
    }
}

/// Rounds a part of a row to blocks and puts its numbers that are larger than `most` behind
/// `outliers`; the part begins at the column `start`.
fn round_part(
    x: &[f32],
    most: f32,
    start: usize,
    blocks: &mut [RowBlock],
    outliers: &mut Vec<Outlier>,
) {
    wide(
        #[inline(always)]
        || {
            let (whole, rest) = x.as_chunks::<BLOCK>();
            for (x, to) in whole.iter().zip(blocks.iter_mut()) {
                round_block(x, largest(x), to);
            }
            if let Some(to) = blocks.get_mut(whole.len()) {
                let mut x = [0.0; BLOCK];
                x[..rest.len()].copy_from_slice(rest);
                round_block(&x, largest(&x), to);
            }
        },
    );
    // A block with an outlier has a larger scale than others may have; rare, and done again.
    for (index, to) in blocks.iter_mut().enumerate() {
        if to.scale * LARGEST > most {
            let first = index * BLOCK;
            let x = &x[first..x.len().min(first + BLOCK)];
            let mut block = [0.0; BLOCK];
            block[..x.len()].copy_from_slice(x);
            take_outliers(&mut block, most, start + first, outliers);
            round_block(&block, largest(&block), to);
        }
    }
}

/// Moves the numbers of a block that are larger than `most` to `outliers`.
#[cold]
#[inline(never)]
fn take_outliers(block: &mut [f32; BLOCK], most: f32, first: usize, outliers: &mut Vec<Outlier>) {
    for (column, x) in (first..).zip(block) {
        if x.abs() > most {
            let value = std::mem::take(x);
            outliers.push(Outlier { column, value });
        }
    }
}

/// The mean of |x|, added up in as many lanes as a block has numbers; what is not finite makes it
/// so.
fn mean_size(x: &[f32]) -> f32 {
    let mut sums = [0.0; BLOCK];
    wide(
        #[inline(always)]
        || {
            let (blocks, rest) = x.as_chunks::<BLOCK>();
            for block in blocks {
                for (sum, x) in sums.iter_mut().zip(block) {
                    *sum += x.abs();
                }
            }
            for (sum, x) in sums.iter_mut().zip(rest) {
                *sum += x.abs();
            }
        },
    );
    sums.iter().sum::<f32>() / x.len().max(1) as f32
}

/// max |x|; not a number or infinite if one of them is.
#[inline(always)]
pub fn largest(block: &[f32; BLOCK]) -> f32 {
    let mut lanes = [0u32; BLOCK / 2];
    for half in block.as_chunks::<{ BLOCK / 2 }>().0 {
        for (lane, x) in lanes.iter_mut().zip(half) {
            *lane = (*lane).max(x.to_bits() & (u32::MAX >> 1));
        }
    }
    f32::from_bits(lanes.into_iter().fold(0, u32::max))
}

/// The scale of a block, max |x| / 127, and its inverse; zeros if the numbers are too small, and not
/// a number if one of them is not finite.
#[inline(always)]
pub fn scale_of(largest: f32) -> (f32, f32) {
    if !largest.is_finite() {
        (f32::NAN, 0.0)
    } else if largest < SMALLEST {
        (0.0, 0.0)
    } else {
        (largest / LARGEST, LARGEST / largest)
    }
}

/// x to the nearest integer, halves to the even one, for |x| ≤ 127: with 1.5 · 2²³ added, the last
/// bits of the number are those of the integer.
#[inline(always)]
pub fn to_integer(x: f32) -> i8 {
    ((x + 12_582_912.0).to_bits() as u8).cast_signed()
}

#[inline(always)]
fn round_block(x: &[f32; BLOCK], largest: f32, to: &mut RowBlock) {
    let (scale, inverse) = scale_of(largest);
    let integers = to.integers.as_flattened_mut();
    let mut sum = 0;
    for (integer, x) in integers.iter_mut().zip(x) {
        *integer = to_integer(x * inverse);
        sum += i32::from(*integer);
    }
    to.scale = scale;
    to.offset = -SHIFT * sum;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(rows: &RoundedRows, row: usize) -> Vec<RowBlock> {
        let starts = (0..rows.stride * BLOCK).step_by(rows.piece);
        starts
            .flat_map(|start| rows.part(row, start).to_vec())
            .collect()
    }

    fn back(rows: &RoundedRows, row: usize, depth: usize) -> Vec<f32> {
        let values = blocks(rows, row).into_iter().flat_map(|block| {
            let integers = block.integers.as_flattened().iter();
            let values = integers.map(|&q| f32::from(q) * block.scale);
            values.collect::<Vec<f32>>()
        });
        let mut values: Vec<f32> = values.collect();
        assert!(values[depth..].iter().all(|&x| x == 0.0));
        values.truncate(depth);
        for outlier in rows.outliers(row) {
            assert_eq!(values[outlier.column], 0.0);
            values[outlier.column] = outlier.value;
        }
        values
    }

    fn numbers(count: usize) -> Vec<f32> {
        (0..count)
            .map(|i| ((i * 7919 % 101) as f32 - 50.0) / 50.0)
            .collect()
    }

    #[test]
    fn each_number_is_within_half_a_step_of_its_block() {
        for depth in [1, 31, 32, 100, 576, 1700] {
            let x = numbers(9 * depth);
            let rows = RoundedRows::new(&x, depth);
            assert_eq!(rows.len(), 9);
            for (row, x) in x.chunks(depth).enumerate() {
                let back = back(&rows, row, depth);
                for (x, back) in x.chunks(BLOCK).zip(back.chunks(BLOCK)) {
                    let most = x.iter().fold(0f32, |most, x| most.max(x.abs()));
                    for (x, back) in x.iter().zip(back) {
                        assert!((x - back).abs() <= most / 127.0 * 0.5001, "{x}: {back}");
                    }
                }
                for block in blocks(&rows, row) {
                    let sum: i32 = block
                        .integers
                        .as_flattened()
                        .iter()
                        .map(|&q| q as i32)
                        .sum();
                    assert_eq!(block.offset, -128 * sum);
                }
            }
        }
    }

    #[test]
    fn outliers_are_kept_as_they_are_and_do_not_coarsen_their_block() {
        let mut x = numbers(3 * 200);
        (x[207], x[230]) = (900.0, -70.0);
        let rows = RoundedRows::new(&x, 200);
        let expected = [(7, 900.0), (30, -70.0)];
        let expected = expected.map(|(column, value)| Outlier { column, value });
        // The mean size of the row is about 5.
        assert_eq!(rows.outliers(1), &expected[..1]);
        x[207] = 300.0;
        let rows = RoundedRows::new(&x, 200);
        assert_eq!(
            rows.outliers(1),
            expected.map(|o| match o.column {
                7 => Outlier { value: 300.0, ..o },
                _ => o,
            })
        );
        assert!(rows.outliers(0).is_empty() && rows.outliers(2).is_empty());
        for (x, back) in x[200..400].iter().zip(back(&rows, 1, 200)) {
            assert!((x - back).abs() <= 0.5001 / 127.0, "{x}: {back}");
        }
    }

    #[test]
    fn what_is_not_finite_stays_so_and_tiny_numbers_are_zero() {
        for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = numbers(64);
            x[40] = wrong;
            let rows = RoundedRows::new(&x, 64);
            assert!(rows.outliers(0).is_empty());
            let scales = [0, 1].map(|block| blocks(&rows, 0)[block].scale);
            assert!(scales[0].is_finite() && scales[1].is_nan());
        }
        let rows = RoundedRows::new(&[1e-37; 32], 32);
        assert_eq!(blocks(&rows, 0), [RowBlock::default()]);
        let rows = RoundedRows::new(&[1e-20; 32], 32);
        assert_eq!(blocks(&rows, 0)[0].integers, [[127; 4]; 8]);
    }

    #[test]
    fn halves_go_to_the_even_integer() {
        let found = [0.5, 1.5, 2.5, -0.5, -1.5, 127.0, -127.0, 3.49].map(to_integer);
        assert_eq!(found, [0, 2, 2, 0, -2, 127, -127, 3]);
    }

    #[test]
    fn a_row_does_not_depend_on_the_others() {
        let mut x = numbers(20 * 70);
        x[5 * 70 + 3] = 1e4;
        let all = RoundedRows::new(&x, 70);
        for (row, x) in x.chunks(70).enumerate() {
            let one = RoundedRows::new(x, 70);
            assert_eq!(blocks(&one, 0), blocks(&all, row));
            assert_eq!(one.outliers(0), all.outliers(row));
        }
    }
}

//! Products of activations with frozen matrices in 8-bit integers: y = x Wᵀ forward, dx = dy W
//! backward.
//!
//! ```text
//! for each block of the result's columns (a task):
//!     panels ← W in blocks of integers, forward of all depth, backward of a piece   (L2 cache)
//!     for each piece of depth:
//!         for each panel, for each few rows:  tile ← tile + x · panel               (registers)
//!         for each number of x that was too large for its block:  its product in f32
//! ```
//! An element of the result is the sum over blocks of 32 of the depth, in their order, of an exact
//! sum of integers times two scales. So it depends neither on the other rows nor on threads, nor on
//! the instructions.

mod tile;
mod rows;
mod panels;

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use self::panels::Scratch;
use self::rows::{Outlier, RoundedRows};
use self::tile::{BLOCK, Instructions, PanelBlock, SHIFT, Sums};
use super::output::{Direction, Onto, Output, column_blocks, sum_of_products};
use super::product::Shared;
use super::simd::wide;
use crate::model::{FrozenMatrix, PANEL};

/// The number of columns of a task, about, forward and backward. Backward they are contiguous in
/// the rows of W: the more, the longer are the reads.
const COLUMNS: [usize; 2] = [96, 256];
/// The maximum number of integers in the panels of a task, about: a quarter of the L2 cache.
const PANELS: usize = 1 << 18;
/// The number of rows for which a task's columns are completed before the next ones: their results
/// stay in the cache between pieces of depth.
const ROWS: usize = 512;

/// The products of x `[n, in]` with several matrices.
pub fn apply(x: &[f32], outputs: Vec<Output<'_>>) {
    let Some(depth) = outputs.first().map(|output| output.matrix.columns()) else {
        return;
    };
    let x = &RoundedRows::new(x, depth);
    let outputs = outputs.into_iter().map(|Output { matrix, y, onto }| {
        assert!(
            onto.is_none_or(|onto| onto.len() == y.len()) && matrix.columns() == depth,
            "what is added to has the shape of the result, and matrices as many columns"
        );
        let factor = Factor::new(Direction::Forward, x, matrix, 0..matrix.rows());
        factor.check(y.len());
        (
            factor,
            Shared::new(y),
            onto.map_or(Onto::Nothing, Onto::Other),
        )
    });
    let outputs: Vec<_> = outputs.collect();
    let tasks = outputs.iter().flat_map(|output| {
        let blocks = output.0.blocks();
        blocks.into_iter().map(move |block| (output, block))
    });
    let tasks = tasks.collect::<Vec<_>>().into_par_iter().with_max_len(1);
    tasks.for_each(|((factor, y, onto), block)| factor.multiply(block, *y, *onto));
}

/// y `[n, rows]` ← x `[n, in]` · Wᵀ for some rows of W `[out, in]`.
pub fn apply_rows(x: &[f32], matrix: &FrozenMatrix, rows: Range<usize>, y: &mut [f32]) {
    let x = RoundedRows::new(x, matrix.columns());
    Factor::new(Direction::Forward, &x, matrix, rows).multiply_all(y, false);
}

/// dx `[n, in]` ← dx + dy `[n, rows]` · W for some rows of W `[out, in]`.
pub fn add_rows_transposed(dy: &[f32], matrix: &FrozenMatrix, rows: Range<usize>, dx: &mut [f32]) {
    let dy = RoundedRows::new(dy, rows.len());
    Factor::new(Direction::Backward, &dy, matrix, rows).multiply_all(dx, true);
}

/// dx `[n, in]` ← (dx +) Σ dy `[n, out]` · W over several matrices W `[out, in]`.
pub fn apply_transposed(inputs: &[(&FrozenMatrix, &[f32])], dx: &mut [f32], add: bool) {
    let rounded = inputs.iter();
    let rounded = rounded.map(|(matrix, dy)| RoundedRows::new(dy, matrix.rows()));
    let rounded: Vec<RoundedRows> = rounded.collect();
    let factors = inputs.iter().zip(&rounded);
    let factors = factors
        .map(|((matrix, _), dy)| Factor::new(Direction::Backward, dy, matrix, 0..matrix.rows()));
    let mut factors: Vec<_> = factors.collect();
    // Each column belongs to one task, so that blocks are as wide for all matrices.
    let columns = factors.iter().map(|factor| factor.columns).max();
    for factor in &mut factors {
        factor.columns = columns.unwrap_or_default();
        factor.check(dx.len());
    }
    let Some(first) = factors.first() else {
        return;
    };
    let blocks = first.blocks();
    sum_of_products(&factors, blocks, dx, add, Factor::multiply);
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch::default());
}

/// Rows of a frozen matrix and the rounded rows that are multiplied with them.
struct Factor<'a> {
    matrix: &'a FrozenMatrix,
    rows: Range<usize>,
    direction: Direction,
    /// `[n, depth]`.
    x: &'a RoundedRows,
    /// The columns of a task.
    columns: usize,
    instructions: Instructions,
}

impl<'a> Factor<'a> {
    /// These rows of W `[out, in]`, to be multiplied with x: `[n, in]` forward, `[n, rows]`
    /// backward.
    fn new(
        direction: Direction,
        x: &'a RoundedRows,
        matrix: &'a FrozenMatrix,
        rows: Range<usize>,
    ) -> Self {
        let [depth, columns] = direction.shape(matrix, &rows);
        let unit = matrix.unit().max(BLOCK);
        let (most, wide) = match direction {
            Direction::Forward => (PANELS / depth.max(1), 2 * PANEL),
            Direction::Backward => (PANELS / x.piece(), unit),
        };
        let tasks = columns
            .div_ceil(COLUMNS[direction as usize].min(most).max(wide))
            .next_multiple_of(rayon::current_num_threads())
            .max(1);
        let even = columns.div_ceil(tasks).max(1);
        Self {
            matrix,
            rows,
            direction,
            x,
            columns: even.next_multiple_of(wide),
            instructions: Instructions::best(),
        }
    }

    /// The depth of the product, and the columns of its result.
    fn shape(&self) -> [usize; 2] {
        self.direction.shape(self.matrix, &self.rows)
    }

    /// The columns of each task.
    fn blocks(&self) -> Vec<Range<usize>> {
        let [_, columns] = self.shape();
        column_blocks(columns, self.columns)
    }

    /// Asserts that the result has so many numbers.
    fn check(&self, numbers: usize) {
        let [depth, columns] = self.shape();
        assert!(
            self.x.len() * columns == numbers && self.rows.end <= self.matrix.rows(),
            "{} rows times {depth} × {columns} into {numbers}",
            self.x.len()
        );
    }

    /// Writes the whole product to `out`, onto what is there if `add`.
    fn multiply_all(&self, out: &mut [f32], add: bool) {
        self.check(out.len());
        let product = std::slice::from_ref(self);
        sum_of_products(product, self.blocks(), out, add, Self::multiply);
    }

    /// Writes the columns `block` of the product, added to `onto`, to `out`.
    ///
    /// Forward, W is packed in all its depth, which is how it lies in memory.
    fn multiply(&self, block: Range<usize>, out: Shared<'_>, onto: Onto<'_>) {
        let [depth, _] = self.shape();
        let packed = match self.direction {
            Direction::Forward => depth,
            Direction::Backward => self.x.piece(),
        };
        SCRATCH.with_borrow_mut(|scratch| {
            for start in (0..depth).step_by(packed.max(1)) {
                let packed = start..depth.min(start + packed);
                self.pack(&block, &packed, scratch);
                let step = Step {
                    factor: self,
                    block: &block,
                    packed,
                    panels: &scratch.panels,
                    out,
                };
                for first in (0..self.x.len()).step_by(ROWS) {
                    step.run(first..self.x.len().min(first + ROWS), onto);
                }
            }
        });
    }

    /// Packs the panels of some columns for some depth.
    fn pack(&self, block: &Range<usize>, depth: &Range<usize>, scratch: &mut Scratch) {
        let shift = |part: &Range<usize>| part.start + self.rows.start..part.end + self.rows.start;
        match self.direction {
            Direction::Forward => scratch.pack_turned(self.matrix, shift(block), depth.clone()),
            Direction::Backward => scratch.pack(self.matrix, shift(depth), block.clone()),
        }
    }
}

/// The product over a part of the depth for the columns of a task.
struct Step<'a> {
    factor: &'a Factor<'a>,
    block: &'a Range<usize>,
    /// The depth of the panels.
    packed: Range<usize>,
    panels: &'a [PanelBlock],
    out: Shared<'a>,
}

impl Step<'_> {
    /// Adds the product of some rows, piece by piece.
    fn run(&self, rows: Range<usize>, onto: Onto<'_>) {
        for start in self.packed.clone().step_by(self.factor.x.piece()) {
            let piece = start..self.packed.end.min(start + self.factor.x.piece());
            let onto = if start > 0 { Onto::Result } else { onto };
            self.tiles(rows.clone(), &piece, onto);
            for row in rows.clone() {
                for outlier in self.factor.x.outliers(row) {
                    if piece.contains(&outlier.column) {
                        self.add_outlier(row, outlier);
                    }
                }
            }
        }
    }

    fn tiles(&self, rows: Range<usize>, piece: &Range<usize>, onto: Onto<'_>) {
        let count = self.block.len().div_ceil(PANEL);
        let [height, width] = self.factor.instructions.tile();
        for panel in (0..count).step_by(width) {
            for row in rows.clone().step_by(height) {
                let height = height.min(rows.end - row);
                let place = Place {
                    row,
                    panel,
                    piece,
                    onto,
                };
                match width.min(count - panel) {
                    2 => self.tile_of::<2>(height, place),
                    _ => self.tile_of::<1>(height, place),
                }
            }
        }
    }

    fn tile_of<const V: usize>(&self, height: usize, place: Place<'_>) {
        match height {
            1 => self.tile::<1, V>(place),
            2 => self.tile::<2, V>(place),
            3 => self.tile::<3, V>(place),
            4 => self.tile::<4, V>(place),
            5 => self.tile::<5, V>(place),
            _ => self.tile::<6, V>(place),
        }
    }

    /// A tile of T rows and V panels. What is added to is where the sum begins.
    fn tile<const T: usize, const V: usize>(&self, place: Place<'_>) {
        let Place {
            row,
            panel,
            piece,
            onto,
        } = place;
        let (blocks, stride) = (
            piece.len().div_ceil(BLOCK),
            self.packed.len().div_ceil(BLOCK),
        );
        let skipped = (piece.start - self.packed.start) / BLOCK;
        let x = std::array::from_fn(|t| self.factor.x.part(row + t, piece.start));
        let panels =
            std::array::from_fn(|v| &self.panels[(panel + v) * stride + skipped..][..blocks]);
        let first = panel * PANEL;
        let count = (V * PANEL).min(self.block.len() - first);
        let mut sums: Sums<T, V> = [[[0.0; PANEL]; V]; T];
        for (t, sums) in sums.iter_mut().enumerate() {
            let sums = sums.as_flattened_mut();
            match onto {
                Onto::Nothing => {}
                Onto::Result => copy::<V>(self.place(row + t, first, count), sums),
                Onto::Other(values) => {
                    let start = self.start(row + t, first);
                    copy::<V>(&values[start..start + count], sums);
                }
            }
        }
        self.factor.instructions.add(x, panels, &mut sums);
        for (t, sums) in sums.iter().enumerate() {
            let place = self.place(row + t, first, count);
            copy::<V>(sums.as_flattened(), place);
        }
    }

    /// Adds the product of a number that was not rounded with the integers of W.
    fn add_outlier(&self, row: usize, outlier: &Outlier) {
        let at = outlier.column - self.packed.start;
        let (block, group, k) = (at / BLOCK, at % BLOCK / 4, at % 4);
        let out = self.place(row, 0, self.block.len());
        let panels = self.panels.chunks_exact(self.packed.len().div_ceil(BLOCK));
        wide(
            #[inline(always)]
            || {
                for (out, panel) in out.chunks_mut(PANEL).zip(panels.clone()) {
                    let w = &panel[block];
                    let lanes = w.integers[group].iter().zip(&w.scales);
                    for (out, (integers, scale)) in out.iter_mut().zip(lanes) {
                        let integer = i32::from(integers[k]) - SHIFT;
                        *out = (integer as f32 * scale).mul_add(outlier.value, *out);
                    }
                }
            },
        );
    }

    /// Where a row's numbers of the task begin from its column `first` on.
    fn start(&self, row: usize, first: usize) -> usize {
        let [_, columns] = self.factor.shape();
        row * columns + self.block.start + first
    }

    /// `count` numbers of a row of the result from the task's column `first` on.
    #[expect(
        clippy::mut_from_ref,
        reason = "shared by tasks with columns of their own"
    )]
    fn place(&self, row: usize, first: usize, count: usize) -> &mut [f32] {
        assert!(first + count <= self.block.len(), "columns of the task");
        let start = self.start(row, first);
        // SAFETY: each task has its own columns, and borrows one part at a time.
        unsafe { self.out.part(start..start + count) }
    }
}

/// Where a tile is: its first row and panel, its piece of depth, and what it is added to.
#[derive(Clone, Copy)]
struct Place<'a> {
    row: usize,
    panel: usize,
    piece: &'a Range<usize>,
    onto: Onto<'a>,
}

/// Copies as many numbers as both have; those of V whole panels without asking how many they are.
#[inline(always)]
fn copy<const V: usize>(from: &[f32], to: &mut [f32]) {
    let count = from.len().min(to.len());
    if count == V * PANEL {
        let from = from.as_chunks::<PANEL>().0.iter();
        for (to, from) in to.as_chunks_mut::<PANEL>().0.iter_mut().zip(from) {
            *to = *from;
        }
    } else {
        to[..count].copy_from_slice(&from[..count]);
    }
}

#[cfg(test)]
mod tests;

//! Products of activations with frozen matrices: y = x Wᵀ forward, dx = dy W backward, several at
//! once where they share an operand.
//!
//! ```text
//! for each block of the result's columns (a task):
//!     for each piece of depth:
//!         panels ← the piece of W: backward as stored; forward transposed, in the L2 cache
//!         for each panel, for each few tokens:  tile ← tile + x · panel             (registers)
//! ```
//! A matrix of f32 is stored in packed panels. The backward product reads them directly,
//! sequentially in memory; the forward product transposes them, which costs a pass over a piece,
//! but only one for all tokens. Encoded matrices are decoded into panels in both directions. So
//! each matrix is stored once.

use std::cell::RefCell;
use std::ops::Range;

use pulp::Arch;
use rayon::prelude::*;

use super::integer;
use super::output::{Direction, Onto, Output, column_blocks, sum_of_products};
use super::panels::{turn_panels, widen, widen_turned};
use super::product::Shared;
use super::tile::{Step, block_unit};
use crate::model::{Compute, FrozenMatrix, PANEL, Values};

/// The maximum number of columns of a block, unless the encoding needs more. Forward they are rows
/// of W: the more are transposed at once, the longer are the contiguous reads; backward they only
/// divide the work.
const COLUMNS: [usize; 2] = [96, 48];
/// The maximum depth of a piece: a panel of it fits the L1 cache, the panels of a block half of the
/// L2 cache.
const DEPTH: usize = 576;
/// The maximum number of values in the panels of a block.
const PANELS: usize = 96 * DEPTH;
/// The number of tokens for which a block is completed before the next ones: their results stay in
/// the cache between pieces of depth.
const TOKENS: usize = 512;

/// The products of x `[n, in]` with several matrices.
pub fn apply(x: &[f32], outputs: Vec<Output<'_>>) {
    let (integers, outputs): (Vec<_>, Vec<_>) = outputs
        .into_iter()
        .partition(|output| is_integer(output.matrix));
    integer::apply(x, integers);
    let outputs = outputs.into_iter();
    let outputs: Vec<_> = outputs.map(|output| forward_product(x, output)).collect();
    let tasks = outputs.iter().flat_map(|output| {
        let factor = &output.0;
        let blocks = column_blocks(factor.matrix.rows(), factor.cut.columns);
        blocks.into_iter().map(move |block| (output, block))
    });
    tasks
        .collect::<Vec<_>>()
        .into_par_iter()
        .with_max_len(1)
        .for_each(|((factor, y, onto), block)| factor.multiply(block, *y, *onto));
}

/// Whether the products with a matrix are computed in 8-bit integers.
fn is_integer(matrix: &FrozenMatrix) -> bool {
    matrix.compute() == Compute::Int8
}

/// The factor, the result and what is added to it, with their sizes checked.
fn forward_product<'a>(
    x: &'a [f32],
    Output { matrix, y, onto }: Output<'a>,
) -> (FrozenFactor<'a>, Shared<'a>, Onto<'a>) {
    assert!(
        onto.is_none_or(|onto| onto.len() == y.len()),
        "what is added to has the shape of the result"
    );
    let factor = FrozenFactor::new(Direction::Forward, x, matrix, 0..matrix.rows());
    factor.check(y.len());
    let onto = onto.map_or(Onto::Nothing, Onto::Other);
    (factor, Shared::new(y), onto)
}

/// y `[n, rows]` ← x `[n, in]` · Wᵀ for some rows of W `[out, in]`.
pub(super) fn apply_rows(x: &[f32], matrix: &FrozenMatrix, rows: Range<usize>, y: &mut [f32]) {
    if is_integer(matrix) {
        return integer::apply_rows(x, matrix, rows, y);
    }
    FrozenFactor::new(Direction::Forward, x, matrix, rows).multiply_all(y, false);
}

/// dx `[n, in]` ← dx + dy `[n, rows]` · W for some rows of W `[out, in]`.
pub(super) fn add_rows_transposed(
    dy: &[f32],
    matrix: &FrozenMatrix,
    rows: Range<usize>,
    dx: &mut [f32],
) {
    if is_integer(matrix) {
        return integer::add_rows_transposed(dy, matrix, rows, dx);
    }
    FrozenFactor::new(Direction::Backward, dy, matrix, rows).multiply_all(dx, true);
}

/// dx `[n, in]` ← (dx +) Σ dy `[n, out]` · W over several matrices W `[out, in]`.
pub fn apply_transposed(inputs: &[(&FrozenMatrix, &[f32])], dx: &mut [f32], add: bool) {
    let (integers, inputs): (Vec<_>, Vec<_>) = inputs
        .iter()
        .copied()
        .partition(|(matrix, _)| is_integer(matrix));
    integer::apply_transposed(&integers, dx, add);
    let (inputs, add) = (&inputs[..], add || !integers.is_empty());
    let Some(columns) = inputs.first().map(|(matrix, _)| matrix.columns()) else {
        return;
    };
    let factors = backward_factors(inputs);
    for factor in &factors {
        factor.check(dx.len());
        assert!(
            factor.matrix.columns() == columns,
            "matrices with as many columns"
        );
    }
    let blocks = column_blocks(columns, factors[0].cut.columns);
    sum_of_products(&factors, blocks, dx, add, FrozenFactor::multiply);
}

/// The factors of a backward product, with the same columns in a block for all of them, so that
/// each column belongs to one task: those of the widest block, because encodings have different
/// units.
fn backward_factors<'a>(inputs: &[(&'a FrozenMatrix, &'a [f32])]) -> Vec<FrozenFactor<'a>> {
    let factors = inputs
        .iter()
        .map(|&(matrix, dy)| FrozenFactor::new(Direction::Backward, dy, matrix, 0..matrix.rows()));
    let mut factors: Vec<_> = factors.collect();
    let columns = factors.iter().map(|factor| factor.cut.columns).max();
    let columns = columns.unwrap_or_default();
    for factor in &mut factors {
        factor.cut = factor.cut.with_columns(columns);
    }
    factors
}

/// The blocking of a product: columns of a block, depth of a piece.
#[derive(Clone, Copy)]
struct Cut {
    columns: usize,
    depth: usize,
}

impl Cut {
    /// Whole encoded blocks along the rows of W, and at least a task for each thread if there is
    /// enough work.
    fn new(matrix: &FrozenMatrix, direction: Direction, [depth, columns]: [usize; 2]) -> Self {
        let (unit, width) = (matrix.unit(), block_unit());
        let tasks = columns
            .div_ceil(COLUMNS[direction as usize])
            .next_multiple_of(rayon::current_num_threads())
            .max(1);
        let piece = depth.div_ceil(depth.div_ceil(DEPTH).max(1));
        let even = columns.div_ceil(tasks).max(1);
        match direction {
            Direction::Forward => Self {
                columns: even.next_multiple_of(width),
                depth: piece.next_multiple_of(unit.max(PANEL)),
            },
            Direction::Backward => Self {
                columns: 0,
                depth: piece,
            }
            .with_columns(even.next_multiple_of(width.max(unit))),
        }
    }

    /// Blocks of this width (for a backward product, whose pieces may have any depth), with panels
    /// that are not too large.
    fn with_columns(self, columns: usize) -> Self {
        Self {
            columns,
            depth: self.depth.min(PANELS / columns).max(8),
        }
    }
}

thread_local! {
    /// Panels, and the decoded rows they are made of.
    static SCRATCH: RefCell<(Vec<f32>, Vec<f32>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

/// Rows of a frozen matrix and the matrix that is multiplied with them.
struct FrozenFactor<'a> {
    matrix: &'a FrozenMatrix,
    rows: Range<usize>,
    direction: Direction,
    cut: Cut,
    /// `[n, depth]`.
    x: &'a [f32],
}

impl<'a> FrozenFactor<'a> {
    /// These rows of W `[out, in]`, to be multiplied with x: `[n, in]` forward, `[n, rows]` backward.
    fn new(
        direction: Direction,
        x: &'a [f32],
        matrix: &'a FrozenMatrix,
        rows: Range<usize>,
    ) -> Self {
        let shape = direction.shape(matrix, &rows);
        Self {
            matrix,
            rows,
            direction,
            cut: Cut::new(matrix, direction, shape),
            x,
        }
    }

    /// Writes the whole product to `out`, onto what is there if `add`.
    fn multiply_all(&self, out: &mut [f32], add: bool) {
        self.check(out.len());
        let [_, columns] = self.shape();
        let blocks = column_blocks(columns, self.cut.columns);
        sum_of_products(std::slice::from_ref(self), blocks, out, add, Self::multiply);
    }

    /// The depth of the product, and the columns of its result.
    fn shape(&self) -> [usize; 2] {
        self.direction.shape(self.matrix, &self.rows)
    }

    /// Asserts that the result has so many numbers.
    fn check(&self, numbers: usize) {
        let [depth, columns] = self.shape();
        assert!(
            self.x.len() * columns == numbers * depth && self.rows.end <= self.matrix.rows(),
            "{} numbers times {depth} × {columns} into {numbers}",
            self.x.len()
        );
    }

    /// Writes the columns `block` of the product, added to `onto`, to `out`.
    ///
    /// The result does not depend on the number of threads: each element is summed over the same
    /// pieces of depth in the same order.
    fn multiply(&self, block: Range<usize>, out: Shared<'_>, onto: Onto<'_>) {
        let [depth, _] = self.shape();
        SCRATCH.with_borrow_mut(|(scratch, decoded)| {
            for start in (0..depth).step_by(self.cut.depth) {
                let piece = start..depth.min(start + self.cut.depth);
                let panels = self.panels(&block, &piece, scratch, decoded);
                let onto = if start > 0 { Onto::Result } else { onto };
                self.add_piece([&block, &piece], panels, out, onto);
            }
        });
    }

    /// The panels of some columns for a piece of depth, and the distance between them: those of the
    /// matrix itself, or packed in `scratch`.
    fn panels<'s>(
        &'s self,
        block: &Range<usize>,
        piece: &Range<usize>,
        scratch: &'s mut Vec<f32>,
        decoded: &mut Vec<f32>,
    ) -> (&'s [f32], usize) {
        let shift = |part: &Range<usize>| part.start + self.rows.start..part.end + self.rows.start;
        let (block, piece) = match self.direction {
            Direction::Forward => (shift(block), piece.clone()),
            Direction::Backward => (block.clone(), shift(piece)),
        };
        let rows = self.matrix.rows();
        if let (Values::F32(values), Direction::Backward) = (self.matrix.values(), self.direction) {
            let first = (block.start / PANEL * rows + piece.start) * PANEL;
            return (&values[first..], rows * PANEL);
        }
        let stride = piece.len().next_multiple_of(PANEL) * PANEL;
        scratch.resize(block.len().div_ceil(PANEL) * stride, 0.0);
        match (self.matrix.values(), self.direction) {
            (Values::F32(values), _) => turn_panels(values, rows, block, piece, scratch),
            (_, Direction::Forward) => widen_turned(self.matrix, block, piece, scratch, decoded),
            (_, Direction::Backward) => widen(self.matrix, piece, block, scratch, decoded),
        }
        (scratch, stride)
    }

    /// Adds the product over a piece of depth to `onto`, a few tokens at a time.
    fn add_piece(
        &self,
        [block, piece]: [&Range<usize>; 2],
        (panels, stride): (&[f32], usize),
        out: Shared<'_>,
        onto: Onto<'_>,
    ) {
        let [depth, columns] = self.shape();
        let n = self.x.len().checked_div(depth).unwrap_or(0);
        for token in (0..n).step_by(TOKENS) {
            let tokens = TOKENS.min(n - token);
            // SAFETY: each task writes its own columns.
            let (place, len) = unsafe { out.place(token * columns + block.start) };
            assert!(
                (tokens - 1) * columns + block.len() <= len,
                "a block within the result"
            );
            let onto = match onto {
                Onto::Nothing => None,
                Onto::Result => Some(place.cast_const()),
                Onto::Other(values) => Some(values[token * columns + block.start..].as_ptr()),
            };
            Arch::new().dispatch(Step {
                x: &self.x[token * depth + piece.start..],
                x_stride: depth,
                tokens,
                depth: piece.len(),
                panels,
                stride,
                columns: block.len(),
                out: place,
                out_stride: columns,
                onto,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Change, Encoding, StoredTensor};

    fn numbers(count: usize) -> Vec<f32> {
        (0..count)
            .map(|i| ((i * 7919 % 101) as f32 - 50.0) / 50.0)
            .collect()
    }

    /// y = x Wᵀ and dx = 1 + dy W by definition in f64, with W read row by row.
    fn check(matrix: &FrozenMatrix, n: usize) {
        let (inputs, outputs) = (matrix.columns(), matrix.rows());
        let weight = matrix.gather(&(0..outputs as u32).collect::<Vec<_>>());
        let at = |values: &[f32], index: usize| f64::from(values[index]);
        let (x, dy) = (numbers(n * inputs), numbers(n * outputs));
        let (mut y, mut dx) = (vec![f32::NAN; n * outputs], vec![1.0; n * inputs]);
        apply(
            &x,
            vec![Output {
                matrix,
                y: &mut y,
                onto: None,
            }],
        );
        apply_transposed(&[(matrix, &dy)], &mut dx, true);
        for token in 0..n {
            for output in 0..outputs {
                let expected: f64 = (0..inputs)
                    .map(|i| at(&x, token * inputs + i) * at(&weight, output * inputs + i))
                    .sum();
                assert!(
                    (at(&y, token * outputs + output) - expected).abs() < 1e-3,
                    "{n} × {inputs} × {outputs}: y[{token}, {output}]"
                );
            }
            for input in 0..inputs {
                let expected: f64 = (0..outputs)
                    .map(|o| at(&dy, token * outputs + o) * at(&weight, o * inputs + input))
                    .sum();
                assert!(
                    (at(&dx, token * inputs + input) - 1.0 - expected).abs() < 1e-3,
                    "{n} × {inputs} × {outputs}: dx[{token}, {input}]"
                );
            }
        }
    }

    #[test]
    fn both_directions_are_as_their_definitions_say_at_any_shape() {
        for (n, inputs, outputs) in [
            (1, 5, 3),
            (4, 8, 16),
            (7, 32, 70),
            (13, 48, 97),
            (17, 650, 100),
            (523, 33, 31),
        ] {
            check(
                &FrozenMatrix::new(outputs, inputs, numbers(inputs * outputs)),
                n,
            );
        }
    }

    #[test]
    fn encoded_matrices_are_widened_on_the_way() {
        for (encoding, scale_at) in [
            (Encoding::F16, 0),
            (Encoding::BF16, 0),
            (Encoding::Q4_0, 0),
            (Encoding::Q8_0, 0),
            (Encoding::Q6K, 208),
            (Encoding::IQ4NL, 0),
            (Encoding::IQ4XS, 0),
        ] {
            let (values, length) = encoding.block();
            for (n, inputs, outputs) in [(5, 256, 100), (9, 768, 65)] {
                // Blocks of arbitrary bits except for the scale, 0.01; numbers of two bytes are
                // only scale.
                let block = |index: usize| {
                    let mut block: Vec<u8> = (0..length)
                        .map(|byte| ((index * 31 + byte * 7919) % 251) as u8)
                        .collect();
                    let scale = 0.01
                        * if values == 1 {
                            1.0 + (index % 17) as f32
                        } else {
                            1.0
                        };
                    let scale = if encoding == Encoding::BF16 {
                        half::bf16::from_f32(scale).to_le_bytes()
                    } else {
                        half::f16::from_f32(scale).to_le_bytes()
                    };
                    block[scale_at..scale_at + 2].copy_from_slice(&scale);
                    block
                };
                let bytes: Vec<u8> = (0..inputs * outputs / values).flat_map(block).collect();
                let stored = StoredTensor::new(
                    "w".into(),
                    vec![outputs, inputs],
                    encoding,
                    &bytes,
                    Change::default(),
                )
                .unwrap();
                check(&FrozenMatrix::kept(&stored), n);
            }
        }
    }

    #[test]
    fn several_matrices_at_once_are_as_one_after_the_other() {
        let (n, inputs) = (9, 256);
        let matrices = [3, 100, 64]
            .map(|outputs| FrozenMatrix::new(outputs, inputs, numbers(inputs * outputs)));
        let x = numbers(n * inputs);
        let one = |matrix: &FrozenMatrix| {
            let mut y = vec![0.0; n * matrix.rows()];
            apply(
                &x,
                vec![Output {
                    matrix,
                    y: &mut y,
                    onto: None,
                }],
            );
            y
        };
        let expected: Vec<Vec<f32>> = matrices.iter().map(one).collect();
        let mut found: Vec<Vec<f32>> = matrices
            .iter()
            .map(|matrix| vec![0.0; n * matrix.rows()])
            .collect();
        apply(
            &x,
            matrices
                .iter()
                .zip(&mut found)
                .map(|(matrix, y)| Output {
                    matrix,
                    y,
                    onto: None,
                })
                .collect(),
        );
        assert!(found == expected);
        let (mut together, mut apart) = (vec![1.0; n * inputs], vec![1.0; n * inputs]);
        let pairs: Vec<(&FrozenMatrix, &[f32])> = matrices
            .iter()
            .zip(&expected)
            .map(|(matrix, dy)| (matrix, &dy[..]))
            .collect();
        apply_transposed(&pairs, &mut together, false);
        for (index, pair) in pairs.iter().enumerate() {
            apply_transposed(&[*pair], &mut apart, index > 0);
        }
        assert!(together == apart);
    }

    #[test]
    fn some_rows_of_a_matrix_are_a_matrix() {
        let (n, inputs) = (9, 256);
        let whole = numbers(inputs * 100);
        let (x, dy) = (numbers(n * inputs), numbers(n * 41));
        let rows = whole[7 * inputs..48 * inputs].to_vec();
        let alone = FrozenMatrix::new(41, inputs, rows);
        let bytes: Vec<u8> = whole
            .iter()
            .flat_map(|&x| half::bf16::from_f32(x).to_le_bytes())
            .collect();
        let shape = vec![100, inputs];
        let stored =
            StoredTensor::new("w".into(), shape, Encoding::BF16, &bytes, Change::default());
        let encoded = FrozenMatrix::kept(&stored.unwrap());
        for (matrix, tolerance) in [(FrozenMatrix::new(100, inputs, whole), 0.0), (encoded, 1.0)] {
            let (mut y, mut dx) = (vec![0.0; n * 41], vec![1.0; n * inputs]);
            apply_rows(&x, &matrix, 7..48, &mut y);
            add_rows_transposed(&dy, &matrix, 7..48, &mut dx);
            let (mut expected, mut expected_dx) = (vec![0.0; n * 41], vec![1.0; n * inputs]);
            let output = Output {
                matrix: &alone,
                y: &mut expected,
                onto: None,
            };
            apply(&x, vec![output]);
            apply_transposed(&[(&alone, &dy)], &mut expected_dx, true);
            let pairs = y.iter().zip(&expected).chain(dx.iter().zip(&expected_dx));
            for (found, expected) in pairs {
                assert!(
                    (found - expected).abs() <= tolerance,
                    "{found} for {expected}"
                );
            }
        }
    }

    #[test]
    fn what_a_product_is_added_to_is_added_once() {
        for inputs in [40, 1300] {
            let matrix = FrozenMatrix::new(33, inputs, numbers(33 * inputs));
            let (x, onto) = (numbers(7 * inputs), numbers(7 * 33));
            let (mut alone, mut found) = (vec![f32::NAN; 7 * 33], vec![f32::NAN; 7 * 33]);
            apply(
                &x,
                vec![Output {
                    matrix: &matrix,
                    y: &mut alone,
                    onto: None,
                }],
            );
            apply(
                &x,
                vec![Output {
                    matrix: &matrix,
                    y: &mut found,
                    onto: Some(&onto),
                }],
            );
            assert!(
                found
                    .iter()
                    .zip(&alone)
                    .zip(&onto)
                    .all(|((found, alone), onto)| (found - alone - onto).abs() < 1e-4),
                "{inputs}"
            );
        }
    }

    #[test]
    fn a_result_does_not_depend_on_the_number_of_threads_or_on_the_other_tokens() {
        let matrix = FrozenMatrix::new(200, 600, numbers(120_000));
        let x = numbers(40 * 600);
        let run = |threads: usize, tokens: usize| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            let mut y = vec![0.0; tokens * 200];
            pool.install(|| {
                apply(
                    &x[..tokens * 600],
                    vec![Output {
                        matrix: &matrix,
                        y: &mut y,
                        onto: None,
                    }],
                )
            });
            y
        };
        let whole = run(1, 40);
        assert!(whole == run(5, 40));
        assert!(whole[..7 * 200] == run(2, 7));
    }
}

//! Matrix products on slices, row-major.

use std::marker::PhantomData;
use std::ops::Range;

use gemm::Parallelism;
use rayon::prelude::*;

use crate::model::{Matrix, Values};

/// A row-major matrix view: numbers, rows, columns, distance between rows.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub values: &'a [f32],
    pub rows: usize,
    pub columns: usize,
    pub stride: usize,
}

impl<'a> View<'a> {
    /// All of `values` as `[rows, columns]`.
    pub fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        debug_assert_eq!(values.len(), rows * columns);
        Self { values, rows, columns, stride: columns }
    }
}

/// A factor of a product: a view, or its transpose.
#[derive(Clone, Copy)]
pub enum Factor<'a> {
    Plain(View<'a>),
    Transposed(View<'a>),
}

impl Factor<'_> {
    fn shape(&self) -> [usize; 2] {
        match self {
            Self::Plain(view) => [view.rows, view.columns],
            Self::Transposed(view) => [view.columns, view.rows],
        }
    }

    /// Pointer, column stride, row stride.
    fn layout(&self) -> (*const f32, isize, isize) {
        match self {
            Self::Plain(view) => (view.values.as_ptr(), 1, view.stride as isize),
            Self::Transposed(view) => (view.values.as_ptr(), view.stride as isize, 1),
        }
    }

    /// Whether every element that the shape and the stride name lies in the slice.
    fn fits(&self) -> bool {
        let (Self::Plain(view) | Self::Transposed(view)) = self;
        view.rows == 0 || view.columns == 0 || (view.rows - 1) * view.stride + view.columns <= view.values.len()
    }
}

/// How many threads a product may use.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    One,
    All,
}

/// Where a product is written: `[m, n]` with a distance between rows, as it is or added to.
pub struct Target<'a> {
    pointer: *mut f32,
    len: usize,
    stride: usize,
    /// Whether the product is added to what is there.
    add: bool,
    lifetime: PhantomData<&'a mut [f32]>,
}

impl<'a> Target<'a> {
    /// Overwrites `out`, whose rows are `stride` apart.
    pub fn over(out: &'a mut [f32], stride: usize) -> Self {
        Self { pointer: out.as_mut_ptr(), len: out.len(), stride, add: false, lifetime: PhantomData }
    }

    /// Adds to `out`, whose rows are `stride` apart.
    pub fn onto(out: &'a mut [f32], stride: usize) -> Self {
        Self::at(out, stride, true)
    }

    /// Adds to `out` or overwrites it.
    pub fn at(out: &'a mut [f32], stride: usize, add: bool) -> Self {
        Self { add, ..Self::over(out, stride) }
    }
}

/// A slice that several threads write at once, each to rows and columns of its own.
#[derive(Clone, Copy)]
pub struct Shared<'a> {
    pointer: *mut f32,
    len: usize,
    lifetime: PhantomData<&'a mut [f32]>,
}

// Sound: `target` is the only way to the numbers, and its callers promise disjoint places.
unsafe impl Send for Shared<'_> {}
unsafe impl Sync for Shared<'_> {}

impl<'a> Shared<'a> {
    /// Shares a slice for as long as it is borrowed.
    pub fn new(values: &'a mut [f32]) -> Self {
        Self { pointer: values.as_mut_ptr(), len: values.len(), lifetime: PhantomData }
    }

    /// A target that begins at number `start`.
    ///
    /// # Safety
    /// No other target that is in use at the same time may name the same numbers.
    pub unsafe fn target(&self, start: usize, stride: usize, add: bool) -> Target<'a> {
        assert!(start <= self.len, "a place within the slice");
        Target { pointer: unsafe { self.pointer.add(start) }, len: self.len - start, stride, add, lifetime: PhantomData }
    }
}

/// target `[m, n]` ← (target +) scale · left `[m, k]` · right `[k, n]`.
///
/// The result does not depend on the threads: work is split over rows and columns of the target, never over k.
pub fn product(target: Target<'_>, scale: f32, left: Factor<'_>, right: Factor<'_>, threads: Threads) {
    let ([m, k], [inner, n]) = (left.shape(), right.shape());
    assert!(k == inner && left.fits() && right.fits(), "a product of {m} × {k} and {inner} × {n}");
    if m == 0 || n == 0 {
        return;
    }
    assert!((m - 1) * target.stride + n <= target.len, "a product of {m} × {n} into {} numbers", target.len);
    let (left, left_columns, left_rows) = left.layout();
    let (right, right_columns, right_rows) = right.layout();
    let parallelism = match threads {
        Threads::One => Parallelism::None,
        Threads::All => Parallelism::Rayon(0),
    };
    // Sound: the assertions keep every element that shapes and strides name inside its slice, and a
    // target is borrowed mutably, so it overlaps with neither factor.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            target.pointer,
            1,
            target.stride as isize,
            target.add,
            left,
            left_columns,
            left_rows,
            right,
            right_columns,
            right_rows,
            1.0,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// Rows of an encoded matrix that are widened at a time: a panel stays in the cache until it is used.
const PANEL: usize = 64;

/// y `[n, out]` ← x `[n, in]` · Wᵀ.
pub fn apply(matrix: &Matrix, x: &[f32], y: &mut [f32]) {
    let (inputs, outputs) = (matrix.columns(), matrix.rows());
    let n = x.len() / inputs;
    let x = View::new(x, n, inputs);
    match matrix.values() {
        Values::F32(values) => {
            let weight = Factor::Transposed(View::new(values, outputs, inputs));
            product(Target::over(y, outputs), 1.0, Factor::Plain(x), weight, Threads::All);
        }
        Values::Encoded { .. } => {
            assert_eq!(y.len(), n * outputs, "an output of {n} × {outputs}");
            let shared = Shared::new(y);
            (0..outputs.div_ceil(PANEL)).into_par_iter().for_each_init(Vec::new, |panel, index| {
                let rows = index * PANEL..outputs.min((index + 1) * PANEL);
                let weight = widen(matrix, rows.clone(), panel);
                // Sound: each panel writes columns of its own.
                let target = unsafe { shared.target(rows.start, outputs, false) };
                product(target, 1.0, Factor::Plain(x), Factor::Transposed(weight), Threads::One);
            });
        }
    }
}

/// dx `[n, in]` ← (dx +) dy `[n, out]` · W.
pub fn apply_transposed(matrix: &Matrix, dy: &[f32], dx: &mut [f32], add: bool) {
    let (inputs, outputs) = (matrix.columns(), matrix.rows());
    let n = dy.len() / outputs;
    match matrix.values() {
        Values::F32(values) => {
            let weight = Factor::Plain(View::new(values, outputs, inputs));
            product(Target::at(dx, inputs, add), 1.0, Factor::Plain(View::new(dy, n, outputs)), weight, Threads::All);
        }
        Values::Encoded { .. } => {
            let mut panel = Vec::new();
            for start in (0..outputs).step_by(4 * PANEL) {
                let rows = start..outputs.min(start + 4 * PANEL);
                let left = View { values: &dy[start..], rows: n, columns: rows.len(), stride: outputs };
                let weight = widen(matrix, rows, &mut panel);
                product(Target::at(dx, inputs, add || start > 0), 1.0, Factor::Plain(left), Factor::Plain(weight), Threads::All);
            }
        }
    }
}

/// Rows of an encoded matrix as f32, in `panel`.
fn widen<'a>(matrix: &Matrix, rows: Range<usize>, panel: &'a mut Vec<f32>) -> View<'a> {
    let columns = matrix.columns();
    panel.resize(rows.len() * columns, 0.0);
    for (out, row) in panel.chunks_exact_mut(columns).zip(rows.clone()) {
        matrix.row(row, out);
    }
    View::new(panel, rows.len(), columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 7919 % 101) as f32 - 50.0) / 50.0).collect()
    }

    /// The definition, in f64.
    fn brute(left: &[f32], right: &[f32], m: usize, k: usize, n: usize) -> Vec<f64> {
        let at = |i: usize, j: usize| (0..k).map(|l| f64::from(left[i * k + l]) * f64::from(right[l * n + j])).sum();
        (0..m * n).map(|index| at(index / n, index % n)).collect()
    }

    #[test]
    fn a_frozen_matrix_is_applied_as_its_definition_says_in_both_directions() {
        for (n, inputs, outputs) in [(1, 5, 3), (7, 32, 70), (65, 48, 96)] {
            let weight = numbers(inputs * outputs);
            let matrix = Matrix::new(outputs, inputs, weight.clone());
            let (x, dy) = (numbers(n * inputs), numbers(n * outputs));
            let transposed: Vec<f32> = (0..inputs * outputs).map(|i| weight[(i % outputs) * inputs + i / outputs]).collect();
            let mut y = vec![f32::NAN; n * outputs];
            apply(&matrix, &x, &mut y);
            let expected = brute(&x, &transposed, n, inputs, outputs);
            assert!(y.iter().zip(&expected).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-4));
            let mut dx = vec![1.0; n * inputs];
            apply_transposed(&matrix, &dy, &mut dx, true);
            let expected = brute(&dy, &weight, n, outputs, inputs);
            assert!(dx.iter().zip(&expected).all(|(a, b)| (f64::from(*a) - 1.0 - b).abs() < 1e-4));
        }
    }

    #[test]
    fn a_product_does_not_depend_on_the_number_of_threads() {
        let (m, k, n) = (130, 576, 192);
        let (left, right) = (numbers(m * k), numbers(k * n));
        let run = |threads: usize| {
            let mut out = vec![0.0; m * n];
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let (left, right) = (Factor::Plain(View::new(&left, m, k)), Factor::Plain(View::new(&right, k, n)));
                product(Target::over(&mut out, n), 1.0, left, right, Threads::All);
            });
            out
        };
        assert_eq!(run(1), run(3));
    }
}

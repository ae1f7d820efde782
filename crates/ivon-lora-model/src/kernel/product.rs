//! Matrix products on row-major slices, for matrices that are small or change from step to step.

use std::marker::PhantomData;
use std::ops::Range;

use gemm::Parallelism;

use super::rows::dot;
use super::simd::wide;

/// A row-major matrix view, `[rows, columns]`.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The numbers, starting with the first element.
    pub values: &'a [f32],
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub columns: usize,
    /// The distance between the starts of two rows.
    pub stride: usize,
}

impl<'a> View<'a> {
    /// All of `values` as `[rows, columns]`.
    pub fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        debug_assert_eq!(values.len(), rows * columns);
        Self {
            values,
            rows,
            columns,
            stride: columns,
        }
    }

    /// Some of its rows.
    pub fn part(self, rows: Range<usize>) -> Self {
        Self {
            values: &self.values[(rows.start * self.stride).min(self.values.len())..],
            rows: rows.len(),
            ..self
        }
    }

    /// A row.
    #[inline(always)]
    pub fn row(self, index: usize) -> &'a [f32] {
        &self.values[index * self.stride..][..self.columns]
    }
}

/// A factor of a product: a matrix or its transpose.
#[derive(Clone, Copy)]
pub enum Factor<'a> {
    /// The matrix.
    Plain(View<'a>),
    /// Its transpose.
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

    /// Whether all elements given by shape and stride are in the slice.
    fn fits(&self) -> bool {
        let (Self::Plain(view) | Self::Transposed(view)) = self;
        view.rows == 0
            || view.columns == 0
            || (view.rows - 1) * view.stride + view.columns <= view.values.len()
    }
}

/// How many threads a product may use.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// The calling thread.
    One,
    /// The threads of rayon's pool.
    All,
}

/// The destination of a product: `[m, n]` with a row stride, overwritten or added to.
pub struct Target<'a> {
    pointer: *mut f32,
    len: usize,
    stride: usize,
    /// Whether the product is added.
    add: bool,
    lifetime: PhantomData<&'a mut [f32]>,
}

impl<'a> Target<'a> {
    /// Overwrites `out`, with row stride `stride`.
    pub fn over(out: &'a mut [f32], stride: usize) -> Self {
        Self {
            pointer: out.as_mut_ptr(),
            len: out.len(),
            stride,
            add: false,
            lifetime: PhantomData,
        }
    }

    /// Adds to `out`, with row stride `stride`.
    pub fn onto(out: &'a mut [f32], stride: usize) -> Self {
        Self::at(out, stride, true)
    }

    /// Adds to `out` or overwrites it, with row stride `stride`.
    pub fn at(out: &'a mut [f32], stride: usize, add: bool) -> Self {
        Self {
            add,
            ..Self::over(out, stride)
        }
    }

    /// The rows from `row` on.
    pub(crate) fn below(&mut self, row: usize) -> Target<'_> {
        let start = row * self.stride;
        assert!(start <= self.len, "row {row} of a target");
        Target {
            // SAFETY: within the slice, as just checked.
            pointer: unsafe { self.pointer.add(start) },
            len: self.len - start,
            ..*self
        }
    }

    /// The same place, added to.
    pub(crate) fn added(self) -> Self {
        Self { add: true, ..self }
    }

    /// Writes or adds `values` to the start of a row.
    pub(crate) fn put(&mut self, row: usize, values: &[f32]) {
        let start = row * self.stride;
        assert!(start + values.len() <= self.len, "row {row} of a target");
        // SAFETY: within the slice, as just checked, which is borrowed mutably.
        let place =
            unsafe { std::slice::from_raw_parts_mut(self.pointer.add(start), values.len()) };
        match self.add {
            true => place.iter_mut().zip(values).for_each(|(x, y)| *x += y),
            false => place.copy_from_slice(values),
        }
    }
}

/// A slice that several threads write at once, each to its own elements.
#[derive(Clone, Copy)]
pub struct Shared<'a> {
    pointer: *mut f32,
    len: usize,
    lifetime: PhantomData<&'a mut [f32]>,
}

// SAFETY: all access is through `place` and `target`, whose callers promise disjoint elements.
unsafe impl Send for Shared<'_> {}
unsafe impl Sync for Shared<'_> {}

impl<'a> Shared<'a> {
    /// Shares a slice for the duration of the borrow.
    pub fn new(values: &'a mut [f32]) -> Self {
        Self {
            pointer: values.as_mut_ptr(),
            len: values.len(),
            lifetime: PhantomData,
        }
    }

    /// A pointer to element `start`, and the number of elements from it to the end.
    ///
    /// # Safety
    /// No two threads may write the same element.
    pub unsafe fn place(&self, start: usize) -> (*mut f32, usize) {
        assert!(start <= self.len, "a place within the slice");
        (unsafe { self.pointer.add(start) }, self.len - start)
    }

    /// A part of the numbers.
    ///
    /// # Safety
    /// No other task may read or write them while they are borrowed.
    pub unsafe fn part(&self, range: Range<usize>) -> &'a mut [f32] {
        let (pointer, len) = unsafe { self.place(range.start) };
        assert!(
            range.len() <= len,
            "{} of {len} numbers are shared",
            range.len()
        );
        // SAFETY: `place` checks the start, and the caller keeps other tasks away.
        unsafe { std::slice::from_raw_parts_mut(pointer, range.len()) }
    }

    /// A target that starts at element `start`.
    ///
    /// # Safety
    /// No other target in use at the same time may contain the same elements.
    pub unsafe fn target(&self, start: usize, stride: usize, add: bool) -> Target<'a> {
        let (pointer, len) = unsafe { self.place(start) };
        Target {
            pointer,
            len,
            stride,
            add,
            lifetime: PhantomData,
        }
    }
}

/// target `[m, n]` ← (target +) scale · left `[m, k]` · right `[k, n]`.
///
/// The result does not depend on the number of threads: the work is divided by rows and columns of
/// the target, never along k.
pub fn product(
    target: Target<'_>,
    scale: f32,
    left: Factor<'_>,
    right: Factor<'_>,
    threads: Threads,
) {
    let ([m, k], [inner, n]) = (left.shape(), right.shape());
    assert!(
        k == inner && left.fits() && right.fits(),
        "a product of {m} × {k} and {inner} × {n}"
    );
    if m == 0 || n == 0 {
        return;
    }
    assert!(
        (m - 1) * target.stride + n <= target.len,
        "a product of {m} × {n} into {} numbers",
        target.len
    );
    if m == 1 || n == 1 || k == 1 {
        return thin(target, scale, left, right);
    }
    let (left, left_columns, left_rows) = left.layout();
    let (right, right_columns, right_rows) = right.layout();
    let parallelism = match threads {
        Threads::One => Parallelism::None,
        Threads::All => Parallelism::Rayon(0),
    };
    // SAFETY: the assertions keep all elements given by shapes and strides inside the slices, and a
    // target is borrowed mutably, so it overlaps neither factor.
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

/// [`product`] with a dimension of 1: `gemm` would process such a shape element by element.
fn thin(target: Target<'_>, scale: f32, left: Factor<'_>, right: Factor<'_>) {
    let ([m, k], [_, n]) = (left.shape(), right.shape());
    let ((left, left_columns, left_rows), (right, right_columns, right_rows)) =
        (left.layout(), right.layout());
    // SAFETY: `product` has checked that shapes and strides stay within the slices and the target.
    let at = |row: usize, column: usize| unsafe {
        *left.offset(row as isize * left_rows + column as isize * left_columns)
    };
    wide(
        #[inline(always)]
        || {
            for row in 0..m {
                let out = unsafe {
                    std::slice::from_raw_parts_mut(target.pointer.add(row * target.stride), n)
                };
                if !target.add {
                    out.fill(0.0);
                }
                if right_columns == 1 {
                    // Rows of the right factor are contiguous: out += left · row.
                    for inner in 0..k {
                        let factor = scale * at(row, inner);
                        let from = unsafe {
                            std::slice::from_raw_parts(right.offset(inner as isize * right_rows), n)
                        };
                        out.iter_mut()
                            .zip(from)
                            .for_each(|(out, from)| *out += factor * from);
                    }
                } else if left_columns == 1 {
                    // Columns of the right factor and rows of the left one are contiguous: out +=
                    // left · column.
                    let line = unsafe {
                        std::slice::from_raw_parts(left.offset(row as isize * left_rows), k)
                    };
                    for (column, out) in out.iter_mut().enumerate() {
                        let from = unsafe {
                            std::slice::from_raw_parts(
                                right.offset(column as isize * right_columns),
                                k,
                            )
                        };
                        *out += scale * dot(line, from);
                    }
                } else {
                    for (column, out) in out.iter_mut().enumerate() {
                        let from = unsafe {
                            std::slice::from_raw_parts(
                                right.offset(column as isize * right_columns),
                                k,
                            )
                        };
                        *out += scale
                            * from
                                .iter()
                                .enumerate()
                                .map(|(inner, from)| at(row, inner) * from)
                                .sum::<f32>();
                    }
                }
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize) -> Vec<f32> {
        (0..count)
            .map(|i| ((i * 7919 % 101) as f32 - 50.0) / 50.0)
            .collect()
    }

    /// The definition, in f64.
    fn brute(left: &[f32], right: &[f32], m: usize, k: usize, n: usize) -> Vec<f64> {
        let at = |i: usize, j: usize| {
            (0..k)
                .map(|l| f64::from(left[i * k + l]) * f64::from(right[l * n + j]))
                .sum()
        };
        (0..m * n).map(|index| at(index / n, index % n)).collect()
    }

    #[test]
    fn products_are_as_their_definition_says_also_where_a_side_is_one() {
        for [m, k, n] in [
            [3, 5, 4],
            [1, 70, 33],
            [40, 1, 33],
            [5, 64, 1],
            [1, 1, 1],
            [1, 7, 1],
        ] {
            let (left, right) = (numbers(m * k), numbers(k * n));
            let turned = |x: &[f32], rows: usize, columns: usize| -> Vec<f32> {
                (0..rows * columns)
                    .map(|i| x[(i % rows) * columns + i / rows])
                    .collect()
            };
            let (left_turned, right_turned) = (turned(&left, m, k), turned(&right, k, n));
            let lefts = [
                Factor::Plain(View::new(&left, m, k)),
                Factor::Transposed(View::new(&left_turned, k, m)),
            ];
            let rights = [
                Factor::Plain(View::new(&right, k, n)),
                Factor::Transposed(View::new(&right_turned, n, k)),
            ];
            let expected = brute(&left, &right, m, k, n);
            for (left, right) in lefts
                .into_iter()
                .flat_map(|left| rights.map(|right| (left, right)))
            {
                let mut out = vec![1.0; m * (n + 2)];
                product(
                    Target::onto(&mut out, n + 2),
                    0.5,
                    left,
                    right,
                    Threads::One,
                );
                for (index, expected) in expected.iter().enumerate() {
                    assert!(
                        (f64::from(out[index / n * (n + 2) + index % n]) - 1.0 - 0.5 * expected)
                            .abs()
                            < 1e-4,
                        "{m} {k} {n}"
                    );
                }
                product(
                    Target::over(&mut out, n + 2),
                    0.5,
                    left,
                    right,
                    Threads::One,
                );
                for (index, expected) in expected.iter().enumerate() {
                    assert!(
                        (f64::from(out[index / n * (n + 2) + index % n]) - 0.5 * expected).abs()
                            < 1e-4,
                        "{m} {k} {n}"
                    );
                }
                assert!(out.chunks_exact(n + 2).all(|row| row[n..] == [1.0, 1.0]));
            }
        }
    }

    #[test]
    fn a_product_does_not_depend_on_the_number_of_threads() {
        let (m, k, n) = (130, 576, 192);
        let (left, right) = (numbers(m * k), numbers(k * n));
        let run = |threads: usize| {
            let mut out = vec![0.0; m * n];
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| {
                let (left, right) = (
                    Factor::Plain(View::new(&left, m, k)),
                    Factor::Plain(View::new(&right, k, n)),
                );
                product(Target::over(&mut out, n), 1.0, left, right, Threads::All);
            });
            out
        };
        assert_eq!(run(1), run(3));
    }
}

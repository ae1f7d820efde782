//! FrozenMatrix products on slices, row-major: what is small or changes from step to step.

use std::marker::PhantomData;

use gemm::Parallelism;

use super::rows::dot;
use super::simd::wide;

/// A row-major matrix view, `[rows, columns]`.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The numbers from the first on.
    pub values: &'a [f32],
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub columns: usize,
    /// Distance between the beginnings of two rows.
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
}

/// A factor of a product: a view, or its transpose.
#[derive(Clone, Copy)]
pub enum Factor<'a> {
    /// As it lies.
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

    /// Whether every element that the shape and the stride name lies in the slice.
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
    /// The one that calls.
    One,
    /// Those of rayon's pool.
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
        Self {
            pointer: out.as_mut_ptr(),
            len: out.len(),
            stride,
            add: false,
            lifetime: PhantomData,
        }
    }

    /// Adds to `out`, whose rows are `stride` apart.
    pub fn onto(out: &'a mut [f32], stride: usize) -> Self {
        Self::at(out, stride, true)
    }

    /// Adds to `out` or overwrites it.
    pub fn at(out: &'a mut [f32], stride: usize, add: bool) -> Self {
        Self {
            add,
            ..Self::over(out, stride)
        }
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
        Self {
            pointer: values.as_mut_ptr(),
            len: values.len(),
            lifetime: PhantomData,
        }
    }

    /// The place of number `start`, and how many numbers there are from it on.
    ///
    /// # Safety
    /// No two threads may write the same number.
    pub unsafe fn place(&self, start: usize) -> (*mut f32, usize) {
        assert!(start <= self.len, "a place within the slice");
        (unsafe { self.pointer.add(start) }, self.len - start)
    }

    /// A target that begins at number `start`.
    ///
    /// # Safety
    /// No other target that is in use at the same time may name the same numbers.
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
/// The result does not depend on the threads: work is split over rows and columns of the target,
/// never over k.
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

/// [`product`] where a side is 1: `gemm` would go through such a shape number by number.
fn thin(target: Target<'_>, scale: f32, left: Factor<'_>, right: Factor<'_>) {
    let ([m, k], [_, n]) = (left.shape(), right.shape());
    let ((left, left_columns, left_rows), (right, right_columns, right_rows)) =
        (left.layout(), right.layout());
    // Sound: `product` has checked that shapes and strides stay within the slices and the target.
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
                    // Rows of the right factor lie in one piece: out += left · row.
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
                    // Columns of the right factor and rows of the left one do: out += left ·
                    // column.
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

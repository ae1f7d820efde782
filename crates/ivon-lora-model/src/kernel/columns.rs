//! Columns of token-major matrices: copied out of wider ones and into them, and their products
//! element by element.

use rayon::prelude::*;

use super::product::View;
use super::simd::wide;

/// Rows of a task.
const ROWS: usize = 16;

/// Columns of a matrix that are written: rows of `columns` numbers that start `stride` apart.
pub struct ColumnsMut<'a> {
    /// The numbers, starting with the first element.
    pub values: &'a mut [f32],
    /// Number of columns.
    pub columns: usize,
    /// The distance between the starts of two rows.
    pub stride: usize,
}

impl<'a> ColumnsMut<'a> {
    /// All columns of a matrix with as many.
    pub fn all(values: &'a mut [f32], columns: usize) -> Self {
        Self {
            values,
            columns,
            stride: columns,
        }
    }

    /// Calls `work` with the index and the place of each row, on all threads.
    fn for_each(self, rows: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
        assert!(
            rows == self.values.len().div_ceil(self.stride),
            "{rows} rows into {} numbers in rows {} apart",
            self.values.len(),
            self.stride
        );
        let tasks = self.values.par_chunks_mut(ROWS * self.stride).enumerate();
        tasks.for_each(|(task, out)| {
            for (row, out) in out.chunks_mut(self.stride).enumerate() {
                work(task * ROWS + row, &mut out[..self.columns]);
            }
        });
    }
}

/// out ← x, of the same shape.
pub fn copy_columns(x: View<'_>, out: ColumnsMut<'_>) {
    out.for_each(x.rows, |row, out| out.copy_from_slice(x.row(row)));
}

/// out ← x ⊙ y, all of the same shape.
pub fn multiply(x: View<'_>, y: View<'_>, out: ColumnsMut<'_>) {
    assert!(
        x.rows == y.rows && x.columns == y.columns && x.columns == out.columns,
        "{} × {} times {} × {}, element by element",
        x.rows,
        x.columns,
        y.rows,
        y.columns
    );
    out.for_each(x.rows, |row, out| {
        wide(
            #[inline(always)]
            || {
                for ((out, x), y) in out.iter_mut().zip(x.row(row)).zip(y.row(row)) {
                    *out = x * y;
                }
            },
        );
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers first + 1, first + 2, … in rows of `stride`.
    fn matrix(rows: usize, stride: usize, first: usize) -> Vec<f32> {
        (1..=rows * stride).map(|i| (first + i) as f32).collect()
    }

    fn columns(values: &[f32], rows: usize, first: usize, columns: usize) -> View<'_> {
        View {
            values: &values[first..],
            rows,
            columns,
            stride: values.len() / rows,
        }
    }

    #[test]
    fn columns_find_their_places_and_no_other_is_touched() {
        let rows = 35;
        let (x, y) = (matrix(rows, 9, 0), matrix(rows, 7, 500));
        let (x, y) = (columns(&x, rows, 4, 3), columns(&y, rows, 2, 3));
        let mut out = vec![-1.0; rows * 8];
        for both in [false, true] {
            let out_columns = ColumnsMut {
                values: &mut out[5..],
                columns: 3,
                stride: 8,
            };
            match both {
                false => copy_columns(x, out_columns),
                true => multiply(x, y, out_columns),
            }
            for row in 0..rows {
                for column in 0..8 {
                    let expected = match column {
                        5.. if both => x.row(row)[column - 5] * y.row(row)[column - 5],
                        5.. => x.row(row)[column - 5],
                        _ => -1.0,
                    };
                    assert_eq!(out[row * 8 + column], expected, "{row} {column}");
                }
            }
        }
    }
}

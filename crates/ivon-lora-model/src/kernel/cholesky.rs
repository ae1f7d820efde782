//! The Cholesky factor of small symmetric matrices (as large as a question has choices), in f64.

/// L with L Lᵀ = the symmetric matrix `[size²]`; a pivot that rounding made negative counts as 0.
pub fn cholesky(matrix: &[f64], size: usize) -> Vec<f64> {
    let mut root = vec![0.0; size * size];
    for row in 0..size {
        for column in 0..=row {
            let known: f64 = (0..column)
                .map(|k| root[row * size + k] * root[column * size + k])
                .sum();
            let rest = matrix[row * size + column] - known;
            root[row * size + column] = if row == column {
                rest.max(0.0).sqrt()
            } else if root[column * size + column] > 0.0 {
                rest / root[column * size + column]
            } else {
                0.0
            };
        }
    }
    root
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_factor_times_its_transpose_is_the_matrix() {
        // [4 2; 2 10] = [2 0; 1 3] [2 1; 0 3].
        assert_eq!(cholesky(&[4.0, 2.0, 2.0, 10.0], 2), [2.0, 0.0, 1.0, 3.0]);
    }

    #[test]
    fn a_pivot_below_zero_counts_as_zero() {
        assert_eq!(
            cholesky(&[1.0, 1.0, 1.0, 1.0 - 1e-9], 2),
            [1.0, 0.0, 1.0, 0.0]
        );
        assert_eq!(cholesky(&[0.0, 0.0, 0.0, 4.0], 2), [0.0, 0.0, 0.0, 2.0]);
    }
}

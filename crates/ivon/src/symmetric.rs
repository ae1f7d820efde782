//! Eigenvectors of small symmetric matrices (as wide as an adapter's rank) in f64, on the host: all
//! at once by Jacobi's rotations, or one step nearer by the power method. Matrices are `[n²]`, row
//! by row.

/// Eigenvalues, and orthonormal eigenvectors of a symmetric matrix `[n²]`, vector i in column i
/// (`[k * n + i]`).
pub fn eigenvectors(mut matrix: Vec<f64>, n: usize) -> (Vec<f64>, Vec<f64>) {
    let mut vectors = identity(n);
    let size: f64 = matrix.iter().map(|x| x * x).sum();
    // Each sweep squares what is left off the diagonal; ten are more than enough for f64.
    for _ in 0..30 {
        let off: f64 = (0..n)
            .flat_map(|p| (0..p).map(move |q| (p, q)))
            .map(|(p, q)| matrix[p * n + q].powi(2))
            .sum();
        if off <= 1e-30 * size {
            break;
        }
        for p in 1..n {
            for q in 0..p {
                rotate(&mut matrix, &mut vectors, n, p, q);
            }
        }
    }
    ((0..n).map(|i| matrix[i * n + i]).collect(), vectors)
}

/// Turns rows and columns p and q so that their entry becomes 0.
fn rotate(matrix: &mut [f64], vectors: &mut [f64], n: usize, p: usize, q: usize) {
    let off = matrix[p * n + q];
    if off == 0.0 {
        return;
    }
    let theta = (matrix[q * n + q] - matrix[p * n + p]) / (2.0 * off);
    let tangent = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
    let cosine = 1.0 / (tangent * tangent + 1.0).sqrt();
    let sine = tangent * cosine;
    let turn = |values: &mut [f64], at: usize, other: usize| {
        let (x, y) = (values[at], values[other]);
        (values[at], values[other]) = (cosine * x - sine * y, sine * x + cosine * y);
    };
    for k in 0..n {
        turn(matrix, k * n + p, k * n + q);
        turn(vectors, k * n + p, k * n + q);
    }
    for k in 0..n {
        turn(matrix, p * n + k, q * n + k);
    }
}

/// The eigenvectors of [`eigenvectors`], that of the largest eigenvalue first.
pub(crate) fn sorted_eigenvectors(matrix: Vec<f64>, n: usize) -> Vec<f64> {
    let (values, vectors) = eigenvectors(matrix, n);
    sorted_columns(&vectors, &values, n)
}

/// Orthonormal vectors, one step of the power method nearer to the eigenvectors of a symmetric
/// matrix without negative eigenvalues than `vectors`: Q of the QR decomposition of (G + ε 1) V,
/// with the columns of V in descending order of vᵀ G v.
///
/// NOTE: ε is 10⁻⁹ of the mean eigenvalue. It changes no eigenvector, and keeps those of eigenvalue
/// 0 as they are, where rounding alone would choose new ones each time.
pub(crate) fn power_step(matrix: &[f64], vectors: &[f64], n: usize) -> Vec<f64> {
    let product = multiply(matrix, vectors, n);
    let shift = 1e-9 * (0..n).map(|i| matrix[i * n + i]).sum::<f64>() / n as f64;
    // None below ε, or rounding would order those of eigenvalue 0.
    let quotient = |column: usize| {
        (0..n)
            .map(|row| vectors[row * n + column] * product[row * n + column])
            .sum::<f64>()
            .max(shift)
    };
    let quotients: Vec<f64> = (0..n).map(quotient).collect();
    let stepped: Vec<f64> = product
        .iter()
        .zip(vectors)
        .map(|(product, vector)| product + shift * vector)
        .collect();
    orthonormal(sorted_columns(&stepped, &quotients, n), n)
}

/// Q of a matrix's QR decomposition with no negative number on R's diagonal, by Householder's
/// reflections: orthonormal even where columns depend on each other.
fn orthonormal(mut matrix: Vec<f64>, n: usize) -> Vec<f64> {
    let mut q = identity(n);
    for k in 0..n {
        let mut normal: Vec<f64> = (k..n).map(|row| matrix[row * n + k]).collect();
        let length = normal.iter().map(|x| x * x).sum::<f64>().sqrt();
        if length == 0.0 {
            continue;
        }
        let sign = normal[0].signum();
        normal[0] += sign * length;
        let square: f64 = normal.iter().map(|x| x * x).sum();
        let factor = |inner: f64| 2.0 * inner / square;
        for column in k..n {
            let inner = (k..n).map(|row| matrix[row * n + column] * normal[row - k]);
            let factor = factor(inner.sum());
            (k..n).for_each(|row| matrix[row * n + column] -= factor * normal[row - k]);
        }
        for row in q.chunks_exact_mut(n) {
            let inner = row[k..].iter().zip(&normal).map(|(a, b)| a * b);
            let factor = factor(inner.sum());
            row[k..]
                .iter_mut()
                .zip(&normal)
                .for_each(|(value, normal)| *value -= factor * normal);
            // The reflection makes R's entry −sign · length.
            row[k] *= -sign;
        }
        // Only the rows below are looked at from here on.
    }
    q
}

/// The columns of a matrix in descending order of a number that each has.
fn sorted_columns(matrix: &[f64], numbers: &[f64], n: usize) -> Vec<f64> {
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| numbers[b].total_cmp(&numbers[a]));
    (0..n * n)
        .map(|at| matrix[at / n * n + order[at % n]])
        .collect()
}

fn identity(n: usize) -> Vec<f64> {
    (0..n * n)
        .map(|at| f64::from(u8::from(at / n == at % n)))
        .collect()
}

fn multiply(left: &[f64], right: &[f64], n: usize) -> Vec<f64> {
    let entry = |at: usize| {
        (0..n)
            .map(|k| left[at / n * n + k] * right[k * n + at % n])
            .sum()
    };
    (0..n * n).map(entry).collect()
}

/// Aᵀ B.
pub(crate) fn transposed_product(left: &[f64], right: &[f64], n: usize) -> Vec<f64> {
    let transposed: Vec<f64> = (0..n * n).map(|at| left[at % n * n + at / n]).collect();
    multiply(&transposed, right, n)
}

/// The largest |VᵀV − 1|, by entries: 0 of orthonormal columns.
pub fn departure_from_orthonormal(vectors: &[f64], n: usize) -> f64 {
    transposed_product(vectors, vectors, n)
        .iter()
        .zip(identity(n))
        .map(|(inner, identity)| (inner - identity).abs())
        // Not `f64::max`, which would pass over what is no number.
        .fold(0.0, |worst: f64, off| {
            if worst >= off || worst.is_nan() {
                worst
            } else {
                off
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::{Address, Purpose};

    fn normals(count: usize, seed: u64) -> Vec<f64> {
        let address = Address {
            seed,
            purpose: Purpose::Training,
            step: 0,
            draw: 0,
        };
        let mut normals = vec![0.0; count];
        address.fill("matrix", &mut normals);
        normals.into_iter().map(f64::from).collect()
    }

    /// V diag(values) Vᵀ.
    fn of_eigenvalues(values: &[f64], vectors: &[f64]) -> Vec<f64> {
        let n = values.len();
        let entry = |at: usize| {
            (0..n)
                .map(|i| values[i] * vectors[at / n * n + i] * vectors[at % n * n + i])
                .sum()
        };
        (0..n * n).map(entry).collect()
    }

    fn close(found: &[f64], expected: &[f64], by: f64) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < by, "{found} is not {expected}");
        }
    }

    #[test]
    fn vectors_are_orthonormal_and_make_the_matrix_again() {
        for n in [1, 2, 8] {
            let half = normals(n * n, n as u64);
            let matrix: Vec<f64> = (0..n * n)
                .map(|at| half[at] + half[at % n * n + at / n])
                .collect();
            let (values, vectors) = eigenvectors(matrix.clone(), n);
            assert!(departure_from_orthonormal(&vectors, n) < 1e-12);
            close(&of_eigenvalues(&values, &vectors), &matrix, 1e-11);
            let sorted = sorted_eigenvectors(matrix.clone(), n);
            let turned = transposed_product(&sorted, &multiply(&matrix, &sorted, n), n);
            assert!((1..n).all(|i| turned[i * n + i] <= turned[(i - 1) * n + i - 1]));
        }
        assert_eq!(eigenvectors(vec![0.0; 4], 2).0, [0.0, 0.0]);
    }

    #[test]
    fn the_orthonormal_factor_turns_a_matrix_into_a_triangle_without_negative_diagonal() {
        for n in [1, 2, 5, 16] {
            let matrix = normals(n * n, n as u64);
            let q = orthonormal(matrix.clone(), n);
            assert!(departure_from_orthonormal(&q, n) < 1e-13);
            let triangle = transposed_product(&q, &matrix, n);
            for (at, value) in triangle.iter().enumerate() {
                let (row, column) = (at / n, at % n);
                assert!(row <= column || value.abs() < 1e-13, "{row} {column}");
                assert!(row != column || *value > 0.0);
            }
        }
        // Columns that depend on each other, and none at all.
        for matrix in [vec![1.0; 9], vec![0.0; 9]] {
            assert!(departure_from_orthonormal(&orthonormal(matrix, 3), 3) < 1e-14);
        }
    }

    #[test]
    fn power_steps_lead_to_the_eigenvectors_in_descending_order() {
        let n = 4;
        let truth = orthonormal(normals(n * n, 3), n);
        let matrix = of_eigenvalues(&[8.0, 4.0, 2.0, 1.0], &truth);
        // From vectors in another order.
        let start: Vec<f64> = (0..n * n)
            .map(|at| truth[at / n * n + (at + 1) % n])
            .collect();
        assert!((0..n).all(|i| {
            transposed_product(&truth, &power_step(&matrix, &start, n), n)[i * n + i].abs() > 0.999
        }));
        let mut vectors = identity(n);
        for _ in 0..60 {
            vectors = power_step(&matrix, &vectors, n);
        }
        let aligned: Vec<f64> = transposed_product(&truth, &vectors, n)
            .iter()
            .map(|inner| inner.abs())
            .collect();
        close(&aligned, &identity(n), 1e-9);
    }

    #[test]
    fn directions_without_a_gradient_stay_as_they_were() {
        let n = 5;
        let truth = orthonormal(normals(n * n, 7), n);
        let matrix = of_eigenvalues(&[3.0, 1.0, 0.0, 0.0, 0.0], &truth);
        close(&power_step(&matrix, &truth, n), &truth, 1e-5);
    }

    #[test]
    fn what_is_not_orthonormal_is_told_by_how_much() {
        assert_eq!(departure_from_orthonormal(&[1.0, 0.0, 0.0, 2.0], 2), 3.0);
        assert!(departure_from_orthonormal(&[f64::NAN, 0.0, 0.0, 1.0], 2).is_nan());
    }
}

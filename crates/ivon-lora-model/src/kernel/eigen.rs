//! Eigenvectors of small symmetric matrices (as large as an adapter's rank), by Jacobi rotations in
//! f64.

/// Eigenvalues and orthonormal eigenvectors of a symmetric matrix `[n²]`, vector i in column i (`[k
/// * n + i]`).
pub fn eigenvectors(mut matrix: Vec<f64>, n: usize) -> (Vec<f64>, Vec<f64>) {
    let mut vectors = vec![0.0; n * n];
    (0..n).for_each(|i| vectors[i * n + i] = 1.0);
    let size: f64 = matrix.iter().map(|x| x * x).sum();
    // Convergence is quadratic: ten sweeps are more than enough for f64.
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

/// Rotates rows and columns p and q so that their common element becomes 0.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::golden_normals;

    #[test]
    fn vectors_are_orthonormal_and_make_the_matrix_again() {
        for n in [1, 2, 8] {
            let half = golden_normals(n as u64, n * n);
            let matrix: Vec<f64> = (0..n * n)
                .map(|at| half[at] + half[at % n * n + at / n])
                .collect();
            let (values, vectors) = eigenvectors(matrix.clone(), n);
            for a in 0..n {
                for b in 0..n {
                    let inner: f64 = (0..n)
                        .map(|k| vectors[k * n + a] * vectors[k * n + b])
                        .sum();
                    assert!((inner - f64::from(u8::from(a == b))).abs() < 1e-12);
                    let again: f64 = (0..n)
                        .map(|i| values[i] * vectors[a * n + i] * vectors[b * n + i])
                        .sum();
                    assert!((again - matrix[a * n + b]).abs() < 1e-11);
                }
            }
        }
        assert_eq!(eigenvectors(vec![0.0; 4], 2).0, [0.0, 0.0]);
    }
}

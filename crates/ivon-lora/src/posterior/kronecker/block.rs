//! The Kronecker factors of one parameter's curvature, by their leading eigenpairs.

use crate::lora::{HostMatrix, LoraError};
use crate::posterior::PosteriorError;

/// Leading eigenpairs of a positive semidefinite matrix `[n, n]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Eigenpairs {
    /// Eigenvalues, at least 0, `[k]`.
    pub values: Vec<f32>,
    /// Orthonormal eigenvectors as rows, `[k, n]`; a row of zeros stands for no eigenvector.
    pub vectors: HostMatrix,
}

impl Eigenpairs {
    /// The squares of the eigenvectors' entries, with the same eigenvalues.
    fn squares(&self) -> Self {
        let entries = self.vectors.values.iter();
        Self {
            values: self.values.clone(),
            vectors: HostMatrix {
                values: entries.map(|value| value * value).collect(),
                ..self.vectors
            },
        }
    }

    /// Checks shapes and eigenvalues for the side of a parameter that is `len` wide.
    fn check(&self, path: &str, len: usize) -> Result<(), PosteriorError> {
        let found = self.vectors.shape;
        let kept = self.values.len().clamp(1, len.max(1));
        if found != [kept, len]
            || self.values.len() != kept
            || self.vectors.values.len() != kept * len
        {
            return Err(LoraError::Shape {
                name: path.into(),
                expected: vec![kept, len],
                found: found.into(),
            }
            .into());
        }
        let is_wrong = |value: &&f32| !(value.is_finite() && **value >= 0.0);
        match self.values.iter().find(is_wrong) {
            None => Ok(()),
            Some(&found) => Err(PosteriorError::Eigenvalue {
                path: path.into(),
                found,
            }),
        }
    }
}

/// The two factors of the curvature of a parameter matrix `[m, n]`.
#[derive(Clone, Debug, PartialEq)]
pub struct KroneckerBlock {
    /// Over its rows, `[m, m]`.
    pub rows: Eigenpairs,
    /// Over its columns, `[n, n]`.
    pub columns: Eigenpairs,
}

impl KroneckerBlock {
    /// The eigenvalues of H that are kept, `[p · q]`; all others are taken as 0.
    pub fn eigenvalues(&self) -> Vec<f64> {
        let columns = &self.columns.values;
        self.rows
            .values
            .iter()
            .flat_map(|l| columns.iter().map(move |r| f64::from(*l) * f64::from(*r)))
            .collect()
    }

    /// C = Uᵀ G V `[p, q]` and R = G − U C Vᵀ `[m, n]` of a matrix G `[m, n]`.
    pub(super) fn split(&self, matrix: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let [[p, m], [q, n]] = [self.rows.vectors.shape, self.columns.vectors.shape];
        let mut turned = vec![0.0; p * n];
        for (row, turned) in turned.chunks_exact_mut(n.max(1)).enumerate() {
            for (k, from) in matrix.chunks_exact(n.max(1)).enumerate() {
                let factor = f64::from(self.rows.vectors.values[row * m + k]);
                let pairs = turned.iter_mut().zip(from);
                pairs.for_each(|(sum, value)| *sum += factor * value);
            }
        }
        let inner = |at: usize| {
            let row = &turned[at / q * n..][..n];
            let vector = &self.columns.vectors.values[at % q * n..][..n];
            row.iter().zip(vector).map(|(a, b)| a * f64::from(*b)).sum()
        };
        let coefficients: Vec<f64> = (0..p * q).map(inner).collect();
        let rest = self
            .lift(&coefficients)
            .iter()
            .zip(matrix)
            .map(|(within, value)| value - within)
            .collect();
        (coefficients, rest)
    }

    /// U C Vᵀ `[m, n]` of C `[p, q]`.
    pub(super) fn lift(&self, coefficients: &[f64]) -> Vec<f64> {
        let [[p, m], [q, n]] = [self.rows.vectors.shape, self.columns.vectors.shape];
        let mut out = vec![0.0; m * n];
        for row in 0..p {
            let mut line = vec![0.0; n];
            for column in 0..q {
                let factor = coefficients[row * q + column];
                let vector = &self.columns.vectors.values[column * n..][..n];
                let pairs = line.iter_mut().zip(vector);
                pairs.for_each(|(sum, value)| *sum += factor * f64::from(*value));
            }
            for (k, out) in out.chunks_exact_mut(n.max(1)).enumerate() {
                let factor = f64::from(self.rows.vectors.values[row * m + k]);
                let pairs = out.iter_mut().zip(&line);
                pairs.for_each(|(sum, value)| *sum += factor * value);
            }
        }
        out
    }

    /// The variance of each weight, `[m, n]`: 1/λ minus what the curvature takes away, Σ u_i² v_j²
    /// (1/λ − 1/(l_i r_j + λ)).
    pub(super) fn variance(&self, precision: f64) -> Vec<f64> {
        let squares = Self {
            rows: self.rows.squares(),
            columns: self.columns.squares(),
        };
        let eigenvalues = self.eigenvalues().into_iter();
        let taken: Vec<f64> = eigenvalues
            .map(|h| 1.0 / precision - 1.0 / (h + precision))
            .collect();
        let taken = squares.lift(&taken).into_iter();
        taken
            .map(|taken| (1.0 / precision - taken).max(0.0))
            .collect()
    }

    /// The shape of its parameter, `[m, n]`.
    pub(super) fn shape(&self) -> [usize; 2] {
        [self.rows.vectors.shape[1], self.columns.vectors.shape[1]]
    }

    /// Checks it against the shape of its parameter.
    pub(super) fn check(&self, path: &str, shape: [usize; 2]) -> Result<(), PosteriorError> {
        self.rows.check(path, shape[0])?;
        self.columns.check(path, shape[1])
    }
}

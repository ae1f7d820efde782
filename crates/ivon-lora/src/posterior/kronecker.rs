//! Laplace's approximation with a Kronecker-factored precision (Laplace-LoRA, arXiv 2308.13111,
//! section 3.2).
//!
//! The precision of a parameter matrix `[m, n]` is H + λ with H = (U diag(l) Uᵀ) ⊗ (V diag(r) Vᵀ):
//! the rows' directions U `[m, p]` and the columns' V `[n, q]`, of which a wide side has only the
//! leading ones. In these directions a weight has the variance 1/(l_i r_j + λ), in all others the
//! prior's 1/λ. No covariance is ever formed: a matrix G is split into C = Uᵀ G V and the rest R =
//! G − U C Vᵀ.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData};

use super::gaussian::{moved, noise_address, only_kept};
use super::{
    Draw, LaplacePrediction, Linearised, LinearisedForm, Posterior, PosteriorError, Stored,
    StoredKind,
};
use crate::lora::{Adapter, HostMatrix, LoraError, peft_name};
use crate::model::DecoderConfig;

/// The tag of its file.
const CONTENT: &str = "laplace-kronecker";

/// Its kind.
pub(super) const KIND: StoredKind = StoredKind {
    tag: CONTENT,
    words: "Laplace's approximation with Kronecker factors: the weights of a matrix vary together",
    has_variances: false,
    has_sides: false,
    restore: |mean, stored, decoder, device| {
        Ok(Box::new(KroneckerLaplace::from_stored(
            mean, stored, decoder, device,
        )?))
    },
};
/// What its file holds of each random parameter, behind these prefixes.
const PARTS: [&str; 4] = [
    "row_values.",
    "row_vectors.",
    "column_values.",
    "column_vectors.",
];

/// The prefix of ones and zeros for its weights, where some are pruned.
const KEPT: &str = "kept.";

/// Leading eigenpairs of a symmetric matrix `[n, n]` without negative eigenvalues.
#[derive(Clone, Debug, PartialEq)]
pub struct Eigenpairs {
    /// Eigenvalues, at least 0, `[k]`.
    pub values: Vec<f32>,
    /// Orthonormal eigenvectors as rows, `[k, n]`; a row of zeros stands for none.
    pub vectors: HostMatrix,
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
    /// The eigenvalues of H that are kept, `[p · q]`; all others count as 0.
    pub fn eigenvalues(&self) -> Vec<f64> {
        let columns = &self.columns.values;
        self.rows
            .values
            .iter()
            .flat_map(|l| columns.iter().map(move |r| f64::from(*l) * f64::from(*r)))
            .collect()
    }

    /// C = Uᵀ G V `[p, q]` and R = G − U C Vᵀ `[m, n]` of a matrix G `[m, n]`.
    fn split(&self, matrix: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let [[p, m], [q, n]] = [self.rows.vectors.shape, self.columns.vectors.shape];
        let mut turned = vec![0.0; p * n];
        for (row, turned) in turned.chunks_exact_mut(n.max(1)).enumerate() {
            for (k, from) in matrix.chunks_exact(n.max(1)).enumerate() {
                let factor = f64::from(self.rows.vectors.values[row * m + k]);
                turned
                    .iter_mut()
                    .zip(from)
                    .for_each(|(sum, value)| *sum += factor * value);
            }
        }
        let inner = |at: usize| {
            let (row, vector) = (
                &turned[at / q * n..][..n],
                &self.columns.vectors.values[at % q * n..][..n],
            );
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
    fn lift(&self, coefficients: &[f64]) -> Vec<f64> {
        let [[p, m], [q, n]] = [self.rows.vectors.shape, self.columns.vectors.shape];
        let mut out = vec![0.0; m * n];
        for row in 0..p {
            let mut line = vec![0.0; n];
            for column in 0..q {
                let (factor, vector) = (
                    coefficients[row * q + column],
                    &self.columns.vectors.values[column * n..][..n],
                );
                line.iter_mut()
                    .zip(vector)
                    .for_each(|(sum, value)| *sum += factor * f64::from(*value));
            }
            for (k, out) in out.chunks_exact_mut(n.max(1)).enumerate() {
                let factor = f64::from(self.rows.vectors.values[row * m + k]);
                out.iter_mut()
                    .zip(&line)
                    .for_each(|(sum, value)| *sum += factor * value);
            }
        }
        out
    }

    /// The variance of each weight, `[m, n]`: 1/λ less what the curvature takes, Σ u_i² v_j² (1/λ −
    /// 1/(l_i r_j + λ)).
    fn variance(&self, precision: f64) -> Vec<f64> {
        let square = |pairs: &Eigenpairs| {
            let values = pairs
                .vectors
                .values
                .iter()
                .map(|value| value * value)
                .collect();
            Eigenpairs {
                values: pairs.values.clone(),
                vectors: HostMatrix {
                    values,
                    ..pairs.vectors
                },
            }
        };
        let squares = Self {
            rows: square(&self.rows),
            columns: square(&self.columns),
        };
        let taken: Vec<f64> = self
            .eigenvalues()
            .iter()
            .map(|h| 1.0 / precision - 1.0 / (h + precision))
            .collect();
        squares
            .lift(&taken)
            .iter()
            .map(|taken| (1.0 / precision - taken).max(0.0))
            .collect()
    }

    /// `[m, n]`.
    fn shape(&self) -> [usize; 2] {
        [self.rows.vectors.shape[1], self.columns.vectors.shape[1]]
    }

    /// Checks it against its parameter's shape.
    fn check(&self, path: &str, shape: [usize; 2]) -> Result<(), PosteriorError> {
        for (pairs, len) in [(&self.rows, shape[0]), (&self.columns, shape[1])] {
            let found = pairs.vectors.shape;
            let kept = pairs.values.len().clamp(1, len.max(1));
            if found != [kept, len]
                || pairs.values.len() != kept
                || pairs.vectors.values.len() != kept * len
            {
                return Err(LoraError::Shape {
                    name: path.into(),
                    expected: vec![kept, len],
                    found: found.into(),
                }
                .into());
            }
            if let Some(&found) = pairs
                .values
                .iter()
                .find(|value| !(value.is_finite() && **value >= 0.0))
            {
                return Err(PosteriorError::Eigenvalue {
                    path: path.into(),
                    found,
                });
            }
        }
        Ok(())
    }
}

/// A mean, and the curvature of each random parameter by its path.
#[derive(Clone, Debug)]
pub struct KroneckerLaplace {
    mean: Adapter,
    variance: Adapter,
    /// The lowest layer with a random parameter.
    first_layer: usize,
    /// The paths and sizes of all parameters, in the adapter's order.
    parameters: Vec<(String, usize)>,
    blocks: BTreeMap<String, KroneckerBlock>,
    /// By a random parameter's path, where some of its weights are fixed at 0: 0 for these, 1 for
    /// the others.
    kept: BTreeMap<String, HostMatrix>,
    precision: f64,
    prediction: LaplacePrediction,
    facts: BTreeMap<String, String>,
}

impl KroneckerLaplace {
    /// A posterior around `mean` with the prior precision λ; parameters without a block are fixed.
    ///
    /// # Errors
    /// If λ is not a finite number above 0, or a block belongs to no parameter or to one of another
    /// shape.
    pub fn new(
        mean: Adapter,
        blocks: BTreeMap<String, KroneckerBlock>,
        precision: f64,
        prediction: LaplacePrediction,
    ) -> Result<Self, PosteriorError> {
        if !(precision.is_finite() && precision > 0.0) {
            return Err(PosteriorError::Setting {
                setting: "prior_precision",
                expected: "a finite number above 0",
                found: precision,
            });
        }
        let shapes: BTreeMap<String, [usize; 2]> = mean
            .parameters()
            .map(|(path, parameter)| (path, parameter.lazy_shape().dims()))
            .collect();
        for (path, block) in &blocks {
            let shape = shapes.get(path).ok_or_else(|| LoraError::UnknownTensor {
                path: "the adapter".into(),
                name: path.clone(),
                reason: "the mean has no such parameter".into(),
            })?;
            block.check(path, *shape)?;
        }
        let variance = mean.clone_with(|path, tensor| {
            let values = match blocks.get(path) {
                Some(block) => block
                    .variance(precision)
                    .into_iter()
                    .map(|value| value as f32)
                    .collect(),
                None => vec![0.0; tensor.dims().iter().product()],
            };
            Tensor::from_data(TensorData::new(values, tensor.dims()), &tensor.device())
        });
        let parameters = mean
            .parameters()
            .map(|(path, parameter)| (path, parameter.lazy_shape().num_elements()))
            .collect();
        let first_layer = variance.first_layer_other_than_zero()?;
        let (kept, facts) = Default::default();
        Ok(Self {
            mean,
            variance,
            first_layer,
            parameters,
            blocks,
            kept,
            precision,
            prediction,
            facts,
        })
    }

    /// With the weights fixed at 0 whose number in `kept` is 0.
    ///
    /// # Errors
    /// If a matrix belongs to no random parameter, or to one of another shape.
    fn with_kept(self, kept: BTreeMap<String, HostMatrix>) -> Result<Self, PosteriorError> {
        for (path, matrix) in &kept {
            let expected = self
                .blocks
                .get(path)
                .map(KroneckerBlock::shape)
                .unwrap_or_default();
            if matrix.shape != expected {
                let (expected, found) = (expected.into(), matrix.shape.into());
                return Err(LoraError::Shape {
                    name: path.clone(),
                    expected,
                    found,
                }
                .into());
            }
        }
        let of = |(path, len): &(String, usize)| match kept.get(path) {
            Some(matrix) => matrix.values.iter().map(|value| *value != 0.0).collect(),
            None => vec![true; *len],
        };
        let all: Vec<bool> = self.parameters.iter().flat_map(of).collect();
        let (mean, variance) = (
            only_kept(&self.mean, &all)?,
            only_kept(&self.variance, &all)?,
        );
        let first_layer = variance.first_layer_other_than_zero()?;
        Ok(Self {
            mean,
            variance,
            first_layer,
            kept,
            ..self
        })
    }

    /// With a fact that its file shall hold.
    pub fn with_fact(mut self, key: &str, value: impl ToString) -> Self {
        self.facts.insert(key.into(), value.to_string());
        self
    }

    fn from_stored(
        mean: Adapter,
        stored: &Stored,
        _: &DecoderConfig,
        _: &Device,
    ) -> Result<Self, PosteriorError> {
        let prediction = LaplacePrediction::from_stored(stored)?;
        let precision = stored.number("prior_precision", "a number")?;
        let mut matrices = stored.matrices.clone();
        let (mut blocks, mut kept) = (BTreeMap::new(), BTreeMap::new());
        for (path, _) in mean.parameters() {
            let names = PARTS.map(|part| format!("{part}{}", peft_name(&path)));
            if names.iter().all(|name| !matrices.contains_key(name)) {
                continue;
            }
            let mut take = |name: &String| {
                let missing = || LoraError::MissingTensor {
                    path: stored.path.clone(),
                    name: name.clone(),
                };
                matrices.remove(name).ok_or_else(missing)
            };
            let [row_values, row_vectors, column_values, column_vectors] = &names;
            let rows = Eigenpairs {
                values: take(row_values)?.values,
                vectors: take(row_vectors)?,
            };
            let columns = Eigenpairs {
                values: take(column_values)?.values,
                vectors: take(column_vectors)?,
            };
            if let Some(matrix) = matrices.remove(&format!("{KEPT}{}", peft_name(&path))) {
                kept.insert(path.clone(), matrix);
            }
            blocks.insert(path, KroneckerBlock { rows, columns });
        }
        if let Some(name) = matrices.into_keys().next() {
            let reason = "it is no factor of a parameter of the mean".into();
            return Err(LoraError::UnknownTensor {
                path: stored.path.clone(),
                name,
                reason,
            }
            .into());
        }
        let laplace = Self::new(mean, blocks, precision, prediction)?;
        Self {
            facts: stored.facts.clone(),
            ..laplace
        }
        .with_kept(kept)
    }
}

impl Posterior for KroneckerLaplace {
    /// Draw `sample` under `seed`: mean + √τ (R/√λ + U (C ⊙ (l rᵀ + λ)^−½) Vᵀ), with C and R of
    /// standard normals at the addresses of [`Gaussian`](super::Gaussian)'s draws.
    fn draw(&self, sample: u64, seed: u64, scale: f64) -> Result<Draw, PosteriorError> {
        let Some(address) = noise_address(sample, seed, scale)? else {
            return Ok(Draw::of(self.mean.clone()));
        };
        let adapter = moved(&self.mean, |path, mean| {
            let Some(block) = self.blocks.get(path) else {
                return;
            };
            let mut normals = vec![0.0; mean.values.len()];
            address.fill(path, &mut normals);
            let (mut within, rest) =
                block.split(&normals.into_iter().map(f64::from).collect::<Vec<_>>());
            within
                .iter_mut()
                .zip(block.eigenvalues())
                .for_each(|(c, h)| *c /= (h + self.precision).sqrt());
            for ((value, within), rest) in mean.values.iter_mut().zip(block.lift(&within)).zip(rest)
            {
                *value = (f64::from(*value)
                    + scale.sqrt() * (within + rest / self.precision.sqrt()))
                    as f32;
            }
            if let Some(kept) = self.kept.get(path) {
                mean.values
                    .iter_mut()
                    .zip(&kept.values)
                    .for_each(|(value, kept)| *value *= kept);
            }
        })?;
        Ok(Draw::of(adapter))
    }

    fn mean(&self) -> &Adapter {
        &self.mean
    }

    /// The diagonal of the covariance.
    fn variance(&self) -> Option<&Adapter> {
        Some(&self.variance)
    }

    fn pruned(&self, kept: &[bool]) -> Result<Box<dyn Posterior>, PosteriorError> {
        let mean = only_kept(&self.mean, kept)?;
        let mut kept = kept.iter();
        let mut factors = BTreeMap::new();
        for (path, len) in &self.parameters {
            let own = kept
                .by_ref()
                .take(*len)
                .map(|kept| f32::from(u8::from(*kept)));
            let mut values: Vec<f32> = own.collect();
            let Some(block) = self.blocks.get(path) else {
                continue;
            };
            if let Some(before) = self.kept.get(path) {
                values
                    .iter_mut()
                    .zip(&before.values)
                    .for_each(|(value, before)| *value *= before);
            }
            factors.insert(
                path.clone(),
                HostMatrix {
                    shape: block.shape(),
                    values,
                },
            );
        }
        Ok(Box::new(
            Self {
                mean,
                ..self.clone()
            }
            .with_kept(factors)?,
        ))
    }

    fn stored(&self) -> Result<Option<Stored>, PosteriorError> {
        let stored = Stored {
            facts: self.facts.clone(),
            ..Stored::new(CONTENT)
        };
        let mut stored = stored
            .with("prediction", self.prediction.name())
            .with("prior_precision", self.precision);
        for (path, KroneckerBlock { rows, columns }) in &self.blocks {
            let values = |pairs: &Eigenpairs| HostMatrix {
                shape: [1, pairs.values.len()],
                values: pairs.values.clone(),
            };
            let parts = [
                values(rows),
                rows.vectors.clone(),
                values(columns),
                columns.vectors.clone(),
            ];
            stored.matrices.extend(
                PARTS
                    .iter()
                    .zip(parts)
                    .map(|(part, matrix)| (format!("{part}{}", peft_name(path)), matrix)),
            );
        }
        let kept = |(path, matrix): (&String, &HostMatrix)| {
            (format!("{KEPT}{}", peft_name(path)), matrix.clone())
        };
        stored.matrices.extend(self.kept.iter().map(kept));
        Ok(Some(stored))
    }

    fn linearised(&self) -> Option<&dyn Linearised> {
        (self.prediction != LaplacePrediction::Weights).then_some(self)
    }
}

impl Linearised for KroneckerLaplace {
    fn covariance(&self, jacobian: &[Vec<f32>]) -> Result<Vec<f64>, PosteriorError> {
        let count = jacobian.len();
        let mut covariance = vec![0.0; count * count];
        let mut start = 0;
        for (path, len) in &self.parameters {
            let place = start..start + len;
            start += len;
            let Some(block) = self.blocks.get(path) else {
                continue;
            };
            let inverse: Vec<f64> = block
                .eigenvalues()
                .iter()
                .map(|h| 1.0 / (h + self.precision))
                .collect();
            let matrix = |row: &Vec<f32>| -> Vec<f64> {
                let own = row.get(place.clone()).unwrap_or_default().iter();
                match self.kept.get(path) {
                    None => own.map(|value| f64::from(*value)).collect(),
                    Some(kept) => own
                        .zip(&kept.values)
                        .map(|(value, kept)| f64::from(value * kept))
                        .collect(),
                }
            };
            let split: Vec<(Vec<f64>, Vec<f64>)> = jacobian
                .iter()
                .map(|row| block.split(&matrix(row)))
                .collect();
            for (at, entry) in covariance.iter_mut().enumerate() {
                let ((a, rest_a), (b, rest_b)) = (&split[at / count], &split[at % count]);
                let within: f64 = a
                    .iter()
                    .zip(b)
                    .zip(&inverse)
                    .map(|((a, b), inverse)| a * b * inverse)
                    .sum();
                let rest: f64 = rest_a.iter().zip(rest_b).map(|(a, b)| a * b).sum();
                *entry += within + rest / self.precision;
            }
        }
        Ok(covariance)
    }

    fn first_layer(&self) -> usize {
        self.first_layer
    }

    fn form(&self) -> LinearisedForm {
        self.prediction.form()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::golden_normals;
    use crate::testing::tiny::{adapter, decoder};

    const PATH: &str = "layers.0.self_attn.q_proj.lora_A";
    const PRECISION: f64 = 0.7;

    /// Orthonormal rows `[k, n]` by Gram and Schmidt.
    fn orthonormal(seed: u64, k: usize, n: usize) -> HostMatrix {
        let mut rows: Vec<Vec<f64>> = Vec::new();
        for row in golden_normals(seed, k * n).chunks(n) {
            let mut row = row.to_vec();
            for other in &rows {
                let inner: f64 = row.iter().zip(other).map(|(a, b)| a * b).sum();
                row.iter_mut().zip(other).for_each(|(a, b)| *a -= inner * b);
            }
            let norm = row.iter().map(|a| a * a).sum::<f64>().sqrt();
            rows.push(row.into_iter().map(|a| a / norm).collect());
        }
        HostMatrix {
            shape: [k, n],
            values: rows
                .concat()
                .into_iter()
                .map(|value| value as f32)
                .collect(),
        }
    }

    /// A of rank 4 on 32 inputs: all four directions of its rows, three of its columns.
    fn laplace(prediction: LaplacePrediction) -> KroneckerLaplace {
        let rows = Eigenpairs {
            values: vec![3.0, 1.0, 0.5, 0.0],
            vectors: orthonormal(1, 4, 4),
        };
        let columns = Eigenpairs {
            values: vec![2.0, 1.0, 0.1],
            vectors: orthonormal(2, 3, 32),
        };
        let blocks = BTreeMap::from([(PATH.to_string(), KroneckerBlock { rows, columns })]);
        KroneckerLaplace::new(adapter(1, "q_proj"), blocks, PRECISION, prediction).unwrap()
    }

    /// H `[128²]`, by its definition.
    fn curvature(laplace: &KroneckerLaplace) -> Vec<f64> {
        let KroneckerBlock { rows, columns } = &laplace.blocks[PATH];
        let factor = |pairs: &Eigenpairs, a: usize, b: usize| -> f64 {
            let n = pairs.vectors.shape[1];
            let term = |(k, value): (usize, &f32)| {
                f64::from(value * pairs.vectors.values[k * n + a] * pairs.vectors.values[k * n + b])
            };
            pairs.values.iter().enumerate().map(term).sum()
        };
        (0..128 * 128)
            .map(|at| (at / 128, at % 128))
            .map(|(a, b)| factor(rows, a / 32, b / 32) * factor(columns, a % 32, b % 32))
            .collect()
    }

    #[test]
    fn the_covariance_of_logits_solves_the_precision() {
        // With g = (H + λ) x, the variance of gᵀ θ is gᵀ (H + λ)⁻¹ g = gᵀ x: no inverse is needed
        // to check it.
        let laplace = laplace(LaplacePrediction::Samples);
        let h = curvature(&laplace);
        let x = golden_normals(5, 256);
        let image = |x: &[f64]| -> Vec<f64> {
            (0..128)
                .map(|row| {
                    PRECISION * x[row] + (0..128).map(|k| h[row * 128 + k] * x[k]).sum::<f64>()
                })
                .collect()
        };
        let jacobian: Vec<Vec<f32>> = [&x[..128], &x[128..]]
            .map(|x| {
                image(x)
                    .into_iter()
                    .map(|value| value as f32)
                    .chain([9.0; 128])
                    .collect()
            })
            .into();
        let found = laplace.covariance(&jacobian).unwrap();
        for (at, found) in found.iter().enumerate() {
            let expected: f64 = (0..128)
                .map(|k| f64::from(jacobian[at / 2][k]) * x[at % 2 * 128 + k])
                .sum();
            // B, whose Jacobian is 9, is fixed.
            assert!((found - expected).abs() < 1e-4, "{at}: {found} {expected}");
        }
    }

    #[test]
    fn variances_are_the_diagonal_of_the_covariance() {
        let laplace = laplace(LaplacePrediction::Samples);
        let variance = laplace.variance().unwrap().flatten().unwrap();
        for place in [0, 31, 77, 127, 200] {
            let unit: Vec<f32> = (0..256)
                .map(|at| if at == place { 1.0 } else { 0.0 })
                .collect();
            let expected = laplace.covariance(&[unit]).unwrap()[0];
            assert!(
                (f64::from(variance[place]) - expected).abs() < 1e-5,
                "{place}"
            );
        }
    }

    #[test]
    fn draws_have_the_covariance_that_logits_are_given() {
        let laplace = laplace(LaplacePrediction::Weights);
        let mean = laplace.mean().flatten().unwrap();
        // A leading direction, and one across all weights.
        let block = &laplace.blocks[PATH];
        let leading: Vec<f32> = (0..128)
            .map(|at| block.rows.vectors.values[at / 32] * block.columns.vectors.values[at % 32])
            .chain([0.0; 128])
            .collect();
        for direction in [leading, vec![0.1; 256]] {
            let expected = 4.0
                * laplace
                    .covariance(std::slice::from_ref(&direction))
                    .unwrap()[0];
            let squares: f64 = (0..400)
                .map(|sample| {
                    let drawn = laplace
                        .draw(sample, 3, 4.0)
                        .unwrap()
                        .adapter
                        .flatten()
                        .unwrap();
                    let along =
                        |((drawn, mean), by): ((&f32, &f32), &f32)| f64::from((drawn - mean) * by);
                    drawn
                        .iter()
                        .zip(&mean)
                        .zip(&direction)
                        .map(along)
                        .sum::<f64>()
                        .powi(2)
                })
                .sum();
            // A χ² over 400 draws: relative standard error √(2/400) = 0.07.
            assert!(
                (squares / 400.0 / expected - 1.0).abs() < 0.3,
                "{squares} {expected}"
            );
        }
        assert!(laplace.linearised().is_none());
    }

    #[test]
    fn it_reads_back_and_what_is_wrong_with_a_file_is_named() {
        let before = laplace(LaplacePrediction::Probit);
        let stored = before.stored().unwrap().unwrap();
        assert_eq!(
            (stored.content.as_str(), stored.matrices.len()),
            (CONTENT, 4)
        );
        let read = |stored: &Stored| {
            KroneckerLaplace::from_stored(
                adapter(1, "q_proj"),
                stored,
                &decoder(1),
                &Device::flex(),
            )
        };
        let after = read(&stored).unwrap();
        assert_eq!(
            (after.blocks, after.precision, after.prediction),
            (before.blocks.clone(), PRECISION, LaplacePrediction::Probit)
        );
        let name = |part: usize| format!("{}{}", PARTS[part], peft_name(PATH));
        let refused = |change: &dyn Fn(&mut Stored)| {
            let mut other = stored.clone();
            change(&mut other);
            read(&other).err().unwrap().to_string()
        };
        assert!(
            refused(&|stored| drop(stored.matrices.remove(&name(2))))
                .starts_with("tensor `column_values.base_model")
        );
        let wide = |stored: &mut Stored| {
            drop(stored.matrices.insert(
                name(1),
                HostMatrix {
                    shape: [4, 5],
                    values: vec![0.0; 20],
                },
            ))
        };
        assert!(refused(&wide).ends_with("has shape [4, 5], expected [4, 4]"));
        let short = |stored: &mut Stored| {
            drop(stored.matrices.insert(
                name(0),
                HostMatrix {
                    shape: [1, 0],
                    values: vec![],
                },
            ))
        };
        assert!(refused(&short).ends_with("has shape [4, 4], expected [1, 4]"));
        let negative = |stored: &mut Stored| {
            drop(stored.matrices.insert(
                name(0),
                HostMatrix {
                    shape: [1, 4],
                    values: vec![-1.0; 4],
                },
            ))
        };
        assert!(
            refused(&negative).starts_with(&format!("an eigenvalue of `{PATH}` is -1, expected"))
        );
        let other = |stored: &mut Stored| {
            drop(stored.matrices.insert(
                "more".into(),
                HostMatrix {
                    shape: [1, 1],
                    values: vec![0.0],
                },
            ))
        };
        assert!(refused(&other).contains("tensor `more`"));
        assert!(
            refused(&|stored| drop(stored.facts.insert("prior_precision".into(), "0".into())))
                .starts_with("`prior_precision` must be")
        );
    }
}

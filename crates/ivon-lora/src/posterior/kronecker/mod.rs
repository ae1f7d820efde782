//! Laplace's approximation with a Kronecker-factored precision (Laplace-LoRA, arXiv 2308.13111,
//! section 3.2).
//!
//! The precision of a parameter matrix `[m, n]` is H + λ with H = (U diag(l) Uᵀ) ⊗ (V diag(r) Vᵀ),
//! where U `[m, p]` and V `[n, q]` are eigenvectors over the rows and the columns; of a wide side only
//! the leading ones are kept. Along u_i and v_j the variance is 1/(l_i r_j + λ), in all other
//! directions the prior's 1/λ. No covariance is ever formed: a matrix G is split into C = Uᵀ G V and
//! the rest R = G − U C Vᵀ.

mod block;

pub use block::{Eigenpairs, KroneckerBlock};

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData};

use super::noise::draw_by_noise;
use super::weights::{map_weights, only_kept};
use super::{
    Draw, LaplacePrediction, Linearised, LinearisedForm, Posterior, PosteriorError, Stored,
    StoredKind,
};
use crate::lora::{Adapter, HostMatrix, LoraError, peft_name};
use crate::model::DecoderConfig;

const CONTENT: &str = "laplace-kronecker";

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
/// The prefixes of the matrices that its file holds for each random parameter.
const PARTS: [&str; 4] = [
    "row_values.",
    "row_vectors.",
    "column_values.",
    "column_vectors.",
];
/// The prefix of a parameter's ones (kept) and zeros (pruned), where some weights are pruned.
const KEPT: &str = "kept.";

/// A mean, the curvature of each random parameter, and the prior precision.
#[derive(Clone, Debug)]
pub struct KroneckerLaplace {
    mean: Adapter,
    variance: Adapter,
    /// The lowest layer with a random parameter.
    first_layer: usize,
    /// The paths and sizes of all parameters, in the adapter's order.
    parameters: Vec<(String, usize)>,
    /// By path.
    blocks: BTreeMap<String, KroneckerBlock>,
    /// By path, for parameters with pruned weights: 0 for each of these, 1 for the others.
    kept: BTreeMap<String, HostMatrix>,
    precision: f64,
    prediction: LaplacePrediction,
    facts: BTreeMap<String, String>,
}

impl KroneckerLaplace {
    /// The posterior around `mean` with the prior precision λ; parameters without a block are fixed.
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
        check_blocks(&mean, &blocks)?;
        let variance = variances(&mean, &blocks, precision);
        let sizes = mean
            .parameters()
            .map(|(path, parameter)| (path, parameter.lazy_shape().num_elements()));
        Ok(Self {
            first_layer: variance.first_layer_other_than_zero()?,
            parameters: sizes.collect(),
            mean,
            variance,
            blocks,
            kept: BTreeMap::new(),
            precision,
            prediction,
            facts: BTreeMap::new(),
        })
    }

    /// The posterior with the weights fixed at 0 whose entry in `kept` is 0.
    ///
    /// # Errors
    /// If a matrix belongs to no random parameter, or to one of another shape.
    fn with_kept(self, kept: BTreeMap<String, HostMatrix>) -> Result<Self, PosteriorError> {
        for (path, matrix) in &kept {
            let block = self.blocks.get(path);
            let expected = block.map(KroneckerBlock::shape).unwrap_or_default();
            if matrix.shape != expected {
                return Err(LoraError::Shape {
                    name: path.clone(),
                    expected: expected.into(),
                    found: matrix.shape.into(),
                }
                .into());
            }
        }
        let of = |(path, len): &(String, usize)| match kept.get(path) {
            Some(matrix) => matrix.values.iter().map(|value| *value != 0.0).collect(),
            None => vec![true; *len],
        };
        let all: Vec<bool> = self.parameters.iter().flat_map(of).collect();
        let variance = only_kept(&self.variance, &all)?;
        Ok(Self {
            mean: only_kept(&self.mean, &all)?,
            first_layer: variance.first_layer_other_than_zero()?,
            variance,
            kept,
            ..self
        })
    }

    /// Adds a fact to its file.
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
            let Some(block) = take_block(&mut matrices, &path, stored)? else {
                continue;
            };
            if let Some(matrix) = matrices.remove(&format!("{KEPT}{}", peft_name(&path))) {
                kept.insert(path.clone(), matrix);
            }
            blocks.insert(path, block);
        }
        if let Some(name) = matrices.into_keys().next() {
            return Err(LoraError::UnknownTensor {
                path: stored.path.clone(),
                name,
                reason: "it is no factor of a parameter of the mean".into(),
            }
            .into());
        }
        let laplace = Self {
            facts: stored.facts.clone(),
            ..Self::new(mean, blocks, precision, prediction)?
        };
        laplace.with_kept(kept)
    }

    /// Multiplies weights that are pruned by 0.
    fn prune(&self, path: &str, weights: &mut [f32]) {
        if let Some(kept) = self.kept.get(path) {
            let pairs = weights.iter_mut().zip(&kept.values);
            pairs.for_each(|(value, kept)| *value *= kept);
        }
    }

    /// Adds to J Σ Jᵀ `[K²]` what one parameter contributes, whose columns of J are `jacobian`.
    fn add_covariance(
        &self,
        covariance: &mut [f64],
        block: &KroneckerBlock,
        jacobian: &[Vec<f64>],
    ) {
        let count = jacobian.len();
        let eigenvalues = block.eigenvalues().into_iter();
        let inverse: Vec<f64> = eigenvalues.map(|h| 1.0 / (h + self.precision)).collect();
        let split: Vec<_> = jacobian.iter().map(|row| block.split(row)).collect();
        for (at, entry) in covariance.iter_mut().enumerate() {
            let ((a, rest_a), (b, rest_b)) = (&split[at / count], &split[at % count]);
            let within = a.iter().zip(b).zip(&inverse);
            let within: f64 = within.map(|((a, b), inverse)| a * b * inverse).sum();
            let rest: f64 = rest_a.iter().zip(rest_b).map(|(a, b)| a * b).sum();
            *entry += within + rest / self.precision;
        }
    }
}

/// Checks that every block belongs to a parameter of the mean.
fn check_blocks(
    mean: &Adapter,
    blocks: &BTreeMap<String, KroneckerBlock>,
) -> Result<(), PosteriorError> {
    let shapes = mean
        .parameters()
        .map(|(path, parameter)| (path, parameter.lazy_shape().dims()));
    let shapes: BTreeMap<String, [usize; 2]> = shapes.collect();
    for (path, block) in blocks {
        let shape = shapes.get(path).ok_or_else(|| LoraError::UnknownTensor {
            path: "the adapter".into(),
            name: path.clone(),
            reason: "the mean has no such parameter".into(),
        })?;
        block.check(path, *shape)?;
    }
    Ok(())
}

/// The variance of every weight; 0 for parameters without a block.
fn variances(mean: &Adapter, blocks: &BTreeMap<String, KroneckerBlock>, precision: f64) -> Adapter {
    mean.clone_with(|path, tensor| {
        let values: Vec<f32> = match blocks.get(path) {
            Some(block) => {
                let variance = block.variance(precision).into_iter();
                variance.map(|value| value as f32).collect()
            }
            None => vec![0.0; tensor.dims().iter().product()],
        };
        Tensor::from_data(TensorData::new(values, tensor.dims()), &tensor.device())
    })
}

/// Takes the factors of a parameter out of `matrices`; none if it has none there.
///
/// # Errors
/// If it has some and not all of them.
fn take_block(
    matrices: &mut BTreeMap<String, HostMatrix>,
    path: &str,
    stored: &Stored,
) -> Result<Option<KroneckerBlock>, PosteriorError> {
    let names = PARTS.map(|part| format!("{part}{}", peft_name(path)));
    if names.iter().all(|name| !matrices.contains_key(name)) {
        return Ok(None);
    }
    let mut take = |name: &String| {
        let missing = || LoraError::MissingTensor {
            path: stored.path.clone(),
            name: name.clone(),
        };
        matrices.remove(name).ok_or_else(missing)
    };
    let [row_values, row_vectors, column_values, column_vectors] = &names;
    Ok(Some(KroneckerBlock {
        rows: Eigenpairs {
            values: take(row_values)?.values,
            vectors: take(row_vectors)?,
        },
        columns: Eigenpairs {
            values: take(column_values)?.values,
            vectors: take(column_vectors)?,
        },
    }))
}

/// The eigenvalues as a matrix with one row.
fn values_matrix(pairs: &Eigenpairs) -> HostMatrix {
    HostMatrix {
        shape: [1, pairs.values.len()],
        values: pairs.values.clone(),
    }
}

impl Posterior for KroneckerLaplace {
    /// Draw `sample` under `seed`: mean + √τ (R/√λ + U (C ⊙ (l rᵀ + λ)^−½) Vᵀ), with C and R of
    /// standard normals at the addresses of [`Gaussian`](super::Gaussian)'s draws.
    fn draw(&self, sample: u64, seed: u64, scale: f64) -> Result<Draw, PosteriorError> {
        draw_by_noise(&self.mean, sample, seed, scale, |noise| {
            map_weights(&self.mean, |path, mean| {
                let Some(block) = self.blocks.get(path) else {
                    return;
                };
                let normals = noise.normals(path, mean.values.len()).into_iter();
                let (mut within, rest) = block.split(&normals.map(f64::from).collect::<Vec<_>>());
                for (c, h) in within.iter_mut().zip(block.eigenvalues()) {
                    *c /= (h + self.precision).sqrt();
                }
                let noise = block.lift(&within).into_iter().zip(rest);
                for (value, (within, rest)) in mean.values.iter_mut().zip(noise) {
                    let noise = scale.sqrt() * (within + rest / self.precision.sqrt());
                    *value = (f64::from(*value) + noise) as f32;
                }
                self.prune(path, &mut mean.values);
            })
        })
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
        let mut kept = kept.iter().map(|kept| f32::from(u8::from(*kept)));
        let mut factors = BTreeMap::new();
        for (path, len) in &self.parameters {
            let mut values: Vec<f32> = kept.by_ref().take(*len).collect();
            let Some(block) = self.blocks.get(path) else {
                continue;
            };
            self.prune(path, &mut values);
            let shape = block.shape();
            factors.insert(path.clone(), HostMatrix { shape, values });
        }
        let pruned = Self {
            mean,
            ..self.clone()
        };
        Ok(Box::new(pruned.with_kept(factors)?))
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
            let parts = [
                values_matrix(rows),
                rows.vectors.clone(),
                values_matrix(columns),
                columns.vectors.clone(),
            ];
            let named = |(part, matrix)| (format!("{part}{}", peft_name(path)), matrix);
            stored.matrices.extend(PARTS.iter().zip(parts).map(named));
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
        let mut covariance = vec![0.0; jacobian.len() * jacobian.len()];
        let mut start = 0;
        for (path, len) in &self.parameters {
            let place = start..start + len;
            start += len;
            let Some(block) = self.blocks.get(path) else {
                continue;
            };
            let own = |row: &Vec<f32>| -> Vec<f64> {
                let mut own = row.get(place.clone()).unwrap_or_default().to_vec();
                self.prune(path, &mut own);
                own.into_iter().map(f64::from).collect()
            };
            let own: Vec<Vec<f64>> = jacobian.iter().map(own).collect();
            self.add_covariance(&mut covariance, block, &own);
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

//! A normal distribution whose weights are independent in a basis of their matrix's own: what EVON
//! (arXiv 2606.23357) learns.
//!
//! A matrix M `[m, n]` has the coordinates C = Q_Lᵀ M Q_R, with orthogonal Q_L `[m, m]` and Q_R
//! `[n, n]`, either of which may be absent (1). Each coordinate has its own variance V, so the
//! covariance of M's weights, row by row, is Q diag(V) Qᵀ with Q = Q_L ⊗ Q_R. It is never formed.

use std::collections::BTreeMap;

use burn::tensor::Device;
use ivon::symmetric::departure_from_orthonormal;

use super::noise::draw_by_noise;
use super::weights::{check_parameters, check_variance, map_weights, only_kept};
use super::{Draw, Posterior, PosteriorError, Stored, StoredKind};
use crate::lora::{Adapter, HostMatrix, LoraError, is_factor, peft_name};
use crate::model::DecoderConfig;

const CONTENT: &str = "rotated";

pub(super) const KIND: StoredKind = StoredKind {
    tag: CONTENT,
    words: "a normal distribution, each weight by itself in a basis of its matrix's own",
    has_variances: true,
    has_sides: false,
    restore: |mean, stored, decoder, device| {
        Ok(Box::new(Rotated::from_stored(
            mean, stored, decoder, device,
        )?))
    },
};

/// The prefix of the variances of the coordinates.
const COORDINATES: &str = "coordinates.";
/// The prefix of Q_L.
const LEFT: &str = "left.";
/// The prefix of Q_R.
const RIGHT: &str = "right.";
/// The prefix of ones (kept) and zeros (pruned), where some weights are pruned.
const KEPT: &str = "kept.";

/// The largest entry of |QᵀQ − 1| of a rotation; f32 leaves 1e-6.
const ORTHOGONAL: f64 = 1e-3;

/// The orthogonal matrices of one parameter `[m, n]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rotation {
    /// Q_L `[m, m]`, a vector of the basis in each column.
    pub left: Option<HostMatrix>,
    /// Q_R `[n, n]`, a vector of the basis in each column.
    pub right: Option<HostMatrix>,
}

impl Rotation {
    /// Q_L C Q_Rᵀ of coordinates C `[m, n]`, row by row.
    fn outward(&self, coordinates: &[f64], [m, n]: [usize; 2]) -> Vec<f64> {
        self.apply(coordinates, [m, n], |entry| entry)
    }

    /// The variances of the weights whose coordinates have these: (Q_L ∘ Q_L) V (Q_R ∘ Q_R)ᵀ.
    fn marginal(&self, variances: &[f64], [m, n]: [usize; 2]) -> Vec<f64> {
        self.apply(variances, [m, n], |entry| entry * entry)
    }

    /// L C Rᵀ, where `entry` gives L and R entry by entry from Q_L and Q_R.
    fn apply(&self, matrix: &[f64], [m, n]: [usize; 2], entry: fn(f64) -> f64) -> Vec<f64> {
        let mut values = matrix.to_vec();
        let entries = |q: &HostMatrix| -> Vec<f64> {
            q.values.iter().map(|q| entry(f64::from(*q))).collect()
        };
        if let Some(left) = self.left.as_ref().map(entries) {
            let mut turned = vec![0.0; m * n];
            for (left, turned) in left.chunks_exact(m).zip(turned.chunks_exact_mut(n)) {
                for (factor, row) in left.iter().zip(values.chunks_exact(n)) {
                    let pairs = turned.iter_mut().zip(row);
                    pairs.for_each(|(sum, value)| *sum += factor * value);
                }
            }
            values = turned;
        }
        if let Some(right) = self.right.as_ref().map(entries) {
            let row = |row: &[f64]| -> Vec<f64> {
                let inner = |right: &[f64]| right.iter().zip(row).map(|(a, b)| a * b).sum();
                right.chunks_exact(n).map(inner).collect()
            };
            values = values.chunks_exact(n).flat_map(row).collect();
        }
        values
    }

    /// Checks it against the shape of its parameter.
    fn check(&self, path: &str, shape: [usize; 2]) -> Result<(), PosteriorError> {
        for (matrix, width) in [(&self.left, shape[0]), (&self.right, shape[1])] {
            let Some(matrix) = matrix else { continue };
            if matrix.shape != [width; 2] || matrix.values.len() != width * width {
                return Err(LoraError::Shape {
                    name: path.into(),
                    expected: vec![width; 2],
                    found: matrix.shape.into(),
                }
                .into());
            }
            let values: Vec<f64> = matrix.values.iter().map(|q| f64::from(*q)).collect();
            let found = departure_from_orthonormal(&values, width);
            if found.is_nan() || found > ORTHOGONAL {
                return Err(PosteriorError::Rotation {
                    path: path.into(),
                    found,
                });
            }
        }
        Ok(())
    }
}

/// A mean, the variances of the coordinates, and the way from these to the weights.
#[derive(Clone, Debug)]
pub struct Rotated {
    mean: Adapter,
    /// Of the weights.
    variance: Adapter,
    /// The variances of the coordinates, where the mean has weights.
    coordinates: Adapter,
    /// By path.
    rotations: BTreeMap<String, Rotation>,
    /// Where weights are pruned: 0 for each of these, 1 for the others.
    kept: Option<Adapter>,
    facts: BTreeMap<String, String>,
}

impl Rotated {
    /// The posterior around `mean`: `coordinates` holds the variances V of the coordinates in the
    /// basis of each parameter's rotation; without one it is the basis of the weights.
    ///
    /// # Errors
    /// If names or shapes differ, a variance is negative or not finite, or a rotation is not
    /// orthogonal or belongs to no parameter.
    pub fn new(
        mean: Adapter,
        coordinates: Adapter,
        rotations: BTreeMap<String, Rotation>,
    ) -> Result<Self, PosteriorError> {
        check_parameters("the variance", &mean, &coordinates)?;
        check_variance(&coordinates)?;
        let shapes = mean
            .parameters()
            .map(|(path, parameter)| (path, parameter.lazy_shape().dims()));
        let shapes: BTreeMap<String, [usize; 2]> = shapes.collect();
        for (path, rotation) in &rotations {
            let shape = shapes.get(path).ok_or_else(|| LoraError::UnknownTensor {
                path: "the adapter".into(),
                name: path.clone(),
                reason: "the mean has no such parameter".into(),
            })?;
            rotation.check(path, *shape)?;
        }
        let variance = map_weights(&coordinates, |path, matrix| {
            if let Some(rotation) = rotations.get(path) {
                matrix.values = marginal(rotation, matrix);
            }
        })?;
        Ok(Self {
            mean,
            variance,
            coordinates,
            rotations,
            kept: None,
            facts: BTreeMap::new(),
        })
    }

    /// Adds a fact to its file.
    pub fn with_fact(mut self, key: &str, value: impl ToString) -> Self {
        self.facts.insert(key.into(), value.to_string());
        self
    }

    /// The posterior with the weights fixed at 0 whose entry in `mask` is 0.
    fn with_kept(self, mask: Adapter) -> Result<Self, PosteriorError> {
        check_parameters("the pruned weights", &self.mean, &mask)?;
        let kept: Vec<bool> = mask.flatten()?.iter().map(|kept| *kept != 0.0).collect();
        Ok(Self {
            mean: only_kept(&self.mean, &kept)?,
            variance: only_kept(&self.variance, &kept)?,
            kept: Some(mask),
            ..self
        })
    }

    fn from_stored(
        mean: Adapter,
        stored: &Stored,
        decoder: &DecoderConfig,
        device: &Device,
    ) -> Result<Self, PosteriorError> {
        let scaling = &mean.scaling;
        let adapter = |prefix: &str| stored.adapter(prefix, scaling, decoder, device);
        let coordinates = adapter(COORDINATES)?;
        let pruned = stored.matrices.keys().any(|name| name.starts_with(KEPT));
        let kept = pruned.then(|| adapter(KEPT)).transpose()?;
        let rotations = rotations(&mean, stored)?;
        let rotated = Self {
            facts: stored.facts.clone(),
            ..Self::new(mean, coordinates, rotations)?
        };
        match kept {
            Some(kept) => rotated.with_kept(kept),
            None => Ok(rotated),
        }
    }
}

fn marginal(rotation: &Rotation, variances: &HostMatrix) -> Vec<f32> {
    let values: Vec<f64> = variances.values.iter().map(|v| f64::from(*v)).collect();
    let marginal = rotation.marginal(&values, variances.shape).into_iter();
    marginal.map(|variance| variance as f32).collect()
}

/// The rotations of a file.
///
/// # Errors
/// If the file has a matrix that is nothing of this kind.
fn rotations(
    mean: &Adapter,
    stored: &Stored,
) -> Result<BTreeMap<String, Rotation>, PosteriorError> {
    let matrix = |prefix: &str, path: &str| {
        let name = format!("{prefix}{}", peft_name(path));
        stored.matrices.get(&name).cloned()
    };
    let rotation = |path: String| {
        let rotation = Rotation {
            left: matrix(LEFT, &path),
            right: matrix(RIGHT, &path),
        };
        (path, rotation)
    };
    let turned = |(_, rotation): &(String, Rotation)| *rotation != Rotation::default();
    let found: BTreeMap<String, Rotation> = mean
        .parameters()
        .map(|(path, _)| rotation(path))
        .filter(turned)
        .collect();
    let known = |name: &&String| {
        let turns = |prefix: &str| {
            let end = name.strip_prefix(prefix);
            end.is_some_and(|end| found.keys().any(|path| peft_name(path) == end))
        };
        name.starts_with(COORDINATES) || name.starts_with(KEPT) || turns(LEFT) || turns(RIGHT)
    };
    match stored.matrices.keys().find(|name| !known(name)) {
        Some(name) => Err(LoraError::UnknownTensor {
            path: stored.path.clone(),
            name: name.clone(),
            reason: "it turns no parameter of the mean".into(),
        }
        .into()),
        None => Ok(found),
    }
}

/// The variance of each weight under the weight's own name, from the matrices of a file of this
/// kind.
pub(super) fn weight_variances(
    matrices: &BTreeMap<String, HostMatrix>,
) -> BTreeMap<String, HostMatrix> {
    let of = |(name, variances): (&String, &HostMatrix)| {
        let name = name
            .strip_prefix(COORDINATES)
            .filter(|name| is_factor(name))?;
        let matrix = |prefix: &str, width: usize| {
            let matrix = matrices.get(&format!("{prefix}{name}")).cloned();
            matrix.filter(|matrix| matrix.shape == [width; 2])
        };
        let [m, n] = variances.shape;
        let rotation = Rotation {
            left: matrix(LEFT, m),
            right: matrix(RIGHT, n),
        };
        let kept = matrices.get(&format!("{KEPT}{name}"));
        let mut values = marginal(&rotation, variances);
        if let Some(kept) = kept {
            let pairs = values.iter_mut().zip(&kept.values);
            pairs.for_each(|(value, kept)| *value *= kept);
        }
        let shape = variances.shape;
        Some((name.to_string(), HostMatrix { shape, values }))
    };
    matrices.iter().filter_map(of).collect()
}

impl Posterior for Rotated {
    /// Draw `sample` under `seed`: mean + Q_L (√(τ V) ∘ z) Q_Rᵀ, with the z of
    /// [`Gaussian`](super::Gaussian)'s draws. It is computed on the host in f64, so that it is the
    /// same on every device.
    fn draw(&self, sample: u64, seed: u64, scale: f64) -> Result<Draw, PosteriorError> {
        draw_by_noise(&self.mean, sample, seed, scale, |noise| {
            let mut variances = self.coordinates.to_matrices()?.into_iter();
            let kept = self.kept.as_ref().map(Adapter::to_matrices).transpose()?;
            let mut kept = kept.into_iter().flatten();
            map_weights(&self.mean, |path, mean| {
                let Some((_, variance)) = variances.next() else {
                    return;
                };
                let normals = noise.normals(path, mean.values.len());
                let pairs = variance.values.iter().zip(normals);
                let mut moved: Vec<f64> = pairs
                    .map(|(&variance, z)| (scale * f64::from(variance)).sqrt() * f64::from(z))
                    .collect();
                if let Some(rotation) = self.rotations.get(path) {
                    moved = rotation.outward(&moved, mean.shape);
                }
                for (value, moved) in mean.values.iter_mut().zip(moved) {
                    *value += moved as f32;
                }
                if let Some((_, kept)) = kept.next() {
                    let pairs = mean.values.iter_mut().zip(&kept.values);
                    pairs.for_each(|(value, kept)| *value *= kept);
                }
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
        let ones = || self.mean.clone_with(|_, tensor| tensor.ones_like());
        let before = self.kept.clone().unwrap_or_else(ones);
        let mask = only_kept(&before, kept)?;
        Ok(Box::new(self.clone().with_kept(mask)?))
    }

    fn stored(&self) -> Result<Option<Stored>, PosteriorError> {
        let stored = Stored {
            facts: self.facts.clone(),
            ..Stored::new(CONTENT)
        };
        let mut stored = stored.with_adapter(COORDINATES, &self.coordinates)?;
        if let Some(kept) = &self.kept {
            stored = stored.with_adapter(KEPT, kept)?;
        }
        for (path, rotation) in &self.rotations {
            for (prefix, matrix) in [(LEFT, &rotation.left), (RIGHT, &rotation.right)] {
                let named =
                    |matrix: &HostMatrix| (format!("{prefix}{}", peft_name(path)), matrix.clone());
                stored.matrices.extend(matrix.iter().map(named));
            }
        }
        Ok(Some(stored))
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Tensor, TensorData};

    use super::*;
    use crate::testing::golden_normals;
    use crate::testing::tiny::{adapter, decoder};

    const A: &str = "layers.0.self_attn.q_proj.lora_A";
    const B: &str = "layers.0.self_attn.q_proj.lora_B";

    /// An orthogonal matrix: a reflection, so that it is its own inverse.
    fn reflection(seed: u64, n: usize) -> HostMatrix {
        let normal = golden_normals(seed, n);
        let square: f64 = normal.iter().map(|x| x * x).sum();
        let entry = |at: usize| {
            let identity = f64::from(u8::from(at / n == at % n));
            (identity - 2.0 * normal[at / n] * normal[at % n] / square) as f32
        };
        HostMatrix {
            shape: [n, n],
            values: (0..n * n).map(entry).collect(),
        }
    }

    /// A `[4, 32]` is turned on its left and B `[32, 4]` on both sides.
    fn rotated() -> Rotated {
        let mean = adapter(1, "q_proj");
        let mut at = 0;
        let coordinates = mean.clone_with(|_, tensor| {
            let values: Vec<f32> = (0..tensor.dims().iter().product())
                .map(|_| {
                    at += 1;
                    0.01 + 0.04 * (at % 7) as f32
                })
                .collect();
            Tensor::from_data(TensorData::new(values, tensor.dims()), &tensor.device())
        });
        let rotations = BTreeMap::from([
            (
                A.to_string(),
                Rotation {
                    left: Some(reflection(1, 4)),
                    right: None,
                },
            ),
            (
                B.to_string(),
                Rotation {
                    left: Some(reflection(2, 32)),
                    right: Some(reflection(3, 4)),
                },
            ),
        ]);
        Rotated::new(mean, coordinates, rotations).unwrap()
    }

    /// Q diag(V) Qᵀ of one parameter by dense matrices, `[(mn)²]`.
    fn covariance(rotated: &Rotated, path: &str) -> Vec<f64> {
        let matrices = rotated.coordinates.to_matrices().unwrap();
        let (_, variances) = matrices.iter().find(|(name, _)| name == path).unwrap();
        let [m, n] = variances.shape;
        let rotation = &rotated.rotations[path];
        let entry = |q: &Option<HostMatrix>, width: usize, row: usize, column: usize| {
            let identity = f32::from(u8::from(row == column));
            f64::from(
                q.as_ref()
                    .map_or(identity, |q| q.values[row * width + column]),
            )
        };
        let q = |row: usize, at: usize| {
            entry(&rotation.left, m, row / n, at / n) * entry(&rotation.right, n, row % n, at % n)
        };
        let count = m * n;
        (0..count * count)
            .map(|at| {
                (0..count)
                    .map(|k| q(at / count, k) * f64::from(variances.values[k]) * q(at % count, k))
                    .sum()
            })
            .collect()
    }

    #[test]
    fn the_variance_of_a_weight_is_the_diagonal_of_the_dense_covariance() {
        let rotated = rotated();
        let variance = rotated.variance().unwrap().to_matrices().unwrap();
        for path in [A, B] {
            let dense = covariance(&rotated, path);
            let (_, matrix) = variance.iter().find(|(name, _)| name == path).unwrap();
            let count = matrix.values.len();
            for (at, found) in matrix.values.iter().enumerate() {
                let expected = dense[at * count + at];
                assert!((f64::from(*found) - expected).abs() < 1e-6, "{path} {at}");
            }
        }
    }

    #[test]
    fn draws_have_the_covariance_across_weights() {
        let rotated = rotated();
        let mean = rotated.mean().flatten().unwrap();
        // A is the first 128 weights of the adapter, B the others.
        for (path, start) in [(A, 0), (B, 128)] {
            let dense = covariance(&rotated, path);
            // Along a direction across all weights of the matrix, and along one weight.
            let across: Vec<f64> = (0..128).map(|at| (at as f64).sin()).collect();
            let one = (0..128).map(|at| f64::from(u8::from(at == 5))).collect();
            for direction in [across, one] {
                let expected: f64 = 4.0
                    * (0..128 * 128)
                        .map(|at| direction[at / 128] * dense[at] * direction[at % 128])
                        .sum::<f64>();
                let squares: f64 = (0..400)
                    .map(|sample| {
                        let drawn = rotated.draw(sample, 3, 4.0).unwrap();
                        let drawn = drawn.adapter.flatten().unwrap();
                        let moved = |at: usize| f64::from(drawn[start + at] - mean[start + at]);
                        (0..128)
                            .map(|at| moved(at) * direction[at])
                            .sum::<f64>()
                            .powi(2)
                    })
                    .sum();
                // A χ² over 400 draws: relative standard error √(2/400) = 0.07.
                assert!((squares / 400.0 / expected - 1.0).abs() < 0.3, "{path}");
            }
        }
    }

    #[test]
    fn without_rotations_it_is_the_gaussian_with_these_variances() {
        let rotated = rotated();
        let plain = Rotated::new(
            rotated.mean.clone(),
            rotated.coordinates.clone(),
            BTreeMap::new(),
        )
        .unwrap();
        let gaussian =
            super::super::Gaussian::new(rotated.mean.clone(), rotated.coordinates.clone()).unwrap();
        let drawn = |posterior: &dyn Posterior| {
            let draw = posterior.draw(2, 7, 0.5).unwrap();
            draw.adapter.flatten().unwrap()
        };
        assert_eq!(drawn(&plain), drawn(&gaussian));
    }

    #[test]
    fn the_variances_of_a_file_are_those_of_the_posterior() {
        let rotated = rotated();
        let kept: Vec<bool> = (0..256).map(|at| at % 5 != 0).collect();
        for posterior in
            [Box::new(rotated.clone()), rotated.pruned(&kept).unwrap()] as [Box<dyn Posterior>; 2]
        {
            let stored = posterior.stored().unwrap().unwrap();
            let found = weight_variances(&stored.matrices);
            let expected = posterior.variance().unwrap().to_matrices().unwrap();
            assert_eq!(found.len(), expected.len());
            for (path, matrix) in expected {
                assert_eq!(found[&peft_name(&path)], matrix);
            }
        }
    }

    #[test]
    fn it_reads_back_and_what_is_wrong_with_a_file_is_named() {
        let before = rotated().with_fact("effective_sample_size", 1e6);
        let stored = before.stored().unwrap().unwrap();
        assert_eq!(
            (stored.content.as_str(), stored.matrices.len()),
            (CONTENT, 5)
        );
        let read = |stored: &Stored| {
            let mean = adapter(1, "q_proj");
            Rotated::from_stored(mean, stored, &decoder(1), &Device::flex())
        };
        let after = read(&stored).unwrap();
        assert_eq!(after.rotations, before.rotations);
        assert_eq!(after.facts, before.facts);
        let name = |prefix: &str, path: &str| format!("{prefix}{}", peft_name(path));
        let refused = |change: &dyn Fn(&mut Stored)| {
            let mut other = stored.clone();
            change(&mut other);
            read(&other).err().unwrap().to_string()
        };
        assert!(
            refused(&|stored| drop(stored.matrices.remove(&name(COORDINATES, B))))
                .contains("is missing")
        );
        let wide = |stored: &mut Stored| {
            drop(stored.matrices.insert(name(LEFT, A), reflection(1, 5)));
        };
        assert!(refused(&wide).ends_with("has shape [5, 5], expected [4, 4]"));
        let skew = |stored: &mut Stored| {
            let left = stored.matrices.get_mut(&name(LEFT, A)).unwrap();
            left.values[0] += 0.5;
        };
        let message = refused(&skew);
        assert!(
            message.starts_with(&format!("the rotation of `{A}` is off an orthogonal")),
            "{message}"
        );
        let negative = |stored: &mut Stored| {
            let coordinates = stored.matrices.get_mut(&name(COORDINATES, A)).unwrap();
            coordinates.values[3] = -1.0;
        };
        assert!(refused(&negative).contains("holds -1, expected"));
        let other = |stored: &mut Stored| {
            let matrix = reflection(1, 4);
            drop(stored.matrices.insert("left.more".into(), matrix));
        };
        assert!(refused(&other).contains("tensor `left.more`"));
        let rotations = BTreeMap::from([("more".to_string(), Rotation::default())]);
        let error = Rotated::new(before.mean.clone(), before.coordinates.clone(), rotations);
        assert!(error.err().unwrap().to_string().contains("tensor `more`"));
    }
}

//! The coordinates in which a posterior is diagonal: those of the weights themselves, or of a
//! matrix turned by orthogonal matrices on its sides.

use burn::tensor::Tensor;

use crate::IvonError;
use crate::layout::{Bucket, Flats, Layout};
use crate::symmetric::departure_from_orthonormal;

/// The orthogonal matrices of one parameter M `[m, n]`: its coordinates are C = Q_Lᵀ M Q_R, and M =
/// Q_L C Q_Rᵀ. A side without one has Q = 1.
#[derive(Clone, Debug, Default)]
pub struct Rotation {
    /// Q_L `[m, m]`, a vector of the basis in each column.
    pub left: Option<Tensor<2>>,
    /// Q_R `[n, n]`, a vector of the basis in each column.
    pub right: Option<Tensor<2>>,
}

impl Rotation {
    /// Whether neither side is turned.
    pub fn is_identity(&self) -> bool {
        self.left.is_none() && self.right.is_none()
    }

    /// Whether it can turn a parameter of this shape.
    pub(crate) fn check(&self, path: &str, shape: &[usize]) -> Result<(), IvonError> {
        for (side, vectors) in [("left", &self.left), ("right", &self.right)] {
            let Some(vectors) = vectors else { continue };
            let width = match (shape, side) {
                (&[m, _], "left") => m,
                (&[_, n], "right") => n,
                _ => 0,
            };
            let found = vectors.shape().to_vec();
            if width == 0 || found != [width; 2] {
                return Err(IvonError::RotationShape {
                    path: path.into(),
                    side,
                    shape: shape.to_vec(),
                    found,
                });
            }
            let values: Vec<f64> = vectors.clone().into_data().iter().collect();
            check_orthogonal(path, side, &values)?;
        }
        Ok(())
    }

    /// The same on the device and in the number type of a bucket, without autodiff.
    pub(crate) fn like(&self, bucket: &Bucket) -> Self {
        let like = |q: &Option<Tensor<2>>| {
            let q = q.clone()?.inner();
            Some(q.to_device(&bucket.device).cast(bucket.state_type))
        };
        Self {
            left: like(&self.left),
            right: like(&self.right),
        }
    }

    /// Q_Lᵀ M Q_R of M, flat and row-major.
    fn inward(&self, flat: Tensor<1>, shape: &[usize]) -> Tensor<1> {
        let left = self.left.clone().map(Tensor::transpose);
        product(flat, shape, left, self.right.clone())
    }

    /// Q_L C Q_Rᵀ of C, flat and row-major.
    fn outward(&self, flat: Tensor<1>, shape: &[usize]) -> Tensor<1> {
        let right = self.right.clone().map(Tensor::transpose);
        product(flat, shape, self.left.clone(), right)
    }

    /// The variance of each weight where the coordinates have the variances V: (Q_L ∘ Q_L) V (Q_R ∘
    /// Q_R)ᵀ.
    fn marginal(&self, variance: Tensor<1>, shape: &[usize]) -> Tensor<1> {
        self.squared().outward(variance, shape)
    }

    /// Every entry squared.
    fn squared(&self) -> Self {
        let square = |q: &Option<Tensor<2>>| q.clone().map(|q| q.square());
        Self {
            left: square(&self.left),
            right: square(&self.right),
        }
    }
}

/// How far vectors may be from orthonormal, by entries of |QᵀQ − 1|: f32 leaves 1e-6.
const ORTHOGONAL: f64 = 1e-3;

/// Whether the columns of a matrix `[n²]` are orthonormal.
pub(crate) fn check_orthogonal(
    path: &str,
    side: &'static str,
    vectors: &[f64],
) -> Result<(), IvonError> {
    let found = departure_from_orthonormal(vectors, vectors.len().isqrt());
    if found <= ORTHOGONAL {
        return Ok(());
    }
    Err(IvonError::Rotation {
        path: path.into(),
        side,
        found,
    })
}

/// L M R of a matrix M `[m, n]`, flat and row-major; a factor that is absent is 1.
fn product(
    flat: Tensor<1>,
    shape: &[usize],
    left: Option<Tensor<2>>,
    right: Option<Tensor<2>>,
) -> Tensor<1> {
    let &[m, n] = shape else { return flat };
    let mut matrix = flat.reshape([m, n]);
    if let Some(left) = left {
        matrix = left.matmul(matrix);
    }
    if let Some(right) = right {
        matrix = matrix.matmul(right);
    }
    matrix.reshape([m * n])
}

/// The rotation of every parameter of a layout.
#[derive(Clone, Debug)]
pub(crate) struct Basis {
    pub rotations: Vec<Rotation>,
}

impl Basis {
    /// That in which nothing is turned.
    pub fn identity(layout: &Layout) -> Self {
        Self {
            rotations: vec![Rotation::default(); layout.entries.len()],
        }
    }

    /// Whether nothing is turned.
    pub fn is_identity(&self) -> bool {
        self.rotations.iter().all(Rotation::is_identity)
    }

    /// The coordinates of the weights' values.
    pub fn inward(&self, layout: &Layout, flats: &Flats) -> Flats {
        self.each(layout, flats, Rotation::inward)
    }

    /// The weights' values that have these coordinates.
    pub fn outward(&self, layout: &Layout, flats: &Flats) -> Flats {
        self.each(layout, flats, Rotation::outward)
    }

    /// The variances of the weights where the coordinates have these.
    pub fn marginal(&self, layout: &Layout, variances: &Flats) -> Flats {
        self.each(layout, variances, Rotation::marginal)
    }

    fn each(
        &self,
        layout: &Layout,
        flats: &Flats,
        turn: impl Fn(&Rotation, Tensor<1>, &[usize]) -> Tensor<1>,
    ) -> Flats {
        if self.is_identity() {
            return flats.clone();
        }
        layout.gather(|entry| {
            let part = layout.part(flats, entry);
            let rotation = &self.rotations[entry];
            if rotation.is_identity() {
                part
            } else {
                turn(rotation, part, &layout.entries[entry].shape)
            }
        })
    }
}

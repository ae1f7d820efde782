//! The posterior: a Gaussian over the trainable parameters, from which modules are drawn.

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::Tensor;

use crate::IvonError;
use crate::basis::{Basis, Rotation};
use crate::config::{IvonConfig, NoiseSource};
use crate::layout::{Flats, Layout};
use crate::noise::{Address, Purpose};
use crate::paths::{parameters, replace};

/// q = N(m, σ²), independent for each element; parameters that were not trained are fixed.
///
/// With an eigenbasis the elements are those of C = Q_Lᵀ M Q_R for each matrix M: a draw is M + Q_L
/// (σ z) Q_Rᵀ, and the covariance of M, row by row, is Q diag(σ²) Qᵀ with Q = Q_L ⊗ Q_R.
///
/// Its modules are without autodiff ([`Module::valid`]): its draws are for prediction.
#[derive(Clone, Debug)]
pub struct Posterior<M> {
    mean: M,
    layout: Arc<Layout>,
    basis: Basis,
    means: Flats,
    /// In the coordinates of the basis.
    variances: Flats,
}

impl<M: Module> Posterior<M> {
    pub(crate) fn from_flats(
        mean: M,
        layout: Arc<Layout>,
        basis: Basis,
        means: Flats,
        variances: Flats,
    ) -> Self {
        Self {
            mean,
            layout,
            basis,
            means,
            variances,
        }
    }

    /// A posterior from its mean and its variances by path, flat and row-major
    /// `[number of elements]`, as in a file. Parameters without a variance are fixed.
    ///
    /// # Errors
    /// If the module has no parameter at a path, a length differs, or a variance is negative or not
    /// finite.
    pub fn new(mean: M, variances: &BTreeMap<String, Tensor<1>>) -> Result<Self, IvonError> {
        let mean = mean.valid();
        let random: Vec<_> = parameters(&mean)
            .into_iter()
            .filter(|parameter| variances.contains_key(&parameter.path))
            .collect();
        // The settings do not matter: with the variances given, nothing depends on them.
        let layout = Layout::new(&random, &IvonConfig::new(1.0));
        let by_path: BTreeMap<&str, &Tensor<1>> = random
            .iter()
            .map(|parameter| (parameter.path.as_str(), &parameter.values))
            .collect();
        for (path, variance) in variances {
            let Some(values) = by_path.get(path.as_str()) else {
                return Err(IvonError::UnknownParameter { path: path.clone() });
            };
            check_variance(path, variance, values.shape().num_elements())?;
        }
        let path = |entry: usize| layout.entries[entry].path.as_str();
        let means = layout.gather(|entry| by_path[path(entry)].clone());
        let variances = layout.gather(|entry| variances[path(entry)].clone().inner());
        Ok(Self {
            mean,
            basis: Basis::identity(&layout),
            layout: Arc::new(layout),
            means,
            variances,
        })
    }

    /// The posterior with the same variances in other coordinates: those of the parameters that
    /// `rotations` names, by path.
    ///
    /// # Errors
    /// If a path is none of a parameter with a variance, or a rotation is not orthogonal and as
    /// wide as its side.
    pub fn rotated(mut self, rotations: &BTreeMap<String, Rotation>) -> Result<Self, IvonError> {
        for (path, rotation) in rotations {
            let entries = &self.layout.entries;
            let Some(place) = entries.iter().position(|entry| entry.path == *path) else {
                return Err(IvonError::UnknownParameter { path: path.clone() });
            };
            rotation.check(path, &entries[place].shape)?;
            let bucket = &self.layout.buckets[entries[place].bucket];
            self.basis.rotations[place] = rotation.like(bucket);
        }
        Ok(self)
    }

    /// The mean.
    pub fn mean(&self) -> &M {
        &self.mean
    }

    /// σ² by path, flat and row-major `[number of elements]`, in f32 (f64 for parameters in f64), in
    /// the coordinates of [`rotations`](Self::rotations).
    pub fn variances(&self) -> BTreeMap<String, Tensor<1>> {
        let entries = self.layout.entries.iter().enumerate();
        entries
            .map(|(index, entry)| (entry.path.clone(), self.layout.part(&self.variances, index)))
            .collect()
    }

    /// The rotations of the parameters whose elements are independent in other coordinates than
    /// their own, by path.
    pub fn rotations(&self) -> BTreeMap<String, Rotation> {
        let rotations = self.layout.entries.iter().zip(&self.basis.rotations);
        rotations
            .filter(|(_, rotation)| !rotation.is_identity())
            .map(|(entry, rotation)| (entry.path.clone(), rotation.clone()))
            .collect()
    }

    /// The module with the variance of each weight in its place, in f32 (f64 for parameters in
    /// f64); 0 for fixed parameters. With an eigenbasis it is the diagonal of the covariance, (Q_L ∘
    /// Q_L) σ² (Q_R ∘ Q_R)ᵀ.
    pub fn variance(&self) -> M {
        let Some(device) = self
            .layout
            .buckets
            .first()
            .map(|bucket| bucket.device.clone())
        else {
            return self.mean.clone();
        };
        let variances = self.basis.marginal(&self.layout, &self.variances);
        replace(self.mean.clone(), |_, id, shape| {
            match self.layout.find(id) {
                Some(entry) => Some(self.layout.part(&variances, entry)),
                None => Some(Tensor::zeros([shape.iter().product::<usize>()], &device)),
            }
        })
    }

    /// Draw number `number` under `seed` from N(m, `scale` · σ²): the same module on every machine,
    /// whatever was drawn before. With `scale` (τ) 1 it is a draw from the posterior, with 0 the
    /// mean.
    ///
    /// # Errors
    /// If the scale is negative or not finite.
    pub fn draw(&self, seed: u64, number: u64, scale: f64) -> Result<M, IvonError> {
        let address = Address {
            seed,
            purpose: Purpose::Posterior,
            step: 0,
            draw: number,
        };
        self.draw_at(scale, || {
            Ok(self.layout.normals(NoiseSource::Host { seed }, address))
        })
    }

    /// A draw from N(m, `scale` · σ²) with noise from the device's generator: for large models,
    /// where uploading noise costs more than making it.
    ///
    /// # Errors
    /// If the scale is negative or not finite.
    pub fn draw_on_device(&self, scale: f64) -> Result<M, IvonError> {
        let address = Address {
            seed: 0,
            purpose: Purpose::Posterior,
            step: 0,
            draw: 0,
        };
        self.draw_at(scale, || {
            Ok(self.layout.normals(NoiseSource::Device, address))
        })
    }

    /// A draw from N(m, `scale` · σ²) with standard normals that the caller supplies, by path and
    /// shape, row-major, with an eigenbasis in its coordinates.
    ///
    /// # Errors
    /// If the scale is negative or not finite, or `supply` returns another number of elements than
    /// the parameter has.
    pub fn draw_from(
        &self,
        scale: f64,
        supply: impl FnMut(&str, &[usize]) -> Vec<f64>,
    ) -> Result<M, IvonError> {
        self.draw_at(scale, || self.layout.supplied_normals(supply))
    }

    fn draw_at(
        &self,
        scale: f64,
        normals: impl FnOnce() -> Result<Flats, IvonError>,
    ) -> Result<M, IvonError> {
        if !(scale.is_finite() && scale >= 0.0) {
            return Err(IvonError::Scale { found: scale });
        }
        if scale == 0.0 {
            return Ok(self.mean.clone());
        }
        let noise: Flats = normals()?
            .into_iter()
            .zip(&self.variances)
            .map(|(normals, variance)| normals * variance.clone().mul_scalar(scale).sqrt())
            .collect();
        let noise = self.basis.outward(&self.layout, &noise).into_iter();
        let drawn = noise
            .zip(&self.means)
            .map(|(noise, mean)| noise + mean.clone());
        Ok(self
            .layout
            .write(self.mean.clone(), &drawn.collect::<Vec<_>>()))
    }
}

/// A variance must have `expected` elements, finite and at least 0.
fn check_variance(path: &str, variance: &Tensor<1>, expected: usize) -> Result<(), IvonError> {
    let found = variance.shape().num_elements();
    if found != expected {
        return Err(IvonError::VarianceLength {
            path: path.into(),
            expected,
            found,
        });
    }
    let data = variance.clone().into_data();
    let invalid = data
        .iter::<f64>()
        .find(|&value| !(value.is_finite() && value >= 0.0));
    match invalid {
        Some(found) => Err(IvonError::Variance {
            path: path.into(),
            found,
        }),
        None => Ok(()),
    }
}

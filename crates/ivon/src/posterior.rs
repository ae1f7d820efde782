//! The posterior as a value: a Gaussian over the trainable parameters, to draw modules from.

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::Tensor;

use crate::IvonError;
use crate::config::{IvonConfig, NoiseSource};
use crate::layout::{Flats, Layout};
use crate::noise::{Address, Purpose};
use crate::paths::{parameters, replace};

/// q = N(m, σ²), element by element; parameters that were not trained are fixed.
///
/// Its modules are off autodiff ([`Module::valid`]): a draw is for prediction.
#[derive(Clone, Debug)]
pub struct Posterior<M> {
    mean: M,
    layout: Arc<Layout>,
    means: Flats,
    variances: Flats,
}

impl<M: Module> Posterior<M> {
    pub(crate) fn from_flats(mean: M, layout: Arc<Layout>, means: Flats, variances: Flats) -> Self {
        Self {
            mean,
            layout,
            means,
            variances,
        }
    }

    /// A posterior from its mean and the variances by path, flat and row-major
    /// `[number of elements]`, as a file has them. Parameters without a variance are fixed.
    ///
    /// # Errors
    /// If a path is not one of the module's, a length differs, or a variance is negative or not
    /// finite.
    pub fn new(mean: M, variances: &BTreeMap<String, Tensor<1>>) -> Result<Self, IvonError> {
        let mean = mean.valid();
        let random: Vec<_> = parameters(&mean)
            .into_iter()
            .filter(|parameter| variances.contains_key(&parameter.path))
            .collect();
        // The settings of an optimizer do not matter here: the variances stand for them.
        let layout = Layout::new(&random, &IvonConfig::new(1.0));
        let by_path: BTreeMap<&str, &Tensor<1>> = random
            .iter()
            .map(|parameter| (parameter.path.as_str(), &parameter.values))
            .collect();
        for (path, variance) in variances {
            let Some(values) = by_path.get(path.as_str()) else {
                return Err(IvonError::UnknownParameter { path: path.clone() });
            };
            let (expected, found) = (
                values.shape().num_elements(),
                variance.shape().num_elements(),
            );
            if found != expected {
                return Err(IvonError::VarianceLength {
                    path: path.clone(),
                    expected,
                    found,
                });
            }
            if let Some(found) = variance
                .clone()
                .into_data()
                .iter::<f64>()
                .find(|&value| !(value.is_finite() && value >= 0.0))
            {
                return Err(IvonError::Variance {
                    path: path.clone(),
                    found,
                });
            }
        }
        let means = layout.gather(|entry| by_path[layout.entries[entry].path.as_str()].clone());
        let gathered =
            layout.gather(|entry| variances[&layout.entries[entry].path].clone().inner());
        Ok(Self {
            mean,
            layout: Arc::new(layout),
            means,
            variances: gathered,
        })
    }

    /// The mean.
    pub fn mean(&self) -> &M {
        &self.mean
    }

    /// σ² by path, flat and row-major `[number of elements]`, in f32 (f64 for parameters in f64).
    pub fn variances(&self) -> BTreeMap<String, Tensor<1>> {
        let of = |(index, entry): (usize, &crate::layout::Entry)| {
            (entry.path.clone(), self.layout.part(&self.variances, index))
        };
        self.layout.entries.iter().enumerate().map(of).collect()
    }

    /// A module that holds σ² where the mean holds weights, in f32 (f64 for parameters in f64); 0
    /// for fixed parameters.
    pub fn variance(&self) -> M {
        let Some(device) = self
            .layout
            .buckets
            .first()
            .map(|bucket| bucket.device.clone())
        else {
            return self.mean.clone();
        };
        replace(self.mean.clone(), |_, id, shape| {
            match self.layout.find(id) {
                Some(entry) => Some(self.layout.part(&self.variances, entry)),
                None => Some(Tensor::zeros([shape.iter().product::<usize>()], &device)),
            }
        })
    }

    /// Draw number `number` under `seed` from N(m, `scale` · σ²): the same module on every machine,
    /// whatever was drawn before. `scale` (τ) 1 is the posterior itself, 0 the mean.
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
    /// shape, row-major.
    ///
    /// # Errors
    /// If the scale is negative or not finite, or an answer does not have the parameter's number of
    /// elements.
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
        let drawn = normals()?
            .into_iter()
            .zip(&self.variances)
            .zip(&self.means)
            .map(|((normals, variance), mean)| {
                let deviation = variance.clone().mul_scalar(scale).sqrt();
                normals * deviation + mean.clone()
            });
        Ok(self
            .layout
            .write(self.mean.clone(), &drawn.collect::<Vec<_>>()))
    }
}

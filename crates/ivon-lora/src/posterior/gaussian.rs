//! A normal distribution with independent weights: draws from N(mean, τ · variance).

use std::collections::BTreeMap;

use burn::tensor::Device;

use super::noise::draw_by_noise;
use super::weights::{check_parameters, check_variance, map_weights, only_kept};
use super::{Draw, Posterior, PosteriorError, Stored, StoredKind};
use crate::lora::Adapter;
use crate::model::DecoderConfig;

const CONTENT: &str = "variance";

pub(super) const KIND: StoredKind = StoredKind {
    tag: CONTENT,
    words: "a normal distribution, each weight by itself",
    has_variances: true,
    has_sides: false,
    restore: |mean, stored, decoder, device| {
        Ok(Box::new(Gaussian::from_stored(
            mean, stored, decoder, device,
        )?))
    },
};

/// Mean and variance of every weight: what IVON learns.
#[derive(Clone, Debug)]
pub struct Gaussian {
    mean: Adapter,
    variance: Adapter,
    facts: BTreeMap<String, String>,
}

impl Gaussian {
    /// The posterior with this mean and variance, both over the same parameters; a weight whose
    /// variance is 0 is fixed.
    ///
    /// # Errors
    /// If names or shapes differ, or a variance is negative or not finite.
    pub fn new(mean: Adapter, variance: Adapter) -> Result<Self, PosteriorError> {
        check_parameters("the variance", &mean, &variance)?;
        check_variance(&variance)?;
        Ok(Self {
            mean,
            variance,
            facts: BTreeMap::new(),
        })
    }

    /// Adds a fact to its file, such as a setting that it was made with.
    pub fn with_fact(mut self, key: &str, value: impl ToString) -> Self {
        self.facts.insert(key.into(), value.to_string());
        self
    }

    /// The posterior whose weights that are not kept are fixed at 0.
    pub(super) fn only_kept(&self, kept: &[bool]) -> Result<Self, PosteriorError> {
        Ok(Self {
            mean: only_kept(&self.mean, kept)?,
            variance: only_kept(&self.variance, kept)?,
            facts: self.facts.clone(),
        })
    }

    pub(super) fn from_stored(
        mean: Adapter,
        stored: &Stored,
        decoder: &DecoderConfig,
        device: &Device,
    ) -> Result<Self, PosteriorError> {
        let variance = stored.adapter("", &mean.scaling, decoder, device)?;
        Ok(Self {
            facts: stored.facts.clone(),
            ..Self::new(mean, variance)?
        })
    }
}

impl Posterior for Gaussian {
    /// Draw `sample` under `seed`: mean + √(τ · variance) · z, with the z of each parameter
    /// addressed by (seed, sample, path). The sum is computed on the host in f32, so that it is the
    /// same on every device.
    fn draw(&self, sample: u64, seed: u64, scale: f64) -> Result<Draw, PosteriorError> {
        draw_by_noise(&self.mean, sample, seed, scale, |noise| {
            let mut variances = self.variance.to_matrices()?.into_iter();
            map_weights(&self.mean, |path, mean| {
                let Some((_, variance)) = variances.next() else {
                    return;
                };
                let normals = noise.normals(path, mean.values.len());
                let weights = mean.values.iter_mut().zip(&variance.values);
                for ((value, &variance), z) in weights.zip(normals) {
                    // In f64: τ · variance may be too small for f32 where its root is not.
                    *value += ((scale * f64::from(variance)).sqrt() * f64::from(z)) as f32;
                }
            })
        })
    }

    fn mean(&self) -> &Adapter {
        &self.mean
    }

    fn variance(&self) -> Option<&Adapter> {
        Some(&self.variance)
    }

    fn pruned(&self, kept: &[bool]) -> Result<Box<dyn Posterior>, PosteriorError> {
        Ok(Box::new(self.only_kept(kept)?))
    }

    fn stored(&self) -> Result<Option<Stored>, PosteriorError> {
        let stored = Stored {
            facts: self.facts.clone(),
            ..Stored::new(CONTENT)
        };
        stored.with_adapter("", &self.variance).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::tiny::adapter;

    fn gaussian(variance: f64) -> Gaussian {
        let mean = adapter(2, "q_proj,v_proj");
        let variance = mean.clone_with(|_, tensor| tensor * 0.0 + variance);
        Gaussian::new(mean, variance).unwrap()
    }

    fn numbers(draw: Result<Draw, PosteriorError>) -> Vec<f32> {
        draw.unwrap().adapter.flatten().unwrap()
    }

    #[test]
    fn at_scale_zero_a_draw_is_the_mean_bit_for_bit() {
        let posterior = gaussian(0.01);
        let bits = |numbers: Vec<f32>| numbers.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        assert_eq!(
            bits(numbers(posterior.draw(3, 1, 0.0))),
            bits(posterior.mean().flatten().unwrap())
        );
        assert_eq!(
            bits(numbers(gaussian(0.0).draw(3, 1, 1.0))),
            bits(posterior.mean().flatten().unwrap())
        );
    }

    #[test]
    fn a_draw_is_named_by_seed_and_number() {
        let posterior = gaussian(0.01);
        let first = numbers(posterior.draw(1, 5, 1.0));
        assert_eq!(first, numbers(posterior.draw(1, 5, 1.0)));
        assert_ne!(first, numbers(posterior.draw(2, 5, 1.0)));
        assert_ne!(first, numbers(posterior.draw(1, 6, 1.0)));
    }

    #[test]
    fn the_scale_multiplies_the_variance() {
        let posterior = gaussian(0.01);
        let mean = posterior.mean().flatten().unwrap();
        let noise = |scale: f64| -> Vec<f32> {
            numbers(posterior.draw(0, 1, scale))
                .iter()
                .zip(&mean)
                .map(|(draw, mean)| draw - mean)
                .collect()
        };
        let (one, four) = (noise(1.0), noise(4.0));
        for (one, four) in one.iter().zip(&four) {
            assert!((four - 2.0 * one).abs() < 1e-5);
        }
        let variance = one
            .iter()
            .map(|noise| f64::from(*noise).powi(2))
            .sum::<f64>()
            / one.len() as f64;
        // 896 numbers: relative standard error √(2/896) = 0.047.
        assert!((variance / 0.01 - 1.0).abs() < 0.2, "{variance}");
    }

    #[test]
    fn parameters_and_variances_are_checked() {
        let mean = adapter(2, "q_proj");
        let message = |variance: Adapter| {
            Gaussian::new(mean.clone(), variance)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            message(adapter(2, "v_proj")),
            "the variance has `layers.0.self_attn.v_proj.lora_A` [4, 32], but the mean has `layers.0.self_attn.q_proj.lora_A` [4, 32]"
        );
        assert!(
            message(adapter(1, "q_proj")).contains("has nothing more, but the mean has `layers.1.")
        );
        let negative = mean.clone_with(|_, tensor| tensor * 0.0 - 1.0);
        assert!(
            message(negative).ends_with("lora_A` holds -1, expected finite numbers of at least 0")
        );
        for scale in [-1.0, f64::NAN, f64::INFINITY] {
            assert!(matches!(
                gaussian(1.0).draw(0, 0, scale),
                Err(PosteriorError::Setting {
                    setting: "scale",
                    ..
                })
            ));
        }
    }
}

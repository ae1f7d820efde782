//! Mean and variance of every parameter → adapters drawn from N(mean, τ · variance), each by its
//! number.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor, TensorData};
use ivon::noise::{Address, Purpose};

use super::{Draw, Posterior, PosteriorError, Stored, StoredKind};
use crate::lora::{Adapter, HostMatrix, LoraError};
use crate::model::DecoderConfig;

/// The tag of its file.
const CONTENT: &str = "variance";

/// Its kind.
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

/// A normal distribution with independent parameters: what IVON learns.
#[derive(Clone, Debug)]
pub struct Gaussian {
    mean: Adapter,
    variance: Adapter,
    facts: BTreeMap<String, String>,
}

impl Gaussian {
    /// A posterior with this mean and variance, both over the same parameters; a variance of 0
    /// fixes a parameter.
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

    /// With a fact that its file shall hold, such as the settings that made it.
    pub fn with_fact(mut self, key: &str, value: impl ToString) -> Self {
        self.facts.insert(key.into(), value.to_string());
        self
    }

    /// With the weights that are not kept at 0, without variance.
    pub(super) fn only_kept(&self, kept: &[bool]) -> Result<Self, PosteriorError> {
        let (mean, variance) = (
            only_kept(&self.mean, kept)?,
            only_kept(&self.variance, kept)?,
        );
        Ok(Self {
            mean,
            variance,
            facts: self.facts.clone(),
        })
    }

    pub(super) fn from_stored(
        mean: Adapter,
        stored: &Stored,
        decoder: &DecoderConfig,
        device: &Device,
    ) -> Result<Self, PosteriorError> {
        let variance = stored.adapter("", mean.scaling, decoder, device)?;
        Ok(Self {
            facts: stored.facts.clone(),
            ..Self::new(mean, variance)?
        })
    }
}

impl Posterior for Gaussian {
    /// Draw `sample` under `seed`: mean + √(τ · variance) · z, with the z of each parameter
    /// addressed by (seed, sample, path). The sum is made on the host in f32, so that no device
    /// changes it; at τ = 0 it is the mean itself.
    fn draw(&self, sample: u64, seed: u64, scale: f64) -> Result<Draw, PosteriorError> {
        let Some(address) = noise_address(sample, seed, scale)? else {
            return Ok(Draw::of(self.mean.clone()));
        };
        let mut variances = self.variance.to_matrices()?.into_iter();
        let adapter = moved(&self.mean, |path, mean| {
            let Some((_, variance)) = variances.next() else {
                return;
            };
            let mut noise = vec![0.0; mean.values.len()];
            address.fill(path, &mut noise);
            for ((value, &variance), z) in mean.values.iter_mut().zip(&variance.values).zip(noise) {
                // In f64: τ · variance may be too small for f32 where its root is not.
                *value += ((scale * f64::from(variance)).sqrt() * f64::from(z)) as f32;
            }
        })?;
        Ok(Draw::of(adapter))
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

/// An adapter whose parameters `change` has changed on the host, path by path.
///
/// # Errors
/// If the device does not give its data back, or a number that comes out is not finite.
pub(super) fn moved(
    adapter: &Adapter,
    mut change: impl FnMut(&str, &mut HostMatrix),
) -> Result<Adapter, PosteriorError> {
    let mut matrices = adapter.to_matrices()?.into_iter();
    adapter.try_map(|path, tensor| {
        let Some((_, mut matrix)) = matrices.next() else {
            return Ok(tensor);
        };
        change(path, &mut matrix);
        if matrix.values.iter().any(|value| !value.is_finite()) {
            return Err(PosteriorError::Lora(LoraError::NotFinite {
                name: path.into(),
                rounded: false,
            }));
        }
        Ok(Tensor::from_data(
            TensorData::new(matrix.values, matrix.shape),
            &tensor.device(),
        ))
    })
}

/// An adapter whose weights are 0 where `kept` says so, in the order of [`Adapter::flatten`].
///
/// # Errors
/// If `kept` is not as long as the adapter has weights, or the device does not give its data back.
pub fn only_kept(adapter: &Adapter, kept: &[bool]) -> Result<Adapter, PosteriorError> {
    let expected = adapter.parameter_count();
    if kept.len() != expected {
        return Err(PosteriorError::Kept {
            expected,
            found: kept.len(),
        });
    }
    let mut kept = kept.iter();
    moved(adapter, |_, matrix| {
        for (value, kept) in matrix.values.iter_mut().zip(&mut kept) {
            *value = if *kept { *value } else { 0.0 };
        }
    })
}

/// The address of a draw's noise; none at τ = 0, where the draw is the mean itself.
///
/// # Errors
/// If τ is negative or not finite.
pub(super) fn noise_address(
    sample: u64,
    seed: u64,
    scale: f64,
) -> Result<Option<Address>, PosteriorError> {
    check_scale(scale)?;
    Ok((scale > 0.0).then_some(Address {
        seed,
        purpose: Purpose::Posterior,
        step: 0,
        draw: sample,
    }))
}

/// τ must be finite and not negative.
pub fn check_scale(scale: f64) -> Result<(), PosteriorError> {
    if scale.is_finite() && scale >= 0.0 {
        return Ok(());
    }
    Err(PosteriorError::Setting {
        setting: "scale",
        expected: "finite and at least 0",
        found: scale,
    })
}

/// Every variance must be finite and not negative.
pub(super) fn check_variance(variance: &Adapter) -> Result<(), PosteriorError> {
    for (path, matrix) in variance.to_matrices()? {
        if let Some(&found) = matrix
            .values
            .iter()
            .find(|value| !(value.is_finite() && **value >= 0.0))
        {
            return Err(PosteriorError::Variance { path, found });
        }
    }
    Ok(())
}

/// The same paths and shapes in the same order; `what` names the other adapter in the error.
pub(super) fn check_parameters(
    what: &'static str,
    mean: &Adapter,
    other: &Adapter,
) -> Result<(), PosteriorError> {
    let described = |adapter: &Adapter| -> Vec<String> {
        adapter
            .parameters()
            .map(|(path, parameter)| format!("`{path}` {:?}", parameter.val().dims()))
            .collect()
    };
    let (expected, found) = (described(mean), described(other));
    match (0..expected.len().max(found.len()))
        .find(|&place| expected.get(place) != found.get(place))
    {
        None => Ok(()),
        Some(place) => {
            let at = |list: &[String]| {
                list.get(place)
                    .cloned()
                    .unwrap_or_else(|| "nothing more".into())
            };
            Err(PosteriorError::Parameters {
                what,
                expected: at(&expected),
                found: at(&found),
            })
        }
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

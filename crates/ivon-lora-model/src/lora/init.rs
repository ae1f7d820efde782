//! A new adapter, initialised as in PEFT: A Kaiming-uniform, B zero, so that the adapted model
//! equals the base.

use burn::tensor::Device;

use super::adapter::AdaptedLinear;
use super::{Adapter, HostMatrix, LoraConfig, LoraError, LoraPair, resolve_targets};
use crate::model::{DecoderConfig, LinearPath};
use crate::random::{Purpose, stream, uniform};

impl Adapter {
    /// A new adapter for a decoder of this shape.
    ///
    /// A is uniform in (−1/√in, 1/√in), with standard deviation 1/√(3·in): Kaiming's rule with
    /// PEFT's a = √5; B is 0. The numbers are addressed by `seed` and the parameter's path: they do
    /// not depend on other layers or the device.
    ///
    /// With `use_dora`, magnitudes are still to be set: [`Self::with_magnitudes`].
    ///
    /// # Errors
    /// If the options are invalid, or match no layer that can be adapted.
    pub fn new(
        config: &LoraConfig,
        decoder: &DecoderConfig,
        seed: u64,
        device: &Device,
    ) -> Result<Self, LoraError> {
        let targets = resolve_targets(config, decoder)?;
        let options = config.layer_options()?;
        options.refuse_unmatched(&targets)?;
        let all = decoder.linears();
        let adapted = all.iter().filter(|(path, _)| targets.contains(path));
        let linears = adapted.map(|&(path, shape)| {
            let [out, inputs] = shape.shape;
            let rank = options.rank(path);
            let a = kaiming_uniform(rank, inputs, seed, &path.part("lora_A"));
            let b = vec![0.0; out * rank];
            let pair = LoraPair {
                lora_A: HostMatrix::new([rank, inputs], a).parameter(device),
                lora_B: HostMatrix::new([out, rank], b).parameter(device),
                lora_magnitude_vector: None,
                side: None,
            };
            AdaptedLinear { path, pair }
        });
        Ok(Self {
            linears: linears.collect(),
            decoder: all.iter().map(|(path, _)| *path).collect(),
            scaling: config.scaling_in(decoder)?,
        })
    }
}

impl Adapter {
    /// With these magnitudes of rows for each linear layer, such as the lengths of the rows of W,
    /// with which DoRA starts.
    #[must_use]
    pub fn with_magnitudes(
        mut self,
        mut magnitudes: impl FnMut(LinearPath) -> Vec<f32>,
        device: &Device,
    ) -> Self {
        for linear in &mut self.linears {
            let values = magnitudes(linear.path);
            let matrix = HostMatrix::new([values.len(), 1], values);
            linear.pair.lora_magnitude_vector = Some(matrix.parameter(device));
        }
        self
    }
}

/// `rows · inputs` numbers uniform in (−1/√inputs, 1/√inputs).
fn kaiming_uniform(rows: usize, inputs: usize, seed: u64, path: &str) -> Vec<f32> {
    let bound = 1.0 / (inputs as f64).sqrt();
    let mut numbers = stream(seed, Purpose::Initialisation, 0, 0, path);
    (0..rows * inputs)
        .map(|_| (bound * (2.0 * uniform(&mut numbers) - 1.0)) as f32)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::tiny::decoder;

    fn new(seed: u64) -> Adapter {
        Adapter::new(&LoraConfig::default(), &decoder(2), seed, &Device::flex()).unwrap()
    }

    #[test]
    fn a_is_uniform_within_its_bound_and_b_is_zero() {
        let bound = 1.0 / 32f32.sqrt();
        for (path, matrix) in new(7).to_matrices().unwrap() {
            if path.ends_with("lora_B") {
                assert!(matrix.values.iter().all(|&value| value == 0.0));
            } else {
                assert_eq!(matrix.shape, [8, 32]);
                let mean_square =
                    matrix.values.iter().map(|value| value * value).sum::<f32>() / 256.0;
                assert!(matrix.values.iter().all(|value| value.abs() <= bound));
                // The variance of a uniform is bound² / 3; its estimate from 256 numbers has a
                // relative standard deviation of 0.056.
                assert!(
                    (mean_square / (bound * bound / 3.0) - 1.0).abs() < 0.25,
                    "{mean_square}"
                );
            }
        }
    }

    #[test]
    fn the_seed_and_the_path_name_the_numbers() {
        let (one, again, other) = (
            new(1).to_matrices().unwrap(),
            new(1).to_matrices().unwrap(),
            new(2).to_matrices().unwrap(),
        );
        assert_eq!(one, again);
        assert_ne!(one[0], other[0]);
        assert_ne!(one[0].1, one[2].1);
        let mut fewer = LoraConfig {
            layers_to_transform: Some(vec![1]),
            ..LoraConfig::default()
        };
        fewer.rank = 8;
        let second = Adapter::new(&fewer, &decoder(2), 1, &Device::flex())
            .unwrap()
            .to_matrices()
            .unwrap();
        assert_eq!(second, one[4..]);
    }
}

//! Laplace's approximation with a diagonal precision around a trained adapter (Laplace-LoRA, arXiv
//! 2308.13111), which predicts in the linearised model.

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::{
    Draw, Gaussian, Linearised, LinearisedForm, Posterior, PosteriorError, Stored, StoredKind,
};
use crate::lora::Adapter;
use crate::model::DecoderConfig;

const CONTENT: &str = "laplace";

pub(super) const KIND: StoredKind = StoredKind {
    tag: CONTENT,
    words: "Laplace's approximation, each weight by itself; it predicts in the linearised model",
    has_variances: true,
    has_sides: false,
    restore: |mean, stored, decoder, device| {
        Ok(Box::new(Laplace::from_stored(
            mean, stored, decoder, device,
        )?))
    },
};

/// How a Laplace approximation predicts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LaplacePrediction {
    /// Linearised: the average over draws of the logits.
    #[default]
    Samples,
    /// Linearised: MacKay's closed form of that average.
    Probit,
    /// By draws of the weights, as other posteriors do. The approximation is made for the
    /// linearised model and fits this one worse.
    Weights,
}

impl LaplacePrediction {
    /// All of them with their names.
    pub const NAMES: [(&str, Self); 3] = [
        ("samples", Self::Samples),
        ("probit", Self::Probit),
        ("weights", Self::Weights),
    ];

    pub(super) fn name(self) -> &'static str {
        Self::NAMES
            .iter()
            .find(|(_, form)| *form == self)
            .map_or("samples", |(name, _)| name)
    }

    /// How the linearised model averages over logits.
    pub(super) fn form(self) -> LinearisedForm {
        if self == Self::Probit {
            LinearisedForm::Probit
        } else {
            LinearisedForm::Samples
        }
    }

    pub(super) fn from_stored(stored: &Stored) -> Result<Self, PosteriorError> {
        let named = stored.text("prediction")?;
        let found = Self::NAMES.into_iter().find(|(name, _)| *name == named);
        found.map(|(_, form)| form).ok_or_else(|| {
            stored.wrong("prediction", "one of `samples`, `probit`, `weights`".into())
        })
    }
}

/// A normal distribution over weights, and how it predicts.
#[derive(Clone, Debug)]
pub struct Laplace {
    gaussian: Gaussian,
    /// σ² of every weight, `[P]`.
    variance: Vec<f32>,
    /// The lowest layer with one above 0.
    first_layer: usize,
    prediction: LaplacePrediction,
}

impl Laplace {
    /// The diagonal approximation with this mean and variance.
    ///
    /// # Errors
    /// If the device does not return its data.
    pub fn new(gaussian: Gaussian, prediction: LaplacePrediction) -> Result<Self, PosteriorError> {
        let variance = gaussian
            .variance()
            .map(Adapter::flatten)
            .transpose()?
            .unwrap_or_default();
        let first_layer = gaussian
            .variance()
            .map(Adapter::first_layer_other_than_zero)
            .transpose()?
            .unwrap_or(0);
        Ok(Self {
            gaussian: gaussian.with_fact("prediction", prediction.name()),
            variance,
            first_layer,
            prediction,
        })
    }

    pub(super) fn from_stored(
        mean: Adapter,
        stored: &Stored,
        decoder: &DecoderConfig,
        device: &Device,
    ) -> Result<Self, PosteriorError> {
        Self::new(
            Gaussian::from_stored(mean, stored, decoder, device)?,
            LaplacePrediction::from_stored(stored)?,
        )
    }
}

impl Posterior for Laplace {
    fn draw(&self, sample: u64, seed: u64, scale: f64) -> Result<Draw, PosteriorError> {
        self.gaussian.draw(sample, seed, scale)
    }

    fn mean(&self) -> &Adapter {
        self.gaussian.mean()
    }

    fn variance(&self) -> Option<&Adapter> {
        self.gaussian.variance()
    }

    fn pruned(&self, kept: &[bool]) -> Result<Box<dyn Posterior>, PosteriorError> {
        let gaussian = self.gaussian.only_kept(kept)?;
        Ok(Box::new(Self::new(gaussian, self.prediction)?))
    }

    fn stored(&self) -> Result<Option<Stored>, PosteriorError> {
        Ok(self.gaussian.stored()?.map(|stored| Stored {
            content: CONTENT.into(),
            ..stored
        }))
    }

    fn linearised(&self) -> Option<&dyn Linearised> {
        (self.prediction != LaplacePrediction::Weights).then_some(self)
    }
}

impl Linearised for Laplace {
    fn covariance(&self, jacobian: &[Vec<f32>]) -> Result<Vec<f64>, PosteriorError> {
        let entry = |(a, b): (&Vec<f32>, &Vec<f32>)| {
            a.iter()
                .zip(b)
                .zip(&self.variance)
                .map(|((a, b), variance)| f64::from(*a) * f64::from(*b) * f64::from(*variance))
                .sum()
        };
        Ok(jacobian
            .iter()
            .flat_map(|a| jacobian.iter().map(move |b| (a, b)))
            .map(entry)
            .collect())
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
    use crate::testing::tiny::{adapter, decoder};

    fn laplace(prediction: LaplacePrediction) -> Laplace {
        let mean = adapter(1, "q_proj");
        let variance = mean.clone_with(|path, tensor| {
            tensor.zeros_like() + if path.ends_with("lora_B") { 2.0 } else { 0.0 }
        });
        Laplace::new(Gaussian::new(mean, variance).unwrap(), prediction).unwrap()
    }

    #[test]
    fn the_covariance_of_logits_is_j_sigma_j_transposed() {
        // 128 weights of A without variance, 128 of B with variance 2.
        let jacobian = [
            vec![1.0; 256],
            (0..256)
                .map(|i| if i % 2 == 0 { 3.0 } else { -1.0 })
                .collect(),
        ];
        assert_eq!(
            laplace(LaplacePrediction::Samples)
                .covariance(&jacobian)
                .unwrap(),
            [256.0, 256.0, 256.0, 64.0 * 2.0 * 10.0]
        );
    }

    #[test]
    fn it_reads_back_with_how_it_predicts() {
        for (name, prediction) in LaplacePrediction::NAMES {
            let before = laplace(prediction);
            let stored = before.stored().unwrap().unwrap();
            assert_eq!(
                (stored.content.as_str(), stored.text("prediction").unwrap()),
                ("laplace", name)
            );
            let after =
                Laplace::from_stored(adapter(1, "q_proj"), &stored, &decoder(1), &Device::flex())
                    .unwrap();
            assert_eq!(
                (after.prediction, after.linearised().is_some()),
                (prediction, name != "weights")
            );
            let error = Laplace::from_stored(
                adapter(1, "q_proj"),
                &stored.with("prediction", "guess"),
                &decoder(1),
                &Device::flex(),
            );
            assert!(
                error
                    .unwrap_err()
                    .to_string()
                    .contains("expected one of `samples`")
            );
        }
    }
}

//! An adapter folder → draws from its posterior as adapters of their own, which need no posterior.

use super::BundleError;
use super::folder::Bundle;
use super::sidecar::{PredictWith, Sidecar};
use crate::posterior::{PointEstimate, Posterior, Spread};

impl Bundle {
    /// The first draws under `seed` at the scale τ, each as an adapter of its own: at most so many, and
    /// of an ensemble at most its members. Averaged, their probabilities are those of this adapter with
    /// as many draws.
    ///
    /// # Errors
    /// [`BundleError::NoPlainDraws`] for a point estimate, and if a draw is no A and B.
    pub fn draws(&self, count: usize, seed: u64, scale: f64) -> Result<Vec<Self>, BundleError> {
        let posterior = self.posterior.as_ref();
        if let Some(reason) = reason_against(posterior) {
            return Err(BundleError::NoPlainDraws { reason });
        }
        let count = posterior.spread().draws(count);
        (0..count as u64)
            .map(|sample| self.plain_draw(sample, seed, scale))
            .collect()
    }

    fn plain_draw(&self, sample: u64, seed: u64, scale: f64) -> Result<Self, BundleError> {
        let draw = self.posterior.draw(sample, seed, scale)?;
        if draw.dropout.is_some() || draw.adapter.has_sides() {
            return Err(BundleError::NoPlainDraws {
                reason: "what is drawn stands between A and B",
            });
        }
        // What was chosen for the mean and for the average holds for neither of the draws.
        let of_draw = |sidecar: &Sidecar| Sidecar {
            method_files: Vec::new(),
            scale: 1.0,
            temperature: 1.0,
            temperature_of_samples: 1.0,
            samples: 0,
            predict_with: PredictWith::Mean,
            calibration: None,
            ..sidecar.clone()
        };
        Ok(Self {
            posterior: Box::new(PointEstimate {
                adapter: draw.adapter,
            }),
            lora: self.lora.clone(),
            sidecar: self.sidecar.as_ref().map(of_draw),
            base_name: self.base_name.clone(),
            facts: Default::default(),
            note: None,
        })
    }
}

/// Why draws of a posterior are no adapters, if they are none.
fn reason_against(posterior: &dyn Posterior) -> Option<&'static str> {
    if posterior.spread() == Spread::None {
        return Some("it is a point estimate");
    }
    if posterior.linearised().is_some() {
        return Some("it is one over the logits of the linearised model");
    }
    let noise = posterior.output_noise();
    noise.map(|_| "its noise is on the output layer")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lora::Adapter;
    use crate::posterior::Gaussian;
    use crate::testing::tiny::{adapter, config};

    fn bundle(posterior: Box<dyn Posterior>) -> Bundle {
        Bundle {
            posterior,
            lora: config("q_proj"),
            sidecar: None,
            base_name: None,
            facts: Default::default(),
            note: None,
        }
    }

    #[test]
    fn each_is_the_posterior_s_draw_of_its_number_and_has_none_of_its_own() {
        let mean = adapter(1, "q_proj");
        let variance = mean.clone_with(|_, tensor| tensor * 0.0 + 0.25);
        let posterior = Gaussian::new(mean, variance).unwrap();
        let weights = |adapter: &Adapter| adapter.flatten().unwrap();
        let expected = |sample| weights(&posterior.draw(sample, 7, 2.0).unwrap().adapter);
        let drawn = bundle(Box::new(posterior.clone()))
            .draws(2, 7, 2.0)
            .unwrap();
        let found = |at: usize| weights(drawn[at].posterior.mean());
        assert_eq!([found(0), found(1)], [expected(0), expected(1)]);
        assert_ne!(found(0), found(1));
        let again = drawn[0].draws(1, 7, 1.0).err().unwrap().to_string();
        assert_eq!(
            again,
            "draws of this posterior are no adapters: it is a point estimate"
        );
    }
}

//! What adapter weights can be drawn from, and its files.

mod card;
mod error;
mod files;
mod gaussian;
mod sidecar;

pub use card::{CardFacts, MODEL_CARD_FILE, model_card, write_model_card};
pub use error::PosteriorError;
pub use files::{POSTERIOR_FILE, POSTERIOR_FORMAT, PosteriorInfo, read_posterior, write_posterior};
pub use gaussian::Gaussian;
pub use sidecar::{Answer, BaseFingerprint, BaseRecord, PredictWith, SIDECAR_FILE, SIDECAR_FORMAT, Sidecar};

use crate::lora::{Adapter, Dropout};

/// One function drawn from a posterior.
#[derive(Clone, Debug)]
pub struct Draw {
    /// Its weights.
    pub adapter: Adapter,
    /// Its dropout masks; none where dropout is off.
    pub dropout: Option<Dropout>,
}

/// What can be drawn from. Draw number `sample` under `seed` at scale τ is always the same function.
pub trait Posterior {
    /// Draw number `sample` under `seed`; `scale` (τ, at least 0) multiplies the variance, and at 0 the draw is the mean.
    ///
    /// # Errors
    /// If `scale` is negative or not finite, or the device gives no data back.
    fn draw(&self, sample: u64, seed: u64, scale: f64) -> Result<Draw, PosteriorError>;

    /// The adapter that stands for all: the mean, or the point estimate.
    fn mean(&self) -> &Adapter;

    /// The variance of each parameter, where there is such a thing.
    fn variance(&self) -> Option<&Adapter>;
}

/// An adapter without uncertainty: every draw is itself.
#[derive(Clone, Debug)]
pub struct PointEstimate {
    /// The adapter.
    pub adapter: Adapter,
}

impl Posterior for PointEstimate {
    fn draw(&self, _: u64, _: u64, scale: f64) -> Result<Draw, PosteriorError> {
        gaussian::check_scale(scale)?;
        Ok(Draw { adapter: self.adapter.clone(), dropout: None })
    }

    fn mean(&self) -> &Adapter {
        &self.adapter
    }

    fn variance(&self) -> Option<&Adapter> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lora::tiny::adapter;

    #[test]
    fn a_point_estimate_draws_itself() {
        let point = PointEstimate { adapter: adapter(1, "q_proj") };
        let drawn = point.draw(3, 1, 2.0).unwrap().adapter.flatten().unwrap();
        assert_eq!(drawn, point.mean().flatten().unwrap());
        assert!(point.variance().is_none() && point.draw(0, 0, f64::NAN).is_err());
    }
}

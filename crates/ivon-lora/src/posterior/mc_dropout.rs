//! Monte Carlo dropout (Gal and Ghahramani, arXiv 1506.02142): one adapter; its draws are dropout
//! masks on the inputs of A.

use super::noise::check_scale;
use super::weights::only_kept;
use super::{Draw, Posterior, PosteriorError, Spread, Stored, StoredKind};
use crate::lora::{Adapter, Dropout};

const CONTENT: &str = "dropout";

pub(super) const KIND: StoredKind = StoredKind {
    tag: CONTENT,
    words: "Monte-Carlo dropout: a draw is a mask on the inputs of A",
    has_variances: false,
    has_sides: false,
    restore: |mean, stored, _, _| Ok(Box::new(McDropout::from_stored(mean, stored)?)),
};

/// An adapter and the rate at which inputs of A were dropped in its training. The rest of the model
/// has no dropout.
#[derive(Clone, Debug)]
pub struct McDropout {
    adapter: Adapter,
    rate: f64,
}

impl McDropout {
    /// The dropout masks of this rate on this adapter.
    ///
    /// # Errors
    /// If the rate is not above 0 and below 1.
    pub fn new(adapter: Adapter, rate: f64) -> Result<Self, PosteriorError> {
        if rate > 0.0 && rate < 1.0 {
            return Ok(Self { adapter, rate });
        }
        Err(PosteriorError::Setting {
            setting: "dropout",
            expected: "above 0 and below 1",
            found: rate,
        })
    }

    fn from_stored(adapter: Adapter, stored: &Stored) -> Result<Self, PosteriorError> {
        Self::new(adapter, stored.number("rate", "a number")?)
    }
}

impl Posterior for McDropout {
    /// The masks of draw `sample`. An example's mask depends on the example and the draw, not on
    /// what else is in its batch. τ turns them on (above 0) or off (0).
    fn draw(&self, sample: u64, seed: u64, scale: f64) -> Result<Draw, PosteriorError> {
        check_scale(scale)?;
        let dropout = (scale > 0.0).then_some(Dropout {
            rate: self.rate,
            seed,
            step: 0,
            draw: sample,
        });
        Ok(Draw {
            adapter: self.adapter.clone(),
            dropout,
        })
    }

    fn mean(&self) -> &Adapter {
        &self.adapter
    }

    fn variance(&self) -> Option<&Adapter> {
        None
    }

    fn spread(&self) -> Spread {
        Spread::Fixed
    }

    fn pruned(&self, kept: &[bool]) -> Result<Box<dyn Posterior>, PosteriorError> {
        Ok(Box::new(Self {
            adapter: only_kept(&self.adapter, kept)?,
            rate: self.rate,
        }))
    }

    fn stored(&self) -> Result<Option<Stored>, PosteriorError> {
        Ok(Some(Stored::new(CONTENT).with("rate", self.rate)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::tiny::adapter;

    #[test]
    fn masks_are_on_above_scale_zero_and_named_by_draw_and_seed() {
        let masks = McDropout::new(adapter(1, "q_proj"), 0.25).unwrap();
        assert_eq!(masks.draw(3, 7, 0.0).unwrap().dropout, None);
        assert_eq!(
            masks.draw(3, 7, 1.0).unwrap().dropout,
            Some(Dropout {
                rate: 0.25,
                seed: 7,
                step: 0,
                draw: 3
            })
        );
        assert!(masks.draw(0, 0, f64::NAN).is_err());
        for rate in [0.0, 1.0, -0.1, f64::NAN] {
            assert!(matches!(
                McDropout::new(adapter(1, "q_proj"), rate),
                Err(PosteriorError::Setting {
                    setting: "dropout",
                    ..
                })
            ));
        }
    }
}

//! An adapter with a small network that predicts, for each token, the distribution of a matrix between
//! A and B (C-LoRA, arXiv 2505.17773). Draws share all weights and differ in the noise on that matrix;
//! the mean has none.

use std::collections::BTreeMap;

use burn::tensor::Device;

use super::noise::draw_by_noise;
use super::weights::only_kept;
use super::{Draw, Posterior, PosteriorError, Spread, Stored, StoredKind};
use crate::lora::side::{CloraDraw, CloraNetwork, CloraNoise, CloraStart, Side};
use crate::lora::{Adapter, LoraError};
use crate::model::DecoderConfig;

const CONTENT: &str = "contextual";

pub(super) const KIND: StoredKind = StoredKind {
    tag: CONTENT,
    words: "contextual: a small network between A and B predicts it for each token",
    has_variances: false,
    has_sides: true,
    restore: |mean, stored, decoder, device| {
        Ok(Box::new(Clora::from_stored(mean, stored, decoder, device)?))
    },
};
/// The prefix of its matrices' names.
const PREFIX: &str = "context.";
/// What sets a parameter of a network apart from A and B, in its path.
const PART: &str = ".context.";

/// A contextual adapter.
#[derive(Clone, Debug)]
pub struct Clora {
    mean: Adapter,
    facts: BTreeMap<String, String>,
}

impl Clora {
    /// The adapter with a new network beside every A and B, in place of any that it has.
    pub(crate) fn with_networks(adapter: &Adapter, start: CloraStart) -> Adapter {
        adapter.with_sides(|path, pair| {
            let device = pair.lora_A.val().device();
            Some(Side::Clora(start.network(path, pair.rank(), &device)))
        })
    }

    /// The adapter with this draw of the matrix in its networks.
    pub(crate) fn at_draw(adapter: &Adapter, draw: CloraDraw) -> Adapter {
        adapter.with_sides(|_, pair| match pair.side.clone() {
            Some(Side::Clora(network)) => Some(Side::Clora(CloraNetwork { draw, ..network })),
            other => other,
        })
    }

    /// The posterior of an adapter that has a network beside each A and B.
    ///
    /// # Errors
    /// If a pair has none.
    pub fn new(adapter: Adapter) -> Result<Self, PosteriorError> {
        let missing = adapter
            .pairs()
            .find(|(_, pair)| !matches!(pair.side, Some(Side::Clora(_))));
        if let Some((path, _)) = missing {
            let name = path.part("context.inner");
            return Err(LoraError::MissingTensor {
                path: "the adapter".into(),
                name,
            }
            .into());
        }
        Ok(Self {
            mean: Self::at_draw(&adapter, CloraDraw::default()),
            facts: BTreeMap::new(),
        })
    }

    /// Adds a fact to its file.
    pub fn with_fact(mut self, key: &str, value: impl ToString) -> Self {
        self.facts.insert(key.into(), value.to_string());
        self
    }

    fn from_stored(
        mean: Adapter,
        stored: &Stored,
        decoder: &DecoderConfig,
        device: &Device,
    ) -> Result<Self, PosteriorError> {
        let mut whole = Stored::new(CONTENT).with_adapter(PREFIX, &mean.without_sides())?;
        whole.path = stored.path.clone();
        // A and B are those of the mean; a file of this kind does not hold its own.
        for (name, matrix) in &stored.matrices {
            let belongs = name.contains(PART);
            if !belongs
                || whole
                    .matrices
                    .insert(name.clone(), matrix.clone())
                    .is_some()
            {
                return Err(LoraError::UnknownTensor {
                    path: stored.path.clone(),
                    name: name.clone(),
                    reason: "it is no part of a network between A and B".into(),
                }
                .into());
            }
        }
        Ok(Self {
            facts: stored.facts.clone(),
            ..Self::new(whole.adapter(PREFIX, &mean.scaling, decoder, device)?)?
        })
    }
}

impl Posterior for Clora {
    /// The noise of draw `sample` under `seed`, multiplied by √τ. That of a token also depends on
    /// the tokens up to it.
    fn draw(&self, sample: u64, seed: u64, scale: f64) -> Result<Draw, PosteriorError> {
        draw_by_noise(&self.mean, sample, seed, scale, |noise| {
            let noise = CloraNoise {
                address: noise.address,
                factor: scale.sqrt() as f32,
            };
            let draw = CloraDraw {
                noise: Some(noise),
                divergence: None,
            };
            Ok(Self::at_draw(&self.mean, draw))
        })
    }

    fn mean(&self) -> &Adapter {
        &self.mean
    }

    /// None: what varies is a matrix that each token has of its own.
    fn variance(&self) -> Option<&Adapter> {
        None
    }

    fn spread(&self) -> Spread {
        Spread::Scaled
    }

    fn pruned(&self, kept: &[bool]) -> Result<Box<dyn Posterior>, PosteriorError> {
        Ok(Box::new(Self {
            mean: only_kept(&self.mean, kept)?,
            facts: self.facts.clone(),
        }))
    }

    fn stored(&self) -> Result<Option<Stored>, PosteriorError> {
        let stored = Stored {
            facts: self.facts.clone(),
            ..Stored::new(CONTENT)
        };
        let mut stored = stored.with_adapter(PREFIX, &self.mean)?;
        stored.matrices.retain(|name, _| name.contains(PART));
        Ok(Some(stored))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lora::HostMatrix;
    use crate::testing::tiny::{adapter, decoder};

    const START: CloraStart = CloraStart {
        hidden: 6,
        sd: 0.05,
        seed: 3,
    };

    fn contextual() -> Clora {
        Clora::new(Clora::with_networks(&adapter(1, "q_proj"), START)).unwrap()
    }

    #[test]
    fn draws_are_the_mean_with_noise_by_their_number() {
        let posterior = contextual();
        let draw_of = |sample, seed, scale| {
            let drawn = posterior.draw(sample, seed, scale).unwrap().adapter;
            assert_eq!(
                drawn.flatten().unwrap(),
                posterior.mean().flatten().unwrap()
            );
            match &drawn.pairs().next().unwrap().1.side {
                Some(Side::Clora(network)) => network.draw,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(draw_of(1, 2, 0.0), CloraDraw::default());
        let noise = draw_of(1, 2, 4.0).noise.unwrap();
        assert_eq!(
            (noise.address.seed, noise.address.draw, noise.factor),
            (2, 1, 2.0)
        );
        assert!(posterior.draw(0, 0, f64::NAN).is_err() && posterior.variance().is_none());
    }

    #[test]
    fn it_reads_back_around_a_and_b_and_what_is_wrong_is_named() {
        let before = contextual().with_fact("context_prior_sd", 0.2);
        let stored = before.stored().unwrap().unwrap();
        assert_eq!(stored.matrices.len(), 2);
        let read = |stored: &Stored| {
            Clora::from_stored(adapter(1, "q_proj"), stored, &decoder(1), &Device::flex())
        };
        assert_eq!(
            read(&stored).unwrap().mean.flatten().unwrap(),
            before.mean.flatten().unwrap()
        );
        let name = |part: &str| {
            format!(
                "context.base_model.model.model.layers.0.self_attn.q_proj.context.{part}.weight"
            )
        };
        let refused = |change: &dyn Fn(&mut Stored)| {
            let mut other = stored.clone();
            change(&mut other);
            read(&other).err().unwrap().to_string()
        };
        assert!(
            refused(&|stored| drop(stored.matrices.remove(&name("outer"))))
                .starts_with("tensor `base_model.model.model.layers.0")
        );
        assert!(refused(&|stored| stored.matrices.clear()).contains("context.inner` is missing"));
        let short = |stored: &mut Stored| {
            drop(stored.matrices.insert(
                name("outer"),
                HostMatrix {
                    shape: [31, 7],
                    values: vec![0.0; 217],
                },
            ))
        };
        assert!(refused(&short).ends_with("has shape [31, 7], expected [32, 7]"));
        let own = |stored: &mut Stored| {
            drop(stored.matrices.insert(
                "lora_A".into(),
                HostMatrix {
                    shape: [1, 1],
                    values: vec![0.0],
                },
            ))
        };
        assert!(refused(&own).contains("it is no part of a network between A and B"));
        assert!(
            Clora::new(adapter(1, "q_proj"))
                .unwrap_err()
                .to_string()
                .contains("context.inner` is missing")
        );
    }
}

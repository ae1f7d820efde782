//! EVON: IVON in an eigenbasis of each matrix, so that the weights of a row or of a column vary
//! together.
//!
//! Source: arXiv 2606.23357; crate `ivon` says where it departs from its published code. A `[r, in]`
//! and B `[out, r]` are turned on the side of the rank, which costs next to nothing, or on both
//! sides where they are not too wide.

use ivon::{EigenbasisConfig, IvonConfig, Sides};
use serde::{Deserialize, Serialize};

use super::ivon::IvonMethodConfig;
use super::{Settings, Setup};
use crate::lora::Adapter;
use crate::settings::{Key, Kind};
use crate::train::{Optimizer, TrainError};

/// IVON's settings and those of the basis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvonMethodConfig {
    /// IVON's, in the basis: `clip_radius` clips the update of each coordinate.
    #[serde(flatten)]
    pub ivon: IvonMethodConfig,
    /// Which sides of a matrix are turned.
    pub sides: Sides,
    /// The widest side that is turned.
    pub widest_side: usize,
    /// Steps from one refresh of the basis to the next.
    pub basis_interval: u64,
    /// The decay of the averages of gradient products; `beta2` where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gram_decay: Option<f64>,
    /// The largest estimate of a Hessian's entry, as a multiple of the entry; 0 for no limit.
    pub estimate_limit: f64,
}

impl EvonMethodConfig {
    /// A row for each key that it has beside IVON's.
    pub const KEYS: [Key; 5] = [
        Key::new(
            "sides",
            Kind::OneOf(&["smaller", "left", "right", "both"]),
            "Which sides of a matrix get an eigenbasis; smaller: that of the rank.",
        ),
        Key::new(
            "widest_side",
            Kind::Whole,
            "The widest side that gets one: w wide it costs w² numbers, and w³ operations a refresh.",
        ),
        Key::new(
            "basis_interval",
            Kind::Whole,
            "Steps from one refresh of the eigenbasis to the next.",
        ),
        Key::new(
            "gram_decay",
            Kind::Number,
            "Decay of the averages that the eigenbasis is made of; beta2 where absent.",
        )
        .with_example("0.99"),
        Key::new(
            "estimate_limit",
            Kind::Number,
            "The largest estimate of a Hessian's entry, as a multiple of the entry; 0 for no limit.",
        ),
    ];
}

impl Default for EvonMethodConfig {
    fn default() -> Self {
        Self {
            ivon: IvonMethodConfig::default(),
            sides: Sides::Smaller,
            widest_side: 64,
            basis_interval: 10,
            gram_decay: None,
            estimate_limit: 2.0,
        }
    }
}

impl EvonMethodConfig {
    /// IVON's settings; β₂ is 0.999 unless given, since a basis that turns needs an h that follows.
    fn in_basis(&self) -> IvonMethodConfig {
        IvonMethodConfig {
            beta2: Some(self.ivon.beta2.unwrap_or(0.999)),
            ..self.ivon.clone()
        }
    }

    /// The settings of the crate `ivon`.
    fn optimizer_config(&self, seed: u64, examples: f64) -> IvonConfig {
        IvonConfig {
            estimate_limit: (self.estimate_limit != 0.0).then_some(self.estimate_limit),
            eigenbasis: Some(EigenbasisConfig {
                sides: self.sides,
                widest_side: self.widest_side,
                basis_interval: self.basis_interval,
                // Not that of the optimizer, which is 1 where the Hessian is frozen.
                gram_decay: Some(self.gram_decay.unwrap_or(self.in_basis().hessian_decay())),
            }),
            ..self.in_basis().optimizer_config(seed, examples)
        }
    }
}

impl Settings for EvonMethodConfig {
    fn name(&self) -> &'static str {
        "evon"
    }

    fn keys(&self) -> Vec<Key> {
        [IvonMethodConfig::KEYS.as_slice(), Self::KEYS.as_slice()].concat()
    }

    fn learning_rate(&self) -> f64 {
        self.ivon.rate()
    }

    fn validate(&self) -> Result<(), TrainError> {
        self.ivon.validate_with(&self.optimizer_config(0, 1.0))
    }

    fn squares_gradients(&self) -> Option<&'static str> {
        self.ivon.squared_batches()
    }

    fn start(&self, adapter: Adapter, setup: &Setup) -> Result<Box<dyn Optimizer>, TrainError> {
        self.validate()?;
        let config = self.optimizer_config(setup.seed, self.ivon.examples_per_draw(setup));
        self.ivon.start_with(config, adapter, setup)
    }
}

#[cfg(test)]
mod tests {
    use burn::module::Module;

    use super::*;
    use crate::method::testing::Bowl;
    use crate::posterior::{Posterior, Stored};
    use crate::testing::tiny::adapter;

    const SETUP: Setup = Setup {
        seed: 3,
        steps: 9,
        steps_per_epoch: 1,
        batch_size: 4,
        accumulation: 1,
        examples: 1,
        dropout: 0.0,
        weight_of_squares: 1.0,
    };

    fn lively() -> EvonMethodConfig {
        let mut config = EvonMethodConfig::default();
        (config.ivon.beta2, config.ivon.clip_radius) = (Some(0.9), 0.0);
        config.ivon.learning_rate = Some(1e-4);
        config
    }

    fn after(config: &EvonMethodConfig, steps: usize) -> Box<dyn Posterior> {
        let mut optimizer = config.start(adapter(1, "q_proj"), &SETUP).unwrap();
        for _ in 0..steps {
            optimizer
                .step(config.learning_rate(), &mut Bowl::default())
                .unwrap();
        }
        optimizer.posterior()
    }

    fn stored(config: &EvonMethodConfig, steps: usize) -> Stored {
        after(config, steps).stored().unwrap().unwrap()
    }

    fn sides(stored: &Stored) -> Vec<(String, usize)> {
        let turned = |prefix: &'static str| {
            let matrices = stored.matrices.iter();
            matrices.filter(move |(name, _)| name.starts_with(prefix))
        };
        turned("left.")
            .chain(turned("right."))
            .map(|(name, matrix)| {
                let end = if name.contains("lora_A") { "A" } else { "B" };
                (format!("{} {end}", &name[..4]), matrix.shape[0])
            })
            .collect()
    }

    #[test]
    fn an_adapter_is_turned_on_the_side_of_the_rank_or_on_both() {
        // The rank is 4, the width 32.
        let stored_smaller = stored(&lively(), 2);
        assert_eq!(stored_smaller.content, "rotated");
        let named = |sides: &[(&str, usize)]| -> Vec<(String, usize)> {
            let owned = sides.iter().map(|(name, width)| (name.to_string(), *width));
            owned.collect()
        };
        assert_eq!(
            sides(&stored_smaller),
            named(&[("left A", 4), ("righ B", 4)])
        );
        let both = EvonMethodConfig {
            sides: Sides::Both,
            ..lively()
        };
        assert_eq!(
            sides(&stored(&both, 2)),
            named(&[("left A", 4), ("left B", 32), ("righ A", 32), ("righ B", 4)])
        );
    }

    #[test]
    fn with_no_side_narrow_enough_it_takes_ivons_steps() {
        let narrow = EvonMethodConfig {
            widest_side: 1,
            estimate_limit: 0.0,
            ..lively()
        };
        let evon = after(&narrow, 5);
        let mut ivon = narrow.ivon.start(adapter(1, "q_proj"), &SETUP).unwrap();
        for _ in 0..5 {
            ivon.step(1e-4, &mut Bowl::default()).unwrap();
        }
        let numbers = |posterior: &dyn Posterior| {
            let draw = posterior.draw(1, 2, 1.0).unwrap();
            draw.adapter.flatten().unwrap()
        };
        assert_eq!(numbers(evon.as_ref()), numbers(ivon.posterior().as_ref()));
        assert_eq!(evon.stored().unwrap().unwrap().content, "variance");
    }

    #[test]
    fn a_control_without_noise_has_a_basis_of_its_gradients_at_the_mean() {
        // At the start B is 0: so is the bowl's gradient there, and B is not turned.
        let mut config = lively();
        config.ivon.no_noise = true;
        let start = adapter(1, "q_proj").clone_with(|path, tensor| {
            if path.ends_with("lora_B") {
                tensor.zeros_like()
            } else {
                tensor
            }
        });
        let mut optimizer = config.start(start, &SETUP).unwrap();
        optimizer.step(1e-4, &mut Bowl::default()).unwrap();
        let stored = optimizer.posterior().stored().unwrap().unwrap();
        assert_eq!(sides(&stored), [("left A".to_string(), 4)]);
    }

    #[test]
    fn the_prior_is_learned_in_the_basis_and_is_in_the_state() {
        let mut config = lively();
        config.ivon.learn_prior = true;
        let start = || config.start(adapter(1, "q_proj"), &SETUP).unwrap();
        let (mut one, mut other) = (start(), start());
        let mut bowl = Bowl::default();
        for _ in 0..13 {
            one.step(1e-4, &mut bowl).unwrap();
        }
        other
            .restore(one.adapter().valid(), &one.state().unwrap())
            .unwrap();
        let numbers = |optimizer: &dyn Optimizer| {
            let draw = optimizer.posterior().draw(0, 0, 1.0).unwrap();
            draw.adapter.flatten().unwrap()
        };
        for _ in 0..12 {
            for optimizer in [&mut one, &mut other] {
                optimizer.step(1e-4, &mut bowl).unwrap();
            }
            assert_eq!(numbers(one.as_ref()), numbers(other.as_ref()));
        }
    }

    #[test]
    fn settings_of_the_basis_are_checked() {
        let refused = |spoil: fn(&mut EvonMethodConfig)| {
            let mut config = EvonMethodConfig::default();
            spoil(&mut config);
            config.validate().unwrap_err().to_string()
        };
        assert!(refused(|config| config.basis_interval = 0).contains("`basis_interval`"));
        assert!(refused(|config| config.gram_decay = Some(1.0)).contains("`gram_decay`"));
        assert!(refused(|config| config.estimate_limit = -1.0).contains("`estimate_limit`"));
        assert!(refused(|config| config.ivon.ess = Some(0.0)).contains("`effective_sample_size`"));
    }
}

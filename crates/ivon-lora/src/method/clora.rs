//! C-LoRA (Rahmati et al., arXiv 2505.17773): Bayes by backprop over a matrix between A and B, whose
//! distribution a small network predicts for each token.
//!
//! ```text
//! y = W x + s · B E h,   h = A drop(x),   q(E | h) = N(M(h), Σ(h)²) token by token,   p(E) = N(0, p²)
//! loss = −ln p(label) + w Σ over layers and tokens of KL(q ‖ p), averaged over the examples of a step
//! ```
//!
//! AdamW trains A, B and the network on that loss with one reparametrised draw of E in each forward
//! pass. See [`crate::lora::side::CloraNetwork`] for the network and its noise.

use ivon::noise::{Address, Purpose};
use serde::{Deserialize, Serialize};

use super::adamw::{Adamw, AdamwConfig};
use super::{Settings, Setup};
use crate::lora::Adapter;
use crate::lora::side::{CloraDraw, CloraNoise, CloraStart, Divergence};
use crate::posterior::{Clora, Posterior};
use crate::settings::{Key, Kind, SettingError};
use crate::train::{Evidence, Objective, Optimizer, Through, TrainError, Update};

/// AdamW's settings and those of q.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CloraConfig {
    /// Those of A, B and the network.
    #[serde(flatten)]
    pub adamw: AdamwConfig,
    /// Width of the network's hidden layer.
    pub context_hidden: usize,
    /// What every entry of Σ starts as, approximately; below 1.
    pub context_sd: f64,
    /// p, the prior's standard deviation.
    pub context_prior_sd: f64,
    /// w, the weight of the KL in the loss.
    pub kl_weight: f64,
}

impl CloraConfig {
    /// A row for each key besides AdamW's.
    pub const KEYS: [Key; 4] = [
        Key::new(
            "context_hidden",
            Kind::Whole,
            "Numbers between the two layers of the network that predicts the matrix between A and B.",
        ),
        Key::new(
            "context_sd",
            Kind::Number,
            "About what the standard deviation of each entry of that matrix starts as.",
        ),
        Key::new(
            "context_prior_sd",
            Kind::Number,
            "The prior's standard deviation of each entry.",
        ),
        Key::new(
            "kl_weight",
            Kind::Number,
            "What a nat of the KL, over all tokens of an example, counts beside a nat of loss.",
        ),
    ];
}

impl Default for CloraConfig {
    fn default() -> Self {
        Self {
            adamw: AdamwConfig::default(),
            context_hidden: 64,
            context_sd: 0.05,
            context_prior_sd: 0.2,
            kl_weight: 1e-6,
        }
    }
}

impl Settings for CloraConfig {
    fn name(&self) -> &'static str {
        "clora"
    }

    fn keys(&self) -> Vec<Key> {
        [AdamwConfig::KEYS.as_slice(), Self::KEYS.as_slice()].concat()
    }

    fn learning_rate(&self) -> f64 {
        self.adamw.learning_rate
    }

    fn validate(&self) -> Result<(), TrainError> {
        if !(1..=4096).contains(&self.context_hidden) {
            return Err(SettingError::value(
                "context_hidden",
                self.context_hidden,
                "from 1 to 4096",
            )
            .into());
        }
        if !(1e-6..1.0).contains(&self.context_sd) {
            return Err(
                SettingError::value("context_sd", self.context_sd, "from 1e-6 to below 1").into(),
            );
        }
        if !(1e-6..1e6).contains(&self.context_prior_sd) {
            let expected = "from 1e-6 to below 1e6";
            return Err(
                SettingError::value("context_prior_sd", self.context_prior_sd, expected).into(),
            );
        }
        if !(0.0..=1.0).contains(&self.kl_weight) {
            return Err(SettingError::value("kl_weight", self.kl_weight, "from 0 to 1").into());
        }
        self.adamw.validate()
    }

    fn start(&self, adapter: Adapter, setup: &Setup) -> Result<Box<dyn Optimizer>, TrainError> {
        self.validate()?;
        let start = CloraStart {
            hidden: self.context_hidden,
            sd: self.context_sd,
            seed: setup.seed,
        };
        let adapter = if adapter.has_sides() {
            adapter
        } else {
            Clora::with_networks(&adapter, start)
        };
        let divergence = Divergence {
            prior_sd: self.context_prior_sd as f32,
            weight: self.kl_weight as f32,
        };
        Ok(Box::new(CloraOptimizer {
            adamw: self.adamw.optimizer(adapter)?,
            divergence,
            seed: setup.seed,
        }))
    }
}

/// An objective at draws of E.
struct AtDraws {
    divergence: Divergence,
    address: Address,
    draws: u64,
}

impl AtDraws {
    fn evaluate(
        &mut self,
        inner: &mut dyn Objective,
        adapter: &Adapter,
        micro_batch: usize,
        draw: u64,
    ) -> Result<Evidence, TrainError> {
        let noise = Some(CloraNoise {
            address: Address {
                draw: self.draws,
                ..self.address
            },
            factor: 1.0,
        });
        self.draws += 1;
        let divergence = (self.divergence.weight > 0.0).then_some(self.divergence);
        inner.evaluate(
            &Clora::at_draw(adapter, CloraDraw { noise, divergence }),
            micro_batch,
            draw,
        )
    }
}

/// C-LoRA under the training contract: AdamW at draws.
#[derive(Debug)]
struct CloraOptimizer {
    adamw: Adamw,
    divergence: Divergence,
    seed: u64,
}

impl Optimizer for CloraOptimizer {
    fn step(
        &mut self,
        learning_rate: f64,
        objective: &mut dyn Objective,
    ) -> Result<Update, TrainError> {
        let address = Address {
            seed: self.seed,
            purpose: Purpose::Training,
            step: self.adamw.steps(),
            draw: 0,
        };
        let mut at_draws = AtDraws {
            divergence: self.divergence,
            address,
            draws: 0,
        };
        let mut through = Through::new(objective, |inner, adapter, micro_batch, draw| {
            at_draws.evaluate(inner, adapter, micro_batch, draw)
        });
        self.adamw.step(learning_rate, &mut through)
    }

    fn adapter(&self) -> &Adapter {
        self.adamw.adapter()
    }

    fn posterior(&self) -> Box<dyn Posterior> {
        let point = self.adamw.posterior();
        match Clora::new(point.mean().clone()) {
            Ok(contextual) => {
                Box::new(contextual.with_fact("context_prior_sd", self.divergence.prior_sd))
            }
            // Unreachable: every pair was given a network at the start.
            Err(_) => point,
        }
    }

    fn state(&self) -> Result<Vec<u8>, TrainError> {
        self.adamw.state()
    }

    fn restore(&mut self, adapter: Adapter, state: &[u8]) -> Result<(), TrainError> {
        self.adamw.restore(adapter, state)
    }
}

#[cfg(test)]
mod tests {
    use burn::module::Module;
    use burn::tensor::{Device, Tensor, TensorData};

    use super::*;
    use crate::data::{Choices, Encoded, Target};
    use crate::forward::Network;
    use crate::lora::{Draw, LoraConfig, TargetModules};
    use crate::method::flat;
    use crate::model::{BasePrecision, Checkpoint, Decoder};
    use crate::predict::log_probabilities;
    use crate::testing::{golden, golden_normals};
    use crate::train::BatchObjective;
    use crate::watch::Progress;

    fn networks() -> [Network; 3] {
        let checkpoint = Checkpoint::open(golden().join("tiny/llama").to_str().unwrap()).unwrap();
        let decoder = || Decoder::load(&checkpoint, BasePrecision::F32).unwrap();
        let device = Device::flex();
        [
            Network::new(decoder(), &device, false),
            Network::new(decoder(), &device, true),
            Network::plain(decoder(), &device),
        ]
    }

    fn examples() -> Vec<Encoded> {
        let example = |key: u32| Encoded {
            id: key.to_string(),
            key: u64::from(key),
            tokens: vec![5, 6, 7, 8, 9 + key, 7, 30 - key],
            target: Target::Choice {
                choices: Choices::Tokens(vec![40, 41, 42]),
                label: Some(key as usize % 2),
            },
        };
        (0..3).map(example).collect()
    }

    /// On all layers, with numbers away from zero; networks of four hidden numbers.
    fn contextual(network: &Network) -> Adapter {
        let lora = LoraConfig {
            rank: 2,
            target_modules: TargetModules::Pattern("all-linear".into()),
            ..LoraConfig::default()
        };
        let adapter = Adapter::new(&lora, network.config(), 2, network.device())
            .unwrap()
            .with_scaling(2.0);
        let mut seed = 0;
        let start = CloraStart {
            hidden: 4,
            sd: 0.3,
            seed: 1,
        };
        Clora::with_networks(&adapter, start).clone_with(|path, tensor| {
            seed += 1;
            let (dims, device) = (tensor.dims(), tensor.device());
            let normals = golden_normals(seed, dims.iter().product())
                .iter()
                .map(|x| 0.2 * *x as f32)
                .collect::<Vec<f32>>();
            let noise = Tensor::<2>::from_data(TensorData::new(normals, dims), &device);
            if path.contains("lora") {
                noise
            } else {
                tensor + noise
            }
        })
    }

    fn draw(divergence: f32, factor: f32) -> CloraDraw {
        let address = Address {
            seed: 9,
            purpose: Purpose::Training,
            step: 3,
            draw: 0,
        };
        let divergence = (divergence > 0.0).then_some(Divergence {
            prior_sd: 0.4,
            weight: divergence,
        });
        CloraDraw {
            noise: (factor > 0.0).then_some(CloraNoise { address, factor }),
            divergence,
        }
    }

    /// Loss and gradients, dropout on.
    fn evidence(network: &Network, adapter: &Adapter) -> (f64, Vec<f32>) {
        let examples = examples();
        let mut objective = BatchObjective::new(network, 0.2, 1, 4, &[examples.iter().collect()]);
        let adapter = adapter.clone().train();
        let mut evidence = objective.evaluate(&adapter, 0, 0).unwrap();
        let gradients = flat::gradients(&adapter, &mut evidence.gradients);
        (evidence.loss, gradients.into_data().try_to_vec().unwrap())
    }

    #[test]
    fn the_hand_written_backward_pass_agrees_with_plain_operations() {
        let networks = networks();
        for drawn in [draw(0.0, 0.0), draw(0.0, 0.7), draw(0.01, 0.7)] {
            let found = networks
                .each_ref()
                .map(|network| evidence(network, &Clora::at_draw(&contextual(network), drawn)));
            let [(loss, gradients), recomputed, (plain_loss, plain)] = &found;
            assert!(
                (loss - plain_loss).abs() < 1e-4 * plain_loss,
                "{loss} {plain_loss}"
            );
            assert_eq!((loss, gradients), (&recomputed.0, &recomputed.1));
            let largest = plain.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
            let worst = gradients
                .iter()
                .zip(plain)
                .map(|(a, b)| (a - b).abs())
                .fold(0.0, f32::max);
            assert!(
                worst <= 2e-4 * largest && gradients.len() == plain.len(),
                "off by {worst} of {largest}"
            );
        }
    }

    #[test]
    fn the_gradient_is_that_of_the_loss_with_its_divergence_by_finite_differences() {
        let [network, ..] = networks();
        let adapter = Clora::at_draw(&contextual(&network), draw(0.003, 0.7));
        let (_, gradients) = evidence(&network, &adapter);
        let largest = gradients
            .iter()
            .fold(0.0f32, |largest, x| largest.max(x.abs()));
        let direction: Vec<f32> = golden_normals(77, gradients.len())
            .iter()
            .map(|x| *x as f32)
            .collect();
        let moved = |by: f32| {
            let mut places = direction.iter();
            evidence(
                &network,
                &adapter.clone_with(|_, tensor| {
                    let dims = tensor.dims();
                    let step: Vec<f32> = places
                        .by_ref()
                        .take(dims.iter().product())
                        .map(|x| by * x)
                        .collect();
                    tensor.clone()
                        + Tensor::<2>::from_data(TensorData::new(step, dims), &tensor.device())
                }),
            )
            .0
        };
        // The step is √P times that long: a fifth of the weights' own size would be too far.
        let slope = (moved(2e-4) - moved(-2e-4)) / 4e-4;
        let expected: f64 = gradients
            .iter()
            .zip(&direction)
            .map(|(g, x)| f64::from(g * x))
            .sum();
        assert!(
            (slope - expected).abs() < 0.02 * expected.abs() + 1e-3 * f64::from(largest),
            "{slope} {expected}"
        );
    }

    #[test]
    fn without_noise_and_at_the_identity_it_is_the_adapter_itself() {
        // W₂ = 0 and b₂ the identity: E is the identity whatever is read.
        let [network, ..] = networks();
        let adapter = contextual(&network);
        let identity = adapter.clone_with(|path, tensor| {
            if !path.ends_with("context.outer") {
                return tensor;
            }
            let bias = Tensor::<2>::from_data(
                [
                    [1.0f32],
                    [0.0],
                    [0.0],
                    [1.0],
                    [-1.0],
                    [-1.0],
                    [-1.0],
                    [-1.0],
                ],
                &tensor.device(),
            );
            Tensor::cat(vec![tensor.zeros_like().narrow(1, 0, 4), bias], 1)
        });
        let of = |adapter: &Adapter| {
            log_probabilities(
                &network,
                &Draw::of(adapter.clone()),
                &examples(),
                64,
                &mut Progress::silent(),
            )
            .unwrap()
        };
        let (with, without) = (of(&identity), of(&adapter.without_sides()));
        assert!(
            with.iter()
                .flatten()
                .zip(without.iter().flatten())
                .all(|(a, b)| (a - b).abs() < 1e-5)
        );
        assert!(
            of(&adapter)
                .iter()
                .flatten()
                .zip(without.iter().flatten())
                .any(|(a, b)| (a - b).abs() > 1e-3)
        );
        // With KL terms of known size: σ(−1)² = 0.0723 and M = I for every token of every layer.
        let weighted = Clora::at_draw(&identity, draw(1.0, 0.0));
        let batch = crate::predict::Questions::pack(&[&examples()[0]])
            .unwrap()
            .batch;
        let hidden = network.hidden(&batch, &Draw::of(weighted));
        let found = f64::from(hidden.penalty.unwrap().into_scalar::<f32>());
        let sd = (1.0 / (1.0 + 1f64.exp())).powi(2);
        let token = 4.0 * ((0.4 / sd).ln() + sd * sd / 0.32 - 0.5) + 2.0 / 0.32;
        // Seven tokens in all layers; in the last one, only keys and values see more than the asked
        // token.
        let layers = network.config().num_hidden_layers as f64;
        let rows = (layers - 1.0) * 7.0 * 7.0 + 2.0 * 7.0 + 5.0;
        assert!(
            (found / (rows * token) - 1.0).abs() < 1e-4,
            "{found} {}",
            rows * token
        );
    }

    #[test]
    fn a_draw_is_one_function_of_a_text_in_whatever_batch() {
        let [network, ..] = networks();
        let drawn = Clora::at_draw(&contextual(&network), draw(0.0, 1.0));
        let of = |examples: &[Encoded]| {
            log_probabilities(
                &network,
                &Draw::of(drawn.clone()),
                examples,
                64,
                &mut Progress::silent(),
            )
            .unwrap()
        };
        // Together they share their first four tokens, and so the noise on them.
        let together = of(&examples());
        for (example, expected) in examples().iter().zip(&together) {
            let alone = of(std::slice::from_ref(example));
            assert!(
                alone[0]
                    .iter()
                    .zip(expected)
                    .all(|(a, b)| (a - b).abs() < 1e-4),
                "{alone:?} {expected:?}"
            );
        }
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let message = |config: CloraConfig| config.validate().unwrap_err().to_string();
        let default = CloraConfig::default;
        assert_eq!(
            message(CloraConfig {
                context_hidden: 0,
                ..default()
            }),
            "`context_hidden` is `0`, expected from 1 to 4096"
        );
        assert_eq!(
            message(CloraConfig {
                context_sd: 1.0,
                ..default()
            }),
            "`context_sd` is `1`, expected from 1e-6 to below 1"
        );
        assert_eq!(
            message(CloraConfig {
                context_prior_sd: 0.0,
                ..default()
            }),
            "`context_prior_sd` is `0`, expected from 1e-6 to below 1e6"
        );
        assert_eq!(
            message(CloraConfig {
                kl_weight: -1.0,
                ..default()
            }),
            "`kl_weight` is `-1`, expected from 0 to 1"
        );
    }
}

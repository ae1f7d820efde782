//! BLoB (Wang et al., arXiv 2406.11675): Bayes by backprop over A; B is a point.
//!
//! q(A) = N(M, σ²) with σ = ρ², prior N(0, s²). At A = M + σ ⊙ z a step has the gradient g of the
//! mean loss, and
//!
//! ```text
//! AdamW:  M and B by g                SGD:  ρ by 2 ρ z ⊙ g + w ∂KL/∂ρ,  M by w ∂KL/∂M
//! KL(q‖p) = Σ ln(s/ρ²) + (ρ⁴ + M²)/(2 s²) − ½
//! ```
//!
//! with the weight w = 2^(i−T−1) at step i = 1 … T of a period (2^i/(2^(T+1)−1), written so that it
//! cannot overflow): the weights of a period sum to about 1, nearly all of it in its last steps.
//! With flipout each token of a forward pass has signs of its own on σ ⊙ z ([`crate::lora::side::Flipout`]);
//! without it all tokens share one draw, and the gradient has the same mean and a larger variance.
//! Posterior draws have no signs.

use std::collections::HashMap;

use burn::module::ParamId;
use burn::tensor::{Tensor, TensorData};
use ivon::noise::{Address, Purpose};
use serde::{Deserialize, Serialize};

use super::adamw::{Adamw, AdamwConfig};
use super::bytes::{Reader, Writer};
use super::{Settings, Setup, flat};
use crate::lora::side::{Flipout, Side, Signs};
use crate::lora::{Adapter, HostMatrix};
use crate::posterior::{Gaussian, Posterior};
use crate::random::{self, stream, uniform};
use crate::settings::{Key, Kind, SettingError};
use crate::train::{Evidence, Objective, Optimizer, Through, TrainError, Update};

/// AdamW's settings and those of q and its SGD; the defaults are the paper's, with AdamW's own
/// learning rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BlobConfig {
    /// Those of M and B.
    #[serde(flatten)]
    pub adamw: AdamwConfig,
    /// The learning rate of ρ and of the KL, before the schedule.
    pub kl_rate: f64,
    /// ρ starts uniformly distributed between this over √2 and this.
    pub rho_init: f64,
    /// s, the prior's standard deviation.
    pub prior_sd: f64,
    /// T, the steps over which the KL counts once; an epoch if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kl_period: Option<u64>,
    /// Whether each token has signs of its own on the noise of training.
    pub flipout: bool,
}

impl BlobConfig {
    pub(super) const KL_RATE: Key = Key::new(
        "kl_rate",
        Kind::Number,
        "The learning rate of the KL before the schedule, with blob of the spread as well.",
    );
    pub(super) const KL_PERIOD: Key = Key::new(
        "kl_period",
        Kind::Whole,
        "The steps over which the KL counts once; an epoch by default.",
    )
    .with_example("200");

    /// A row for each key besides AdamW's.
    pub const KEYS: [Key; 5] = [
        Self::KL_RATE,
        Key::new(
            "rho_init",
            Kind::Number,
            "The root of the standard deviation starts uniform between this over √2 and this.",
        ),
        Key::new("prior_sd", Kind::Number, "The prior's standard deviation."),
        Self::KL_PERIOD,
        Key::new(
            "flipout",
            Kind::Switch,
            "Give each token signs of its own on the noise of training.",
        ),
    ];
}

impl Default for BlobConfig {
    fn default() -> Self {
        Self {
            adamw: AdamwConfig::default(),
            kl_rate: 0.02,
            rho_init: 0.05,
            prior_sd: 0.2,
            kl_period: None,
            flipout: true,
        }
    }
}

/// Checks the settings of the KL in Bayes by backprop: rate, period, and standard deviations by name.
pub(super) fn validate_kl(
    kl_rate: f64,
    kl_period: Option<u64>,
    deviations: [(&'static str, f64); 2],
) -> Result<(), TrainError> {
    if !(kl_rate.is_finite() && kl_rate >= 0.0) {
        return Err(SettingError::value("kl_rate", kl_rate, "a finite number, at least 0").into());
    }
    for (name, value) in deviations {
        if !(value.is_finite() && value > 0.0) {
            return Err(SettingError::value(name, value, "a finite number above 0").into());
        }
    }
    if kl_period == Some(0) {
        return Err(SettingError::value("kl_period", 0.0, "at least 1").into());
    }
    Ok(())
}

impl Settings for BlobConfig {
    fn name(&self) -> &'static str {
        "blob"
    }

    fn keys(&self) -> Vec<Key> {
        [AdamwConfig::KEYS.as_slice(), Self::KEYS.as_slice()].concat()
    }

    fn learning_rate(&self) -> f64 {
        self.adamw.learning_rate
    }

    fn validate(&self) -> Result<(), TrainError> {
        validate_kl(
            self.kl_rate,
            self.kl_period,
            [("rho_init", self.rho_init), ("prior_sd", self.prior_sd)],
        )?;
        self.adamw.validate()
    }

    fn start(&self, adapter: Adapter, setup: &Setup) -> Result<Box<dyn Optimizer>, TrainError> {
        self.validate()?;
        let random = adapter.parameters().filter(|(path, _)| is_random(path));
        let rho = random.map(|(path, parameter)| {
            let mut numbers = starting_spreads(self.rho_init, setup.seed, &path);
            let count = parameter.lazy_shape().num_elements();
            let rho = (0..count).map(|_| numbers() as f32).collect();
            (path, rho)
        });
        let variational = Variational {
            rho: rho.collect(),
            kl_rate: self.kl_rate,
            prior_sd: self.prior_sd,
            period: self.kl_period.unwrap_or(setup.steps_per_epoch).max(1),
            flipout: self.flipout,
        };
        Ok(Box::new(BlobOptimizer {
            base_rate: self.adamw.learning_rate,
            adamw: self.adamw.optimizer(adapter)?,
            variational,
            seed: setup.seed,
        }))
    }
}

/// What spreads start as: numbers uniformly distributed between `high`/√2 and `high`, by the path of
/// their parameter.
pub(super) fn starting_spreads(high: f64, seed: u64, path: &str) -> impl FnMut() -> f64 + use<> {
    let mut numbers = stream(seed, random::Purpose::Initialisation, 0, 1, path);
    let low = std::f64::consts::FRAC_1_SQRT_2;
    move || high * (low + (1.0 - low) * uniform(&mut numbers))
}

/// Whether q is over a parameter.
fn is_random(path: &str) -> bool {
    path.ends_with("lora_A")
}

/// The spread of q, and how it is learned.
#[derive(Clone, Debug)]
struct Variational {
    /// ρ of every A with its path, in the adapter's order.
    rho: Vec<(String, Vec<f32>)>,
    kl_rate: f64,
    prior_sd: f64,
    period: u64,
    flipout: bool,
}

/// w at a step, counted from 1.
pub(super) fn kl_weight(step: u64, period: u64) -> f64 {
    let place = (step - 1) % period + 1;
    (place as f64 - period as f64 - 1.0).exp2()
}

/// ∂KL/∂M and ∂KL/∂ρ of one weight.
fn kl_gradient(mean: f64, rho: f64, prior_sd: f64) -> (f64, f64) {
    let precision = 1.0 / (prior_sd * prior_sd);
    (mean * precision, 2.0 * rho.powi(3) * precision - 2.0 / rho)
}

/// An objective at draws of A, which accumulates the gradients of ρ.
struct AtDraws<'a> {
    variational: &'a Variational,
    address: Address,
    draws: u64,
    /// Σ share · 2 ρ z ⊙ g of every A.
    slopes: Vec<Vec<f64>>,
}

impl AtDraws<'_> {
    fn evaluate(
        &mut self,
        inner: &mut dyn Objective,
        adapter: &Adapter,
        micro_batch: usize,
        draw: u64,
    ) -> Result<Evidence, TrainError> {
        let address = Address {
            draw: self.draws,
            ..self.address
        };
        self.draws += 1;
        let normals = self.normals(&address);
        let (drawn, ids) = match self.variational.flipout {
            true => self.with_signs(adapter, &normals, &address),
            false => self.shifted(adapter, &normals)?,
        };
        let share = inner.share(micro_batch);
        let evidence = inner.evaluate(&drawn, micro_batch, draw)?;
        self.learn(ids, &normals, &evidence, share)?;
        Ok(evidence)
    }
}

impl AtDraws<'_> {
    /// z of every A, by address.
    fn normals(&self, address: &Address) -> Vec<Vec<f32>> {
        let normals = |(path, rho): &(String, Vec<f32>)| {
            let mut normals = vec![0.0f32; rho.len()];
            address.fill(path, &mut normals);
            normals
        };
        self.variational.rho.iter().map(normals).collect()
    }

    /// The adapter with σ ⊙ z beside every A, under signs for each token, and the ids of this noise.
    fn with_signs(
        &self,
        adapter: &Adapter,
        normals: &[Vec<f32>],
        address: &Address,
    ) -> (Adapter, Vec<ParamId>) {
        let noise = |((path, rho), z): (&(String, Vec<f32>), &Vec<f32>)| {
            let noise = rho.iter().zip(z).map(|(rho, z)| rho * rho * z).collect();
            (path.clone(), noise)
        };
        let noisy = self.variational.rho.iter().zip(normals);
        let mut noise: HashMap<String, Vec<f32>> = noisy.map(noise).collect();
        let signs = Signs {
            seed: address.seed,
            step: address.step,
            draw: address.draw,
        };
        let drawn = with_flipout(adapter, signs, |path| noise.remove(path));
        let ids = drawn.pairs().filter_map(|(_, pair)| match &pair.side {
            Some(Side::Flipout(flipout)) => Some(flipout.noise.id),
            _ => None,
        });
        let ids = ids.collect();
        (drawn, ids)
    }

    /// The adapter at A = M + σ ⊙ z, and the ids of every A.
    fn shifted(
        &self,
        adapter: &Adapter,
        normals: &[Vec<f32>],
    ) -> Result<(Adapter, Vec<ParamId>), TrainError> {
        let means = adapter.to_matrices()?.into_iter();
        let means = means.filter(|(path, _)| is_random(path));
        let noisy = means.zip(&self.variational.rho).zip(normals).map(
            |(((path, mut mean), (_, rho)), normals)| {
                let noise = rho.iter().zip(normals);
                let values = mean.values.iter_mut().zip(noise);
                values.for_each(|(value, (rho, z))| *value += rho * rho * z);
                (path, mean.values)
            },
        );
        let drawn = flat::with_parameters(adapter, noisy.collect());
        let random = drawn.parameters().filter(|(path, _)| is_random(path));
        let ids = random.map(|(_, parameter)| parameter.id).collect();
        Ok((drawn, ids))
    }
}

/// The adapter with noise on every A for whose path `noise` has some.
fn with_flipout(
    adapter: &Adapter,
    signs: Signs,
    mut noise: impl FnMut(&str) -> Option<Vec<f32>>,
) -> Adapter {
    adapter.with_sides(|path, pair| {
        let a = pair.lora_A.val();
        let (shape, values) = (a.dims(), noise(&format!("{path}.lora_A"))?);
        let noise = HostMatrix { shape, values };
        (noise.values.len() == shape[0] * shape[1])
            .then(|| Side::Flipout(Flipout::new(noise, signs, &a.device())))
    })
}

impl AtDraws<'_> {
    /// Adds share · 2 ρ z ⊙ g, where g is the gradient of each A's σ ⊙ z, found by its id.
    fn learn(
        &mut self,
        ids: Vec<ParamId>,
        normals: &[Vec<f32>],
        evidence: &Evidence,
        share: f64,
    ) -> Result<(), TrainError> {
        for (((id, (_, rho)), normals), slopes) in ids
            .into_iter()
            .zip(&self.variational.rho)
            .zip(normals)
            .zip(&mut self.slopes)
        {
            let Some(gradient) = flat::gradient(&evidence.gradients, id)? else {
                continue;
            };
            for (((slope, g), rho), z) in slopes.iter_mut().zip(gradient).zip(rho).zip(normals) {
                *slope += share * 2.0 * f64::from(*rho) * f64::from(*z) * f64::from(g);
            }
        }
        Ok(())
    }
}

/// BLoB under the training contract.
#[derive(Debug)]
struct BlobOptimizer {
    adamw: Adamw,
    variational: Variational,
    seed: u64,
    base_rate: f64,
}

impl BlobOptimizer {
    /// The step of SGD on ρ and the KL, after AdamW's.
    fn descend(&mut self, rate: f64, slopes: &[Vec<f64>]) -> Result<(), TrainError> {
        let step = self.adamw.steps();
        let weight = kl_weight(step, self.variational.period);
        let prior_sd = self.variational.prior_sd;
        let (mut new_rho, mut new_mean) = (self.variational.rho.clone(), HashMap::new());
        let means = self.adamw.adapter().to_matrices()?.into_iter();
        let means = means.filter(|(path, _)| is_random(path));
        for (((_, rho), (path, mut mean)), slopes) in new_rho.iter_mut().zip(means).zip(slopes) {
            for ((rho, mean), slope) in rho.iter_mut().zip(&mut mean.values).zip(slopes) {
                let (by_mean, by_rho) = kl_gradient(f64::from(*mean), f64::from(*rho), prior_sd);
                *rho = (f64::from(*rho) - rate * (slope + weight * by_rho)) as f32;
                *mean = (f64::from(*mean) - rate * weight * by_mean) as f32;
            }
            let mut values = rho.iter().chain(&mean.values);
            if values.any(|value| !value.is_finite()) {
                return Err(TrainError::Step {
                    step,
                    reason: format!("the spread of `{path}` is not finite"),
                    good: None,
                });
            }
            new_mean.insert(path, mean.values);
        }
        let moved = flat::with_parameters(self.adamw.adapter(), new_mean);
        self.adamw.set_adapter(moved);
        self.variational.rho = new_rho;
        Ok(())
    }
}

impl Optimizer for BlobOptimizer {
    fn step(
        &mut self,
        learning_rate: f64,
        objective: &mut dyn Objective,
    ) -> Result<Update, TrainError> {
        let before = self.adamw.clone();
        let address = Address {
            seed: self.seed,
            purpose: Purpose::Training,
            step: before.steps(),
            draw: 0,
        };
        let rho = self.variational.rho.iter();
        let mut at_draws = AtDraws {
            variational: &self.variational,
            address,
            draws: 0,
            slopes: rho.map(|(_, rho)| vec![0.0; rho.len()]).collect(),
        };
        let mut through = Through::new(objective, |inner, adapter, micro_batch, draw| {
            at_draws.evaluate(inner, adapter, micro_batch, draw)
        });
        let update = self.adamw.step(learning_rate, &mut through)?;
        let slopes = at_draws.slopes;
        let rate = self.variational.kl_rate * learning_rate / self.base_rate;
        if let Err(error) = self.descend(rate, &slopes) {
            self.adamw = before;
            return Err(error);
        }
        Ok(update)
    }

    fn adapter(&self) -> &Adapter {
        self.adamw.adapter()
    }

    fn posterior(&self) -> Box<dyn Posterior> {
        let point = self.adamw.posterior();
        let mut rho = self.variational.rho.iter();
        let variance = point.mean().clone_with(|path, tensor| {
            match is_random(path).then(|| rho.next()).flatten() {
                None => tensor.zeros_like(),
                Some((_, rho)) => {
                    let values: Vec<f32> = rho.iter().map(|rho| rho.powi(4)).collect();
                    Tensor::from_data(TensorData::new(values, tensor.dims()), &tensor.device())
                }
            }
        });
        match Gaussian::new(point.mean().clone(), variance) {
            Ok(gaussian) => Box::new(gaussian.with_fact("prior_sd", self.variational.prior_sd)),
            // ρ is finite after every step: only if ρ⁴ overflows is the mean all that is left.
            Err(_) => point,
        }
    }

    fn state(&self) -> Result<Vec<u8>, TrainError> {
        let writer = Writer::default().bytes(&self.adamw.state()?);
        Ok(self
            .variational
            .rho
            .iter()
            .fold(writer, |writer, (_, rho)| writer.singles(rho))
            .finish())
    }

    fn restore(&mut self, adapter: Adapter, state: &[u8]) -> Result<(), TrainError> {
        let mut reader = Reader::new(state);
        let adamw = reader.bytes()?;
        let read = |(path, rho): &(String, Vec<f32>)| {
            Ok::<_, TrainError>((path.clone(), reader.singles(rho.len())?))
        };
        let rho = self.variational.rho.iter().map(read);
        let rho = rho.collect::<Result<_, _>>()?;
        reader.finish()?;
        self.adamw.restore(adapter, adamw)?;
        self.variational.rho = rho;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use burn::module::Module;
    use burn::tensor::Device;

    use super::*;
    use crate::data::{Choices, Encoded, Target};
    use crate::forward::Network;
    use crate::lora::Draw;
    use crate::method::testing::Bowl;
    use crate::model::{BasePrecision, Checkpoint, Decoder};
    use crate::predict::log_probabilities;
    use crate::testing::tiny::adapter;
    use crate::testing::{golden, golden_normals};
    use crate::train::BatchObjective;
    use crate::watch::Progress;

    #[test]
    fn the_weights_of_a_period_sum_to_one_and_the_last_has_half() {
        // Exactly 1 − 2^(−T) with the weight written as a power alone; the paper's differs by the
        // factor 1 + 2^(−T−1).
        let weights: Vec<f64> = (1..=10).map(|step| kl_weight(step, 10)).collect();
        assert!((weights.iter().sum::<f64>() - (1.0 - 2f64.powi(-10))).abs() < 1e-15);
        assert_eq!(
            (weights[9], kl_weight(11, 10), kl_weight(1, 5000)),
            (0.5, weights[0], 0.0)
        );
        for (place, weight) in weights.iter().enumerate() {
            let exact = 2f64.powi(place as i32 + 1) / (2f64.powi(11) - 1.0);
            assert!((weight / exact - 1.0).abs() < 1e-3);
        }
    }

    #[test]
    fn the_gradient_of_the_kl_is_that_by_finite_differences() {
        let kl = |mean: f64, rho: f64| {
            (0.2 / rho.powi(2)).ln() + (rho.powi(4) + mean * mean) / (2.0 * 0.04) - 0.5
        };
        for (mean, rho) in [(0.03, 0.05), (-0.4, 0.3), (0.0, 0.2f64.sqrt())] {
            let (by_mean, by_rho) = kl_gradient(mean, rho, 0.2);
            let step = 1e-6;
            assert!(
                (by_mean - (kl(mean + step, rho) - kl(mean - step, rho)) / (2.0 * step)).abs()
                    < 1e-6
            );
            assert!(
                (by_rho - (kl(mean, rho + step) - kl(mean, rho - step)) / (2.0 * step)).abs()
                    < 1e-5
            );
        }
        // q is the prior: nothing pulls.
        assert!(kl_gradient(0.0, 0.2f64.sqrt(), 0.2).1.abs() < 1e-12);
    }

    #[test]
    fn a_step_is_the_one_worked_out_by_hand() {
        let adamw = AdamwConfig {
            learning_rate: 0.01,
            ..AdamwConfig::default()
        };
        let config = BlobConfig {
            adamw,
            flipout: false,
            ..BlobConfig::default()
        };
        let setup = Setup {
            seed: 3,
            steps: 4,
            steps_per_epoch: 1,
            batch_size: 4,
            accumulation: 1,
            examples: 4,
            dropout: 0.0,
            weight_of_squares: 1.0,
        };
        let mut optimizer = config.start(adapter(1, "q_proj"), &setup).unwrap();
        let (mean, variance) = {
            let posterior = optimizer.posterior();
            (
                posterior.mean().flatten().unwrap(),
                posterior.variance().unwrap().flatten().unwrap(),
            )
        };
        // σ = ρ² with ρ between 0.0354 and 0.05 on A, and none on B.
        assert!(
            variance[..128]
                .iter()
                .all(|variance| (0.001249..0.002501).contains(&variance.sqrt()))
        );
        assert!(variance[128..].iter().all(|&variance| variance == 0.0));
        // The bowl's gradient is the weight itself; half the learning rate is half of the schedule.
        let mut bowl = Bowl::default();
        optimizer.step(0.005, &mut bowl).unwrap();
        let posterior = optimizer.posterior();
        let (after, spread) = (
            posterior.mean().flatten().unwrap(),
            posterior.variance().unwrap().flatten().unwrap(),
        );
        for place in 0..256 {
            let (m, drawn) = (f64::from(mean[place]), f64::from(bowl.seen[0][place]));
            // AdamW's first step is the learning rate in the gradient's direction.
            let by_adamw = m - 0.005 * drawn / (drawn.abs() + 1e-8);
            if place >= 128 {
                assert_eq!(drawn, m);
                assert!((f64::from(after[place]) - by_adamw).abs() < 1e-6);
                continue;
            }
            let rho = f64::from(variance[place]).powf(0.25);
            let z = (drawn - m) / rho.powi(2);
            assert!(z.abs() < 7.0);
            // w = ½ at the last step of a period of one, SGD's rate 0.02 · ½.
            let expected = by_adamw - 0.01 * 0.5 * by_adamw / 0.04;
            assert!(
                (f64::from(after[place]) - expected).abs() < 1e-5,
                "{place}: {} {expected}",
                after[place]
            );
            let rho =
                rho - 0.01 * (2.0 * rho * z * drawn + 0.5 * (2.0 * rho.powi(3) / 0.04 - 2.0 / rho));
            assert!(
                (f64::from(spread[place]) / rho.powi(4) - 1.0).abs() < 1e-3,
                "{place}: {} {}",
                spread[place],
                rho.powi(4)
            );
        }
    }

    fn networks() -> [Network; 2] {
        let checkpoint = Checkpoint::open(golden().join("tiny/llama").to_str().unwrap()).unwrap();
        let decoder = || Decoder::load(&checkpoint, BasePrecision::F32).unwrap();
        [
            Network::new(decoder(), &Device::flex(), false),
            Network::plain(decoder(), &Device::flex()),
        ]
    }

    const SIGNS: Signs = Signs {
        seed: 5,
        step: 1,
        draw: 0,
    };

    fn example(tokens: Vec<u32>) -> Encoded {
        Encoded {
            id: "e".into(),
            key: 3,
            tokens,
            target: Target::Choice {
                choices: Choices::Tokens(vec![40, 41, 42]),
                label: Some(1),
            },
        }
    }

    /// N of the A at a path.
    fn noise_at(path: &str, len: usize) -> Vec<f32> {
        golden_normals(path.len() as u64, len)
            .iter()
            .map(|x| 0.3 * *x as f32)
            .collect()
    }

    #[test]
    fn the_gradients_with_flipout_agree_with_plain_operations() {
        let examples = [example(vec![5, 6, 7, 8, 9]), example(vec![5, 9, 7])];
        let found = networks().map(|network| {
            let adapter = adapter(network.config().num_hidden_layers, "all-linear").train();
            let drawn = with_flipout(&adapter, SIGNS, |path| {
                let shape = adapter
                    .parameters()
                    .find(|(other, _)| other == path)
                    .unwrap()
                    .1
                    .lazy_shape()
                    .num_elements();
                Some(noise_at(path, shape))
            });
            let mut objective =
                BatchObjective::new(&network, 0.2, 1, 4, &[examples.iter().collect()]);
            let mut evidence = objective.evaluate(&drawn, 0, 0).unwrap();
            let gradients = flat::gradients(&drawn, &mut evidence.gradients);
            (
                evidence.loss,
                gradients.into_data().try_to_vec::<f32>().unwrap(),
            )
        });
        let [(loss, gradients), (plain_loss, plain)] = &found;
        assert!(
            (loss - plain_loss).abs() < 1e-4 * plain_loss,
            "{loss} {plain_loss}"
        );
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

    #[test]
    fn a_token_with_flipout_has_the_adapter_with_its_own_signs_on_the_noise() {
        // A prompt of one token: A + s rᵀ ⊙ N in the place of A is the same function.
        let [network, _] = networks();
        let adapter = adapter(network.config().num_hidden_layers, "all-linear");
        let len = |path: &str| {
            adapter
                .parameters()
                .find(|(other, _)| other == path)
                .unwrap()
                .1
                .lazy_shape()
                .num_elements()
        };
        let drawn = with_flipout(&adapter, SIGNS, |path| Some(noise_at(path, len(path))));
        let only = example(vec![17]);
        let mut batch = crate::data::Batch::default();
        batch.push(&[17], None, 3);
        let key = batch.prefix_keys();
        let written_out = adapter.clone_with(|path, tensor| {
            let Some(layer) = path.strip_suffix(".lora_A") else {
                return tensor;
            };
            let [rank, inputs] = tensor.dims();
            let (mut r, mut s) = (vec![1.0; inputs], vec![1.0; rank]);
            SIGNS.apply(layer, 0, &key, &mut r);
            SIGNS.apply(layer, 1, &key, &mut s);
            let noise = noise_at(path, rank * inputs);
            let noise: Vec<f32> = noise
                .iter()
                .enumerate()
                .map(|(at, n)| s[at / inputs] * r[at % inputs] * n)
                .collect();
            tensor.clone()
                + Tensor::<2>::from_data(TensorData::new(noise, [rank, inputs]), &tensor.device())
        });
        let of = |adapter: &Adapter| {
            let draw = Draw::of(adapter.clone());
            log_probabilities(
                &network,
                &draw,
                std::slice::from_ref(&only),
                64,
                &mut Progress::silent(),
            )
            .unwrap()
        };
        let (found, expected, without) = (of(&drawn), of(&written_out), of(&adapter));
        assert!(
            found[0]
                .iter()
                .zip(&expected[0])
                .all(|(a, b)| (a - b).abs() < 1e-4),
            "{found:?} {expected:?}"
        );
        assert!(
            found[0]
                .iter()
                .zip(&without[0])
                .any(|(a, b)| (a - b).abs() > 1e-3)
        );
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let message = |config: BlobConfig| config.validate().unwrap_err().to_string();
        assert_eq!(
            message(BlobConfig {
                kl_rate: -1.0,
                ..Default::default()
            }),
            "`kl_rate` is `-1`, expected a finite number, at least 0"
        );
        assert_eq!(
            message(BlobConfig {
                rho_init: 0.0,
                ..Default::default()
            }),
            "`rho_init` is `0`, expected a finite number above 0"
        );
        assert_eq!(
            message(BlobConfig {
                kl_period: Some(0),
                ..Default::default()
            }),
            "`kl_period` is `0`, expected at least 1"
        );
    }
}

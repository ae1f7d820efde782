//! A variational last layer (PoLAR-VBLL, arXiv 2604.03388, after VBLL, Harrison et al., arXiv 2404.11599)
//! behind a plain LoRA adapter.
//!
//! ```text
//! z_c = w_cᵀ h,  q(w_c) = N(ŵ_c, u_c² diag(s_c²)),  p(w_c) = N(ŵ_c, u_c² p²),  u_c² = ‖ŵ_c‖²/H
//! loss = mean over examples of [−ŵ_yᵀ h + ln Σ_c exp(ŵ_cᵀ h + ½ u_c² Σᵢ hᵢ² s_cᵢ²)] + w/N Σ KL(q ‖ p)
//! ```
//!
//! h is the hidden state at the scored token and ŵ_c the checkpoint's output row for the token of choice
//! c. AdamW trains the adapter and ln s together, with one forward pass per evaluation of the bound. The
//! mean of a row stays ŵ_c, so that the predictions at the mean are those of the adapter in PEFT. Models
//! that limit their logits (Gemma 2 and 4: z = c tanh(wᵀ h / c)) are refused: their z is not normal.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::adamw::{Adamw, AdamwConfig};
use super::adamw_vector::AdamwVector;
use super::bytes::{Reader, Writer};
use super::{Passes, Settings, Setup};
use crate::lora::Adapter;
use crate::posterior::{LastLayer, OutputNoise, Posterior};
use crate::settings::{Key, Kind, SettingError};
use crate::train::{Evidence, Objective, Optimizer, Through, TrainError, Update};

/// AdamW's settings and those of q.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LastLayerConfig {
    /// Those of the adapter; ln s has the same decays.
    #[serde(flatten)]
    pub adamw: AdamwConfig,
    /// The learning rate of ln s before the schedule.
    pub head_learning_rate: f64,
    /// What every s starts as.
    pub head_sd: f64,
    /// p.
    pub head_prior_sd: f64,
    /// w; with 1 the loss is the negative evidence lower bound over N.
    pub head_kl_weight: f64,
}

impl LastLayerConfig {
    /// A row for each key that it has beside AdamW's.
    pub const KEYS: [Key; 4] = [
        Key::new(
            "head_learning_rate",
            Kind::Number,
            "The learning rate of the output layer's log standard deviations before the schedule.",
        ),
        Key::new(
            "head_sd",
            Kind::Number,
            "What each standard deviation of an output row starts as, relative to the row's numbers.",
        ),
        Key::new(
            "head_prior_sd",
            Kind::Number,
            "The prior's standard deviation, relative to the row's numbers.",
        ),
        Key::new(
            "head_kl_weight",
            Kind::Number,
            "What the KL over the number of training examples counts beside the loss.",
        ),
    ];
}

impl Default for LastLayerConfig {
    fn default() -> Self {
        Self {
            adamw: AdamwConfig::default(),
            head_learning_rate: 2e-2,
            head_sd: 0.05,
            head_prior_sd: 0.2,
            head_kl_weight: 1.0,
        }
    }
}

impl Settings for LastLayerConfig {
    fn name(&self) -> &'static str {
        "last-layer"
    }

    fn keys(&self) -> Vec<Key> {
        [AdamwConfig::KEYS.as_slice(), Self::KEYS.as_slice()].concat()
    }

    fn learning_rate(&self) -> f64 {
        self.adamw.learning_rate
    }

    fn validate(&self) -> Result<(), TrainError> {
        let rate = self.head_learning_rate;
        if !(rate.is_finite() && rate >= 0.0) {
            let expected = "a finite number, at least 0";
            return Err(SettingError::value("head_learning_rate", rate, expected).into());
        }
        for (name, sd) in [
            ("head_sd", self.head_sd),
            ("head_prior_sd", self.head_prior_sd),
        ] {
            if !(1e-20..=1e3).contains(&sd) {
                return Err(SettingError::value(name, sd, "from 1e-20 to 1000").into());
            }
        }
        if !(0.0..=1e3).contains(&self.head_kl_weight) {
            let found = self.head_kl_weight;
            return Err(SettingError::value("head_kl_weight", found, "from 0 to 1000").into());
        }
        self.adamw.validate()
    }

    fn learns_texts(&self) -> bool {
        false
    }

    fn needs_single_tokens(&self) -> bool {
        true
    }

    fn needs_linear_logits(&self) -> bool {
        true
    }

    /// One pass, whatever the number of draws.
    fn prediction_passes(&self, _samples: usize) -> Passes {
        Passes {
            together: 1.0,
            alone: 0.0,
        }
    }

    fn start(&self, adapter: Adapter, setup: &Setup) -> Result<Box<dyn Optimizer>, TrainError> {
        self.validate()?;
        Ok(Box::new(LastLayerOptimizer {
            adamw: self.adamw.optimizer(adapter)?,
            rows: BTreeMap::new(),
            posterior: noise(&BTreeMap::new(), self.head_prior_sd)?,
            kl_share: self.head_kl_weight / setup.examples.max(1) as f64,
            config: self.clone(),
        }))
    }
}

/// The derivative of KL(N(w, s²) ‖ N(w, p²)) = ln(p/s) + ½ (s/p)² − ½ in ln s.
fn divergence_slope(sd: f64, prior: f64) -> f64 {
    (sd / prior).powi(2) - 1.0
}

/// The noise of these rows; `other` is s of all others.
fn noise(rows: &BTreeMap<u32, Row>, other: f64) -> Result<OutputNoise, TrainError> {
    let rows = rows.iter().map(|(&token, row)| (token, row.variances()));
    Ok(OutputNoise::new(rows.collect(), (other * other) as f32)?)
}

/// ln s of a row, `[H]`, as AdamW trains it.
#[derive(Clone, Debug)]
struct Row {
    log_sd: AdamwVector,
}

impl Row {
    fn new(sd: f64, width: usize) -> Self {
        Self {
            log_sd: AdamwVector::new(vec![sd.ln() as f32; width]),
        }
    }

    /// s².
    fn variances(&self) -> Vec<f32> {
        let logs = self.log_sd.values.iter();
        logs.map(|log| (2.0 * log).exp()).collect()
    }

    /// A step with `slopes`, the gradient of the bound by s²; none if the row scored no choice.
    fn moved(
        &self,
        slopes: Option<&Vec<f32>>,
        config: &LastLayerConfig,
        kl_share: f64,
        learning_rate: f64,
    ) -> Result<Self, TrainError> {
        let slope = |place: usize| slopes.map_or(0.0, |slopes| f64::from(slopes[place]));
        let gradient = |(place, variance): (usize, f32)| {
            // ∂s²/∂ln s = 2 s².
            let variance = f64::from(variance);
            let divergence = divergence_slope(variance.sqrt(), config.head_prior_sd);
            (2.0 * variance * slope(place) + kl_share * divergence) as f32
        };
        let variances = self.variances().into_iter().enumerate();
        let gradient = variances.map(gradient).collect();
        let adamw = &config.adamw;
        Ok(Self {
            log_sd: self.log_sd.after_step(adamw, gradient, learning_rate)?,
        })
    }
}

/// An objective that is evaluated by its bound under noise on the output layer.
struct UnderNoise {
    noise: OutputNoise,
    /// The gradient of the bound by s², summed over the micro-batches so far, by token.
    slopes: BTreeMap<u32, Vec<f32>>,
}

impl UnderNoise {
    fn evaluate(
        &mut self,
        inner: &mut dyn Objective,
        adapter: &Adapter,
        micro_batch: usize,
        draw: u64,
    ) -> Result<Evidence, TrainError> {
        let share = inner.share(micro_batch) as f32;
        let found = inner.evaluate_bound(adapter, &self.noise, micro_batch, draw)?;
        for (token, row) in found.rows {
            let sum = self.slopes.entry(token);
            let sum = sum.or_insert_with(|| vec![0.0; row.len()]);
            sum.iter_mut()
                .zip(row)
                .for_each(|(sum, part)| *sum += share * part);
        }
        Ok(found.adapter)
    }
}

/// A variational last layer under the training contract.
#[derive(Clone, Debug)]
struct LastLayerOptimizer {
    adamw: Adamw,
    config: LastLayerConfig,
    /// The rows that have scored a choice, by token.
    rows: BTreeMap<u32, Row>,
    /// Their noise; all other rows have the prior's.
    posterior: OutputNoise,
    /// w/N.
    kl_share: f64,
}

impl LastLayerOptimizer {
    /// The rows after a step with these gradients by s²; a row that is new starts with this step.
    fn moved_rows(
        &self,
        slopes: &BTreeMap<u32, Vec<f32>>,
        learning_rate: f64,
    ) -> Result<BTreeMap<u32, Row>, TrainError> {
        let mut rows = self.rows.clone();
        for (&token, row) in slopes {
            rows.entry(token)
                .or_insert_with(|| Row::new(self.config.head_sd, row.len()));
        }
        let moved = |(token, row): (u32, Row)| {
            let slopes = slopes.get(&token);
            let moved = row.moved(slopes, &self.config, self.kl_share, learning_rate)?;
            Ok((token, moved))
        };
        rows.into_iter().map(moved).collect()
    }
}

impl Optimizer for LastLayerOptimizer {
    fn step(
        &mut self,
        learning_rate: f64,
        objective: &mut dyn Objective,
    ) -> Result<Update, TrainError> {
        let mut under_noise = UnderNoise {
            noise: noise(&self.rows, self.config.head_sd)?,
            slopes: BTreeMap::new(),
        };
        let mut adamw = self.adamw.clone();
        let mut through = Through::new(objective, |inner, adapter, micro_batch, draw| {
            under_noise.evaluate(inner, adapter, micro_batch, draw)
        });
        let update = adamw.step(learning_rate, &mut through)?;
        let schedule = learning_rate / self.config.adamw.learning_rate;
        let rows = self.moved_rows(
            &under_noise.slopes,
            schedule * self.config.head_learning_rate,
        )?;
        self.posterior = noise(&rows, self.config.head_prior_sd)?;
        (self.adamw, self.rows) = (adamw, rows);
        Ok(update)
    }

    fn adapter(&self) -> &Adapter {
        self.adamw.adapter()
    }

    fn posterior(&self) -> Box<dyn Posterior> {
        let mean = self.adamw.posterior().mean().clone();
        Box::new(LastLayer::new(mean, self.posterior.clone()))
    }

    /// AdamW's state; then the number of rows and their width; then the token, steps, ln s and both
    /// moments of each row.
    fn state(&self) -> Result<Vec<u8>, TrainError> {
        let width = self
            .rows
            .values()
            .next()
            .map_or(0, |row| row.log_sd.values.len());
        let head = Writer::default()
            .bytes(&self.adamw.state()?)
            .whole(self.rows.len() as u64)
            .whole(width as u64);
        let with_row = |writer: Writer, (&token, row): (&u32, &Row)| {
            row.log_sd.write(writer.whole(u64::from(token)))
        };
        Ok(self.rows.iter().fold(head, with_row).finish())
    }

    fn restore(&mut self, adapter: Adapter, state: &[u8]) -> Result<(), TrainError> {
        let mut reader = Reader::new(state);
        let of_adamw = reader.bytes()?;
        let (count, width) = (reader.whole()?, reader.whole()? as usize);
        let mut rows = BTreeMap::new();
        for _ in 0..count {
            let token = reader.whole()?;
            let token = u32::try_from(token).map_err(|_| TrainError::Optimizer {
                reason: format!("the state has a row of token {token}"),
            })?;
            let log_sd = AdamwVector::read(&mut reader, width)?;
            rows.insert(token, Row { log_sd });
        }
        reader.finish()?;
        let posterior = noise(&rows, self.config.head_prior_sd)?;
        self.adamw.restore(adapter, of_adamw)?;
        (self.rows, self.posterior) = (rows, posterior);
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
    use crate::lora::LoraConfig;
    use crate::method::testing::Bowl;
    use crate::model::{BasePrecision, Checkpoint, Decoder};
    use crate::testing::golden;
    use crate::testing::tiny::adapter;
    use crate::train::{BatchObjective, BoundEvidence};

    fn network() -> Network {
        let checkpoint = Checkpoint::open(golden().join("tiny/llama").to_str().unwrap()).unwrap();
        Network::new(
            Decoder::load(&checkpoint, BasePrecision::F32).unwrap(),
            &Device::flex(),
            false,
        )
    }

    fn example(key: u32, choices: Choices) -> Encoded {
        Encoded {
            id: key.to_string(),
            key: u64::from(key),
            tokens: vec![5, 6, 7, 8, 9 + key, 7, 30 - key],
            target: Target::Choice {
                choices,
                label: Some(key as usize % 2),
            },
        }
    }

    fn examples() -> Vec<Encoded> {
        let of = |key| example(key, Choices::Tokens(vec![40, 41, 42]));
        (0..4).map(of).collect()
    }

    fn start(network: &Network) -> Adapter {
        let lora = LoraConfig {
            rank: 2,
            ..LoraConfig::default()
        };
        let device = network.device().clone().autodiff();
        Adapter::new(&lora, network.config(), 2, &device).unwrap()
    }

    fn setup() -> Setup {
        Setup {
            seed: 1,
            steps: 4,
            steps_per_epoch: 2,
            batch_size: 4,
            accumulation: 1,
            examples: 8,
            dropout: 0.2,
            weight_of_squares: 1.0,
        }
    }

    fn steps(settings: &dyn Settings, network: &Network) -> (Vec<u32>, Vec<f64>) {
        let examples = examples();
        let mut optimizer = settings.start(start(network), &setup()).unwrap();
        let losses = (0..4).map(|step| {
            let halves = [&examples[..3], &examples[3..]].map(|half| half.iter().collect());
            let mut objective = BatchObjective::new(network, 0.2, 1, step, &halves);
            optimizer.step(1e-2, &mut objective).unwrap().loss
        });
        let losses = losses.collect();
        let weights = optimizer.adapter().flatten().unwrap();
        (
            weights.iter().map(|weight| weight.to_bits()).collect(),
            losses,
        )
    }

    #[test]
    fn without_variance_its_steps_are_those_of_adamw_to_the_bit() {
        let network = network();
        let adamw = AdamwConfig {
            learning_rate: 1e-2,
            ..AdamwConfig::default()
        };
        let still = LastLayerConfig {
            adamw: adamw.clone(),
            head_sd: 1e-20,
            head_prior_sd: 1e-20,
            ..LastLayerConfig::default()
        };
        assert_eq!(steps(&still, &network), steps(&adamw, &network));
        let noisy = LastLayerConfig {
            head_sd: 0.5,
            ..still
        };
        let ((moved, losses), (plain, without)) =
            (steps(&noisy, &network), steps(&adamw, &network));
        assert!(moved != plain && losses[0] > without[0] + 1e-3);
    }

    #[test]
    fn the_slope_of_the_divergence_is_that_of_the_integral() {
        // ∫ q ln(q/p) by the trapezoid rule.
        let divergence = |sd: f64, prior: f64| {
            let log = |x: f64, sd: f64| -0.5 * (x / sd).powi(2) - sd.ln();
            let density = |x: f64| log(x, sd).exp() / (2.0 * std::f64::consts::PI).sqrt();
            let at = |x: f64| density(x) * (log(x, sd) - log(x, prior));
            let step = sd / 200.0;
            (-2000..=2000)
                .map(|i| step * at(f64::from(i) * step))
                .sum::<f64>()
        };
        for (sd, prior) in [(0.1f64, 0.2), (0.3, 0.2), (0.2, 0.2)] {
            let at = |log: f64| divergence(log.exp(), prior);
            let slope = (at(sd.ln() + 1e-3) - at(sd.ln() - 1e-3)) / 2e-3;
            let found = divergence_slope(sd, prior);
            assert!((found - slope).abs() < 1e-4, "{found} {slope}");
        }
    }

    /// A bound whose gradient by s² is constant, for the rows that are given.
    struct Slopes(Bowl, Vec<(u32, Vec<f32>)>);

    impl Objective for Slopes {
        fn micro_batches(&self) -> usize {
            1
        }

        fn share(&self, _: usize) -> f64 {
            1.0
        }

        fn tokens(&self) -> usize {
            0
        }

        fn evaluate(
            &mut self,
            adapter: &Adapter,
            _: usize,
            _: u64,
        ) -> Result<Evidence, TrainError> {
            self.0.evaluate(adapter, 0, 0)
        }

        fn evaluate_bound(
            &mut self,
            adapter: &Adapter,
            _: &OutputNoise,
            _: usize,
            _: u64,
        ) -> Result<BoundEvidence, TrainError> {
            Ok(BoundEvidence {
                adapter: self.evaluate(adapter, 0, 0)?,
                rows: self.1.iter().cloned().collect(),
            })
        }
    }

    #[test]
    fn the_precision_comes_to_that_of_the_prior_and_of_the_examples() {
        // At the optimum 1/s² = 1/p² + 2 N/w · slope; w/N = 4/8.
        let config = LastLayerConfig {
            head_learning_rate: 0.05,
            head_prior_sd: 0.5,
            head_kl_weight: 4.0,
            ..LastLayerConfig::default()
        };
        let start = adapter(1, "q_proj").train();
        let mut optimizer = config.start(start, &setup()).unwrap();
        let slopes = vec![0.0, 1.0, 25.0];
        let mut objective = Slopes(Bowl::default(), vec![(7, slopes.clone())]);
        let first = optimizer.posterior().output_noise().unwrap().clone();
        assert!(first.rows().is_empty() && first.other() == 0.25);
        for step in 0..400 {
            if step == 1 {
                // A row that scored no choice since goes back to the prior.
                objective.1.push((9, vec![3.0; 3]));
            }
            if step == 2 {
                objective.1.pop();
            }
            let rate = 5e-5 * (1.0 - f64::from(step) / 400.0);
            optimizer.step(rate, &mut objective).unwrap();
        }
        let posterior = optimizer.posterior();
        let rows = posterior.output_noise().unwrap().rows();
        let optimum = |slope: f32| 1.0 / (1.0 / 0.25 + 2.0 * slope / 0.5);
        let expected = slopes.iter().map(|&slope| optimum(slope));
        for (found, expected) in rows[&7].iter().zip(expected) {
            assert!((found / expected - 1.0).abs() < 0.03, "{found} {expected}");
        }
        assert!(
            rows[&9]
                .iter()
                .all(|found| (found / 0.25 - 1.0).abs() < 0.03)
        );
    }

    #[test]
    fn a_state_reads_back_and_what_is_none_is_refused() {
        let config = LastLayerConfig::default();
        let begin = || {
            config
                .start(adapter(1, "q_proj").train(), &setup())
                .unwrap()
        };
        let mut optimizer = begin();
        let mut objective = Slopes(Bowl::default(), vec![(7, vec![1.0, 2.0])]);
        optimizer.step(1e-3, &mut objective).unwrap();
        let state = optimizer.state().unwrap();
        let mut again = begin();
        again.restore(optimizer.adapter().clone(), &state).unwrap();
        assert_eq!(again.state().unwrap(), state);
        assert_eq!(
            again.posterior().output_noise(),
            optimizer.posterior().output_noise()
        );
        for length in [0, 20, state.len() - 4] {
            let error = begin().restore(adapter(1, "q_proj"), &state[..length]);
            assert!(error.unwrap_err().to_string().contains("bytes too early"));
        }
        let rows = |token: u64, log_sd: f32| {
            let adamw = optimizer.state().unwrap();
            let adamw = Reader::new(&adamw).bytes().unwrap().to_vec();
            let writer = Writer::default().bytes(&adamw).whole(1).whole(1);
            let writer = writer.whole(token).whole(1).singles(&[log_sd]);
            writer.singles(&[0.0]).singles(&[0.0]).finish()
        };
        let refused = |state: &[u8]| {
            let error = begin().restore(adapter(1, "q_proj"), state);
            error.unwrap_err().to_string()
        };
        assert!(refused(&rows(1 << 40, 0.0)).contains("a row of token 1099511627776"));
        assert!(refused(&rows(3, f32::NAN)).contains("the output row of token 3"));
    }

    #[test]
    fn whole_answers_and_objectives_without_choices_are_refused_and_nothing_changes() {
        let (network, config) = (network(), LastLayerConfig::default());
        let mut optimizer = config.start(start(&network), &setup()).unwrap();
        let before = (
            optimizer.adapter().flatten().unwrap(),
            optimizer.state().unwrap(),
        );
        let whole = example(0, Choices::Answers(vec![vec![40, 41], vec![42]]));
        let mut objective = BatchObjective::new(&network, 0.0, 1, 0, &[vec![&whole]]);
        let error = optimizer.step(1e-3, &mut objective).unwrap_err();
        assert_eq!(
            error.to_string(),
            "noise on the output layer needs choices that one token scores, but an answer here is scored whole"
        );
        assert_eq!(
            error.hint().unwrap().to_string(),
            "`scoring=token` scores answers by their first token where that tells them apart; where it does not, use another `optimizer`"
        );
        let error = optimizer.step(1e-3, &mut Bowl::default()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the optimizer cannot be set up: the objective has no output layer that noise could be put on"
        );
        let after = (
            optimizer.adapter().flatten().unwrap(),
            optimizer.state().unwrap(),
        );
        assert_eq!(before, after);
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let message = |config: LastLayerConfig| config.validate().unwrap_err().to_string();
        let default = LastLayerConfig::default;
        let mut wrong = default();
        wrong.head_learning_rate = f64::INFINITY;
        assert_eq!(
            message(wrong),
            "`head_learning_rate` is `inf`, expected a finite number, at least 0"
        );
        let mut wrong = default();
        wrong.head_sd = 0.0;
        assert_eq!(
            message(wrong),
            "`head_sd` is `0`, expected from 1e-20 to 1000"
        );
        let mut wrong = default();
        wrong.head_prior_sd = 2e3;
        assert_eq!(
            message(wrong),
            "`head_prior_sd` is `2000`, expected from 1e-20 to 1000"
        );
        let mut wrong = default();
        wrong.head_kl_weight = -1.0;
        assert_eq!(
            message(wrong),
            "`head_kl_weight` is `-1`, expected from 0 to 1000"
        );
    }
}

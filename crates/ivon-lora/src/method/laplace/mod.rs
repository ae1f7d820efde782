//! Laplace-LoRA (Yang et al., arXiv 2308.13111): after AdamW, a normal distribution from the
//! curvature at the weights.
//!
//! H = Σ over the training examples of w Jᵀ Λ J, with w = 1 unless classes have weights, the generalised Gauss–Newton matrix of the *summed*
//! loss over the choices' logits: its diagonal, or a Kronecker product for each matrix. The
//! posterior's precision is H + λ. The prior precision λ has the highest evidence, or predicts
//! calibrate best, if calibrate can tell the two apart. Prediction is linearised.

mod evidence;
mod diagonal;
mod sketch;
mod kronecker;
#[cfg(test)]
mod testing;

use serde::{Deserialize, Serialize};

use super::adamw::AdamwConfig;
use super::{Fit, Members, Passes, Settings, Setup};
use crate::data::Encoded;
use crate::forward::Network;
use crate::lora::Adapter;
use crate::metrics::{Ground, Predictions, preferred};
use crate::posterior::{LaplacePrediction, Linearised, Posterior};
use crate::predict::{EvaluationOptions, linearised_predictions};
use crate::settings::{Key, Kind, SettingError};
use crate::train::{LossWeights, Optimizer, TrainError};
use crate::watch::{Progress, Stage};
use diagonal::Diagonal;
use evidence::{best_precision, log_evidence};
use kronecker::Kronecker;

/// The fact in the posterior's file that says how λ was chosen.
pub const CHOSEN_BY: &str = "prior_precision_by";
/// Draws of the logits with which prior precisions are compared on calibrate.
const TRIAL_SAMPLES: usize = 100;
/// The cost of the Jacobian of the choice logits over a set, for two choices: a forward pass, a
/// backward pass, and the products with it.
const JACOBIAN: Passes = Passes {
    together: 0.0,
    alone: 2.5,
};
/// The same for the last layer alone.
const LAST_JACOBIAN: Passes = Passes {
    together: 0.0,
    alone: 1.4,
};

/// AdamW's settings and those of the approximation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LaplaceConfig {
    /// Those of the training.
    #[serde(flatten)]
    pub adamw: AdamwConfig,
    /// How the curvature is approximated.
    pub laplace_structure: LaplaceStructure,
    /// Which weights are random; the others keep their trained values.
    pub laplace_layers: LaplaceLayers,
    /// How it predicts.
    pub laplace_prediction: LaplacePrediction,
    /// Eigenpairs kept of a Kronecker factor as wide as the layer.
    pub kronecker_rank: usize,
    /// How λ is chosen if it is not given.
    pub prior_precision_by: PrecisionChoice,
    /// λ.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prior_precision: Option<f64>,
}

impl LaplaceConfig {
    /// A row for each key besides AdamW's.
    pub const KEYS: [Key; 6] = [
        Key::new(
            "laplace_structure",
            Kind::OneOf(&["diagonal", "kronecker"]),
            "The curvature: its diagonal, or a Kronecker product for each matrix (on the CPU alone).",
        ),
        Key::new(
            "laplace_layers",
            Kind::OneOf(&["all", "last"]),
            "Which weights are random: those of all adapted layers, or of the last decoder layer.",
        ),
        Key::new(
            "laplace_prediction",
            Kind::OneOf(&["samples", "probit", "weights"]),
            "Linearised with draws of the logits or in closed form, or by draws of the weights.",
        ),
        Key::new(
            "kronecker_rank",
            Kind::Whole,
            "Eigenpairs kept of a Kronecker factor as wide as the layer.",
        ),
        Key::new(
            "prior_precision_by",
            Kind::OneOf(&["evidence", "calibration"]),
            "How the prior precision is chosen: by the evidence on train, or by the NLL on calibrate where it can tell.",
        ),
        Key::new(
            "prior_precision",
            Kind::Number,
            "The prior precision of the weights; chosen where absent.",
        )
        .with_example("1.0"),
    ];
}

impl Default for LaplaceConfig {
    fn default() -> Self {
        Self {
            adamw: AdamwConfig::default(),
            laplace_structure: LaplaceStructure::default(),
            laplace_layers: LaplaceLayers::default(),
            laplace_prediction: LaplacePrediction::default(),
            kronecker_rank: 10,
            prior_precision_by: PrecisionChoice::default(),
            prior_precision: None,
        }
    }
}

/// How the curvature is approximated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LaplaceStructure {
    /// Its diagonal, exact.
    #[default]
    Diagonal,
    /// A Kronecker product for each A and each B; on the CPU alone.
    Kronecker,
}

/// Which weights are random.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LaplaceLayers {
    /// Those of all adapted layers.
    #[default]
    All,
    /// Those of the last decoder layer that is adapted.
    Last,
}

/// How the prior precision is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PrecisionChoice {
    /// The one with the highest evidence on the training examples.
    #[default]
    Evidence,
    /// The one from 0.01 to 1,000,000, in steps of half a power of ten, with which the linearised
    /// model has the lowest NLL on calibrate, if calibrate can tell it from that of the evidence.
    Calibration,
}

impl Settings for LaplaceConfig {
    fn name(&self) -> &'static str {
        "laplace"
    }

    fn keys(&self) -> Vec<Key> {
        [AdamwConfig::KEYS.as_slice(), Self::KEYS.as_slice()].concat()
    }

    fn learning_rate(&self) -> f64 {
        self.adamw.learning_rate
    }

    fn validate(&self) -> Result<(), TrainError> {
        if let Some(found) = self
            .prior_precision
            .filter(|found| !(found.is_finite() && *found > 0.0))
        {
            return Err(
                SettingError::value("prior_precision", found, "a finite number above 0").into(),
            );
        }
        if !(1..=100).contains(&self.kronecker_rank) {
            return Err(SettingError::value(
                "kronecker_rank",
                self.kronecker_rank,
                "from 1 to 100",
            )
            .into());
        }
        self.adamw.validate()
    }

    fn learns_texts(&self) -> bool {
        false
    }

    fn fits_afterwards(&self) -> bool {
        true
    }

    fn start(&self, adapter: Adapter, _: &Setup) -> Result<Box<dyn Optimizer>, TrainError> {
        self.validate()?;
        Ok(Box::new(self.adamw.optimizer(adapter)?))
    }

    fn needs_calibrate(&self) -> Option<&'static str> {
        (self.prior_precision.is_none() && self.prior_precision_by == PrecisionChoice::Calibration)
            .then_some("`prior_precision_by` = `calibration`")
    }

    fn fitting_passes(&self, _examples: usize) -> Passes {
        self.jacobian()
    }

    fn prediction_passes(&self, _samples: usize) -> Passes {
        self.jacobian()
    }

    fn finish(
        &self,
        trained: Members,
        fit: &mut Fit<'_>,
    ) -> Result<Box<dyn Posterior>, TrainError> {
        let adapter = trained.first().mean();
        let (curvature, squares) = self.curvature(adapter, fit)?;
        let h = curvature.eigenvalues();
        let of_evidence = best_precision(&h, squares);
        let (precision, chosen_by) = match (self.prior_precision, self.prior_precision_by) {
            (Some(precision), _) => (precision, "setting".to_string()),
            (None, PrecisionChoice::Evidence) => (of_evidence, "evidence".to_string()),
            (None, PrecisionChoice::Calibration) => {
                self.calibrated_precision(curvature.as_ref(), of_evidence, adapter, fit)?
            }
        };
        let evidence = log_evidence(curvature.log_likelihood(), &h, squares, precision);
        let facts = [
            ("log_evidence", evidence.to_string()),
            (CHOSEN_BY, chosen_by),
        ];
        Ok(curvature.posterior(adapter, precision, self.laplace_prediction, &facts)?)
    }
}

impl LaplaceConfig {
    fn jacobian(&self) -> Passes {
        if self.laplace_layers == LaplaceLayers::Last {
            LAST_JACOBIAN
        } else {
            JACOBIAN
        }
    }

    /// The curvature at an adapter, and ‖θ‖² of its random weights.
    fn curvature(
        &self,
        adapter: &Adapter,
        fit: &mut Fit<'_>,
    ) -> Result<(Box<dyn Curvature>, f64), TrainError> {
        let first = self.first_random_layer(adapter);
        let mut progress = Progress::new(Stage::Fitting, fit.train.len(), &mut *fit.watch);
        let at = CurvaturePoint {
            network: fit.network,
            adapter,
            first,
            examples: fit.train,
            weights: fit.weights,
        };
        let found: Box<dyn Curvature> = match self.laplace_structure {
            LaplaceStructure::Diagonal => Box::new(Diagonal::of(&at, &mut progress)?),
            LaplaceStructure::Kronecker => {
                Box::new(Kronecker::of(&at, self.kronecker_rank, &mut progress)?)
            }
        };
        let weights = adapter.flatten()?.into_iter();
        let weights = weights.zip(random_weights(adapter, first));
        let random = weights.filter(|(_, random)| *random);
        let squares = random.map(|(weight, _)| f64::from(weight).powi(2)).sum();
        Ok((found, squares))
    }

    /// The lowest decoder layer with random weights.
    fn first_random_layer(&self, adapter: &Adapter) -> usize {
        let layers = adapter.pairs().map(|(path, _)| path.first_layer());
        match self.laplace_layers {
            LaplaceLayers::All => 0,
            LaplaceLayers::Last => layers.max().unwrap_or(0),
        }
    }

    /// The λ that calibrate prefers, and how it was chosen: of [`trial_precisions`] the one whose
    /// NLL is lower than that of the evidence by more than a standard error (the largest of those
    /// that tie); if there is none, or calibrate is too small to choose, that of the evidence.
    fn calibrated_precision(
        &self,
        curvature: &dyn Curvature,
        of_evidence: f64,
        adapter: &Adapter,
        fit: &mut Fit<'_>,
    ) -> Result<(f64, String), TrainError> {
        if fit.calibrate.is_empty() {
            let expected = "`evidence` where there are no rows of calibrate";
            return Err(SettingError::value("prior_precision_by", "calibration", expected).into());
        }
        let precisions = std::iter::once(of_evidence).chain(trial_precisions().into_iter().rev());
        let precisions: Vec<f64> = precisions.collect();
        let found = self.trial_predictions(curvature, &precisions, adapter, fit)?;
        let ground = found.first().map(|known| Ground::of(known).check());
        if let Some(Err(too_little)) = ground {
            let chosen_by = format!("evidence, since calibrate's {too_little}");
            return Ok((of_evidence, chosen_by));
        }
        let losses: Vec<Vec<f64>> = found.iter().map(Predictions::losses).collect();
        Ok(match preferred(&losses, 0) {
            0 => (
                of_evidence,
                "evidence, from which calibrate cannot tell a better one".into(),
            ),
            best => (precisions[best], "rows of calibrate".into()),
        })
    }

    /// The predictions of the linearised model on calibrate with each of the prior precisions.
    fn trial_predictions(
        &self,
        curvature: &dyn Curvature,
        precisions: &[f64],
        adapter: &Adapter,
        fit: &mut Fit<'_>,
    ) -> Result<Vec<Predictions>, TrainError> {
        let posterior = |precision: &f64| {
            curvature.posterior(adapter, *precision, self.laplace_prediction, &[])
        };
        let trials = precisions.iter().map(posterior);
        let trials: Vec<Box<dyn Approximation>> = trials.collect::<Result<_, _>>()?;
        let linearised = trials
            .iter()
            .map(|trial| -> &dyn Linearised { trial.as_ref() });
        let options = EvaluationOptions {
            samples: TRIAL_SAMPLES,
            scale: 1.0,
            seed: fit.seed,
            batch_tokens: fit.batch_tokens,
        };
        let examples = fit.calibrate;
        let mut progress = Progress::new(Stage::Fitting, examples.len(), &mut *fit.watch);
        Ok(linearised_predictions(
            fit.network,
            adapter,
            &linearised.collect::<Vec<_>>(),
            examples,
            &options,
            &mut progress,
        )?)
    }
}

/// The prior precisions that are compared on calibrate: 10^(k/2) from 0.01 to 1,000,000.
fn trial_precisions() -> Vec<f64> {
    (-4..=12)
        .map(|half_decades| 10f64.powf(0.5 * f64::from(half_decades)))
        .collect()
}

/// A Laplace approximation with either structure of the curvature.
trait Approximation: Posterior + Linearised {}

impl<T: Posterior + Linearised> Approximation for T {}

/// Where the curvature is taken: at an adapter, over the losses of these examples, each of which counts
/// by the weight of its class, from decoder layer `first` up.
struct CurvaturePoint<'a> {
    network: &'a Network,
    adapter: &'a Adapter,
    first: usize,
    examples: &'a [Encoded],
    weights: &'a LossWeights,
}

/// The curvature of the summed loss, in some structure.
trait Curvature {
    /// Σ w ln p(label) of the training examples, nats.
    fn log_likelihood(&self) -> f64;

    /// The eigenvalues of H over the random weights; zeros may be left out.
    fn eigenvalues(&self) -> Vec<f64>;

    /// N(θ, (H + λ)⁻¹) with these facts in its file.
    fn posterior(
        &self,
        adapter: &Adapter,
        precision: f64,
        prediction: LaplacePrediction,
        facts: &[(&str, String)],
    ) -> Result<Box<dyn Approximation>, TrainError>;
}

/// Whether the layer of each weight is `first` or above, `[P]`.
fn random_weights(adapter: &Adapter, first: usize) -> Vec<bool> {
    let of = |(layer, pair): (usize, &crate::lora::LoraPair)| {
        let count =
            pair.lora_A.lazy_shape().num_elements() + pair.lora_B.lazy_shape().num_elements();
        vec![layer >= first; count]
    };
    adapter
        .pairs()
        .map(|(path, pair)| (path.first_layer(), pair))
        .flat_map(of)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::testing::{examples, network, tiny};
    use super::*;
    use crate::data::{Encoded, Target};
    use crate::lora::TargetModules;
    use crate::metrics::mean_of_draws;
    use crate::posterior::{PointEstimate, Spread};
    use crate::predict::{Linearisation, Predictor};
    use crate::train::ClassWeights;

    fn finished(
        config: &LaplaceConfig,
        calibrate: &[Encoded],
    ) -> Result<Box<dyn Posterior>, TrainError> {
        let network = network();
        let adapter = tiny(
            &network,
            2,
            TargetModules::List(vec!["q_proj".into(), "v_proj".into()]),
            None,
        );
        let train = examples();
        let mut fit = Fit {
            network: &network,
            dropout: 0.0,
            seed: 3,
            batch_tokens: 64,
            train: &train,
            weights: &LossWeights::default(),
            calibrate,
            watch: &mut |_| true,
        };
        config.finish(Members::new(Box::new(PointEstimate { adapter })), &mut fit)
    }

    #[test]
    fn a_row_of_weight_two_is_a_row_that_is_there_twice() {
        let network = network();
        let targets = TargetModules::List(vec!["q_proj".into(), "v_proj".into()]);
        let adapter = tiny(&network, 2, targets, None);
        let twice = |example: Encoded| vec![example.clone(); 1 + example.label().unwrap()];
        let doubled: Vec<Encoded> = examples().into_iter().flat_map(twice).collect();
        assert_eq!(doubled.len(), 5);
        let weights = ClassWeights::ByAnswer(vec![1.0, 2.0]).of(&[1, 2]).unwrap();
        for laplace_structure in [LaplaceStructure::Diagonal, LaplaceStructure::Kronecker] {
            let fitted = |train: &[Encoded], weights: &LossWeights| {
                let mut fit = Fit {
                    network: &network,
                    dropout: 0.0,
                    seed: 3,
                    batch_tokens: 64,
                    train,
                    weights,
                    calibrate: &[],
                    watch: &mut |_| true,
                };
                let config = LaplaceConfig {
                    laplace_structure,
                    ..LaplaceConfig::default()
                };
                let point = PointEstimate {
                    adapter: adapter.clone(),
                };
                let posterior = config.finish(Members::new(Box::new(point)), &mut fit);
                let posterior = posterior.unwrap();
                let stored = posterior.stored().unwrap().unwrap();
                let number = |key| stored.number::<f64>(key, "").unwrap();
                let facts = [number("log_evidence"), number("prior_precision")];
                (facts, posterior.variance().unwrap().flatten().unwrap())
            };
            let (facts, variances) = fitted(&examples(), &weights);
            let (expected, truth) = fitted(&doubled, &LossWeights::default());
            for (found, expected) in facts.iter().zip(expected) {
                assert!((found / expected - 1.0).abs() < 1e-4, "{found} {expected}");
            }
            for (found, expected) in variances.iter().zip(&truth) {
                assert!((found / expected - 1.0).abs() < 1e-3, "{found} {expected}");
            }
            let (_, plain) = fitted(&examples(), &LossWeights::default());
            assert!(
                plain
                    .iter()
                    .zip(truth)
                    .any(|(a, b)| (a / b - 1.0).abs() > 0.02)
            );
        }
    }

    #[test]
    fn the_last_layer_alone_is_random_where_asked_for() {
        let network = network();
        for laplace_structure in [LaplaceStructure::Diagonal, LaplaceStructure::Kronecker] {
            let of = |laplace_layers| {
                let config = LaplaceConfig {
                    laplace_structure,
                    laplace_layers,
                    ..LaplaceConfig::default()
                };
                finished(&config, &[])
                    .unwrap()
                    .variance()
                    .unwrap()
                    .flatten()
                    .unwrap()
            };
            let (all, last) = (of(LaplaceLayers::All), of(LaplaceLayers::Last));
            assert!(all.iter().all(|variance| *variance > 0.0));
            let layer = all.len() / network.config().num_hidden_layers;
            assert!(
                last.iter()
                    .rev()
                    .take(layer)
                    .all(|variance| *variance > 0.0)
            );
            assert!(
                last.iter()
                    .rev()
                    .skip(layer)
                    .all(|variance| *variance == 0.0)
            );
        }
    }

    #[test]
    fn derivatives_from_the_last_layer_on_are_the_end_of_all_derivatives() {
        let (host, plain) = super::testing::networks();
        let adapter = tiny(
            &host,
            2,
            TargetModules::List(vec!["q_proj".into(), "v_proj".into()]),
            None,
        );
        let last = host.config().num_hidden_layers - 1;
        let below = random_weights(&adapter, last)
            .iter()
            .filter(|random| !**random)
            .count();
        for network in [&host, &plain] {
            let of = |first| Linearisation::of(network, &adapter, first, &examples()[2]).unwrap();
            let (all, end) = (of(0), of(last));
            assert_eq!(all.log_probabilities, end.log_probabilities);
            for (all, end) in all.jacobian.iter().zip(&end.jacobian) {
                assert!(
                    all[..below].iter().any(|value| *value != 0.0)
                        && end[..below].iter().all(|value| *value == 0.0)
                );
                assert_eq!(all[below..], end[below..]);
            }
        }
    }

    #[test]
    fn a_posterior_says_the_lowest_layer_that_it_needs_derivatives_of() {
        let network = network();
        for laplace_structure in [LaplaceStructure::Diagonal, LaplaceStructure::Kronecker] {
            for (laplace_layers, first) in [
                (LaplaceLayers::All, 0),
                (LaplaceLayers::Last, network.config().num_hidden_layers - 1),
            ] {
                let posterior = finished(
                    &LaplaceConfig {
                        laplace_structure,
                        laplace_layers,
                        ..LaplaceConfig::default()
                    },
                    &[],
                )
                .unwrap();
                assert_eq!(posterior.linearised().unwrap().first_layer(), first);
            }
        }
    }

    /// The label that the posterior of the evidence thinks least likely in the first `wrong` of
    /// `count` rows of calibrate, and most likely in the others.
    fn calibrate(count: usize, wrong: usize) -> Vec<Encoded> {
        let mut rows: Vec<Encoded> = examples().into_iter().cycle().take(count).collect();
        let options = EvaluationOptions {
            samples: TRIAL_SAMPLES,
            scale: 1.0,
            seed: 3,
            batch_tokens: 64,
        };
        let posterior = finished(&LaplaceConfig::default(), &[]).unwrap();
        let found = Predictor::new(&network(), posterior.as_ref(), &options)
            .evaluate(&rows, &mut Progress::silent())
            .unwrap();
        for (index, (row, logs)) in rows
            .iter_mut()
            .zip(mean_of_draws(&found.draws).unwrap())
            .enumerate()
        {
            let sign = if index < wrong { -1.0 } else { 1.0 };
            let Target::Choice { label, .. } = &mut row.target else {
                panic!()
            };
            *label = (0..logs.len()).max_by(|&a, &b| (sign * logs[a]).total_cmp(&(sign * logs[b])));
        }
        rows
    }

    /// λ and by what it was chosen.
    fn chosen(config: &LaplaceConfig, calibrate: &[Encoded]) -> (f64, String) {
        let stored = finished(config, calibrate)
            .unwrap()
            .stored()
            .unwrap()
            .unwrap();
        let by = stored.number::<String>(CHOSEN_BY, "").unwrap();
        (stored.number("prior_precision", "").unwrap(), by)
    }

    #[test]
    fn the_precision_that_calibrate_chooses_is_better_than_all_others_and_clearly_than_that_of_the_evidence()
     {
        let (network, calibrate) = (network(), calibrate(40, 30));
        let labels: Vec<usize> = calibrate
            .iter()
            .map(|example| example.label().unwrap())
            .collect();
        for laplace_structure in [LaplaceStructure::Diagonal, LaplaceStructure::Kronecker] {
            let config = LaplaceConfig {
                laplace_structure,
                prior_precision_by: PrecisionChoice::Calibration,
                ..LaplaceConfig::default()
            };
            assert!(config.needs_calibrate().is_some());
            let (precision, by) = chosen(&config, &calibrate);
            assert_eq!(by, "rows of calibrate");
            // As a run of its own would find it, one precision after the other.
            let losses = |precision: f64| {
                let posterior = finished(
                    &LaplaceConfig {
                        prior_precision: Some(precision),
                        ..config.clone()
                    },
                    &[],
                )
                .unwrap();
                let options = EvaluationOptions {
                    samples: TRIAL_SAMPLES,
                    scale: 1.0,
                    seed: 3,
                    batch_tokens: 64,
                };
                let evaluated = Predictor::new(&network, posterior.as_ref(), &options)
                    .evaluate(&calibrate, &mut Progress::silent())
                    .unwrap();
                Predictions::new(mean_of_draws(&evaluated.draws).unwrap(), labels.clone())
                    .unwrap()
                    .losses()
            };
            let nll = |losses: &[f64]| losses.iter().sum::<f64>();
            let best = losses(precision);
            for other in trial_precisions().into_iter().step_by(4) {
                assert!(nll(&best) <= nll(&losses(other)), "{precision} {other}");
            }
            let (of_evidence, _) = self::chosen(
                &LaplaceConfig {
                    laplace_structure,
                    ..LaplaceConfig::default()
                },
                &[],
            );
            assert_eq!(preferred(&[losses(of_evidence), best], 0), 1);
        }
        assert_eq!(trial_precisions().len(), 17);
    }

    #[test]
    fn where_calibrate_can_carry_no_choice_the_precision_is_that_of_the_evidence() {
        let config = LaplaceConfig {
            prior_precision_by: PrecisionChoice::Calibration,
            ..LaplaceConfig::default()
        };
        let (expected, by) = chosen(&LaplaceConfig::default(), &[]);
        assert_eq!(by, "evidence");
        let (precision, by) = chosen(&config, &calibrate(40, 0));
        assert_eq!(precision, expected);
        assert!(
            by.starts_with("evidence, since calibrate's 40 rows with 0 wrong answers cannot carry"),
            "{by}"
        );
    }

    #[test]
    fn the_evidence_chooses_between_factors_as_between_weights() {
        let config = LaplaceConfig {
            laplace_structure: LaplaceStructure::Kronecker,
            ..LaplaceConfig::default()
        };
        let best = finished(&config, &[]).unwrap().stored().unwrap().unwrap();
        let number = |key| best.number::<f64>(key, "").unwrap();
        for factor in [0.8, 1.25] {
            let other = LaplaceConfig {
                prior_precision: Some(factor * number("prior_precision")),
                ..config.clone()
            };
            let other = finished(&other, &[]).unwrap();
            let evidence: f64 = other
                .stored()
                .unwrap()
                .unwrap()
                .number("log_evidence", "")
                .unwrap();
            assert!(evidence < number("log_evidence"));
            assert_eq!(other.spread(), Spread::Scaled);
        }
    }

    #[test]
    fn settings_out_of_range_and_a_missing_calibrate_are_named() {
        let message = |config: LaplaceConfig| config.validate().unwrap_err().to_string();
        assert_eq!(
            message(LaplaceConfig {
                prior_precision: Some(0.0),
                ..LaplaceConfig::default()
            }),
            "`prior_precision` is `0`, expected a finite number above 0"
        );
        assert_eq!(
            message(LaplaceConfig {
                kronecker_rank: 0,
                ..LaplaceConfig::default()
            }),
            "`kronecker_rank` is `0`, expected from 1 to 100"
        );
        let config = LaplaceConfig {
            prior_precision_by: PrecisionChoice::Calibration,
            ..LaplaceConfig::default()
        };
        let error = finished(&config, &[]).err().unwrap().to_string();
        assert_eq!(
            error,
            "`prior_precision_by` is `calibration`, expected `evidence` where there are no rows of calibrate"
        );
        assert!(
            LaplaceConfig {
                prior_precision: Some(1.0),
                ..config
            }
            .needs_calibrate()
            .is_none()
        );
    }
}

//! The choice of τ: the scale of the variance with the lowest NLL on a held-out set (0 if sampling does
//! not help), or the scale of the settings if that set cannot tell.

use super::error::PredictError;
use super::linear::linearised_logits;
use super::normal_logits::NormalLogits;
use super::predictor::{EvaluationOptions, Predictor};
use crate::data::Encoded;
use crate::forward::Network;
use crate::lora::Adapter;
use crate::metrics::{Ground, LogProbabilities, Predictions, TooLittle, mean_of_draws, preferred};
use crate::posterior::Linearised;
use crate::watch::Progress;

/// The scales that are tried: √τ, the factor of the noise, goes from 0 to 2 in steps of a quarter. A
/// calibration set cannot tell finer steps apart.
pub const SCALES: [f64; 9] = [0.0, 0.0625, 0.25, 0.5625, 1.0, 1.5625, 2.25, 3.0625, 4.0];

/// A scale that was tried.
#[derive(Clone, Debug, PartialEq)]
pub struct ScaleTrial {
    /// τ.
    pub scale: f64,
    /// Mean negative log-likelihood of the average over draws, nats; that of the mean if τ is 0.
    pub nll: f64,
    /// The loss of each row, nats.
    pub losses: Vec<f64>,
    /// Whether there are enough rows to choose by.
    pub ground: Ground,
}

impl ScaleTrial {
    fn new(scale: f64, predictions: &Predictions) -> Self {
        Self {
            scale,
            nll: predictions.nll(),
            losses: predictions.losses(),
            ground: Ground::of(predictions),
        }
    }
}

impl Predictor<'_> {
    /// The NLL of a labelled set at each of `scales`, with the same draws 0 … S−1 at all of them.
    /// `progress` advances by each example in each of the [`trial_passes`](Self::trial_passes).
    ///
    /// # Errors
    /// If an example has no label, a prediction fails, or the watcher says stop.
    pub fn scale_trials(
        &self,
        examples: &[Encoded],
        scales: &[f64],
        progress: &mut Progress<'_>,
    ) -> Result<Vec<ScaleTrial>, PredictError> {
        let labels = labels(examples)?;
        let averages = match self.normal_logits(examples, progress)? {
            Some(set) => self.averages_of_logits(&set, scales)?,
            None => self.averages(examples, scales, progress)?,
        };
        let trial = |(&scale, average)| {
            let predictions = Predictions::new(average, labels.clone())?;
            Ok(ScaleTrial::new(scale, &predictions))
        };
        scales.iter().zip(averages).map(trial).collect()
    }

    /// How many times the trials of these scales go over their examples.
    pub fn trial_passes(&self, scales: &[f64]) -> usize {
        if self.draws_logits() {
            return 1;
        }
        scales.iter().map(|&scale| self.trial_samples(scale)).sum()
    }

    /// The number of draws at a scale: one at 0, where all are the mean.
    fn trial_samples(&self, scale: f64) -> usize {
        if scale == 0.0 { 1 } else { self.samples() }
    }

    /// The average over draws of the logits at each scale; the mean at 0.
    fn averages_of_logits(
        &self,
        set: &NormalLogits,
        scales: &[f64],
    ) -> Result<Vec<LogProbabilities>, PredictError> {
        let average = |&scale: &f64| match scale == 0.0 {
            true => Ok(set.mean()),
            false => Ok(mean_of_draws(&set.draws(
                self.samples(),
                self.options.seed,
                scale,
            ))?),
        };
        scales.iter().map(average).collect()
    }

    /// The average over draws of the weights at each scale.
    fn averages(
        &self,
        examples: &[Encoded],
        scales: &[f64],
        progress: &mut Progress<'_>,
    ) -> Result<Vec<LogProbabilities>, PredictError> {
        let mut averages = Vec::new();
        for &scale in scales {
            let mut draws = Vec::new();
            for sample in 0..self.trial_samples(scale) {
                let draw = self
                    .posterior
                    .draw(sample as u64, self.options.seed, scale)?;
                draws.push(self.log_probabilities(&draw, examples, progress)?);
            }
            averages.push(mean_of_draws(&draws)?);
        }
        Ok(averages)
    }
}

/// Predicts a labelled set in the linearised model, under each of several distributions with the same
/// mean: by draws 0 … S−1, or in closed form. Each example is differentiated once for all of them.
/// `progress` advances by each example.
///
/// # Errors
/// If an example has no label, a prediction fails, or the watcher says stop.
pub fn linearised_predictions(
    network: &Network,
    mean: &Adapter,
    distributions: &[&dyn Linearised],
    examples: &[Encoded],
    options: &EvaluationOptions,
    progress: &mut Progress<'_>,
) -> Result<Vec<Predictions>, PredictError> {
    let labels = labels(examples)?;
    let sets = linearised_logits(network, mean, distributions, examples, progress)?;
    let predictions = |set: &NormalLogits| {
        let averaged = mean_of_draws(&set.draws(options.samples, options.seed, options.scale))?;
        Ok(Predictions::new(averaged, labels.clone())?)
    };
    sets.iter().map(predictions).collect()
}

fn labels(examples: &[Encoded]) -> Result<Vec<usize>, PredictError> {
    examples
        .iter()
        .map(|example| {
            example.label().ok_or_else(|| PredictError::NoLabel {
                id: example.id.clone(),
            })
        })
        .collect()
}

/// The scale with the lowest NLL (of those that tie, the first), if it is better than the one at
/// `default` by more than a standard error; otherwise the default.
///
/// # Errors
/// [`TooLittle`] if there are too few rows to choose by.
pub fn best_scale(trials: &[ScaleTrial], default: usize) -> Result<f64, TooLittle> {
    let Some(known) = trials.get(default) else {
        return Ok(1.0);
    };
    known.ground.check()?;
    let losses: Vec<Vec<f64>> = trials.iter().map(|trial| trial.losses.clone()).collect();
    Ok(trials[preferred(&losses, default)].scale)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::data::{Choices, Target};
    use crate::lora::LoraConfig;
    use crate::model::{BasePrecision, Checkpoint, Decoder};
    use crate::posterior::{Gaussian, PointEstimate};
    use crate::testing::golden;
    use crate::watch::{Event, Stage};

    /// A trial in which `wrong` of 40 rows are answered wrongly; all of them have this loss, and
    /// every other one a tenth more or less.
    fn trial(scale: f64, nll: f64, wrong: usize) -> ScaleTrial {
        let losses = (0..40)
            .map(|row| nll + if row % 2 == 0 { 0.1 } else { -0.1 })
            .collect();
        ScaleTrial {
            scale,
            nll,
            losses,
            ground: Ground {
                rows: 40,
                right: 40 - wrong,
                wrong,
            },
        }
    }

    #[test]
    fn a_scale_is_chosen_where_the_rows_can_tell_it_from_the_default() {
        let clear = [
            trial(0.0, 0.7, 10),
            trial(0.25, 0.5, 10),
            trial(1.0, 0.6, 10),
        ];
        assert_eq!(best_scale(&clear, 2), Ok(0.25));
        let mut vague = clear.clone();
        // One row speaks for it, another against it.
        vague[1].losses = vague[2].losses.clone();
        vague[1].losses[3] -= 4.0;
        vague[1].losses[4] += 3.0;
        assert_eq!(best_scale(&vague, 2), Ok(1.0));
        let all_right = clear.map(|one| ScaleTrial {
            ground: Ground {
                rows: 40,
                right: 40,
                wrong: 0,
            },
            ..one
        });
        assert!(
            best_scale(&all_right, 2)
                .unwrap_err()
                .to_string()
                .starts_with("40 rows with 0 wrong answers")
        );
    }

    #[test]
    fn a_trial_is_what_an_evaluation_at_that_scale_finds() {
        let checkpoint = Checkpoint::open(golden().join("tiny/llama").to_str().unwrap()).unwrap();
        let network = Network::new(
            Decoder::load(&checkpoint, BasePrecision::F32).unwrap(),
            &Device::flex(),
            false,
        );
        let adapter = Adapter::new(
            &LoraConfig {
                rank: 2,
                ..LoraConfig::default()
            },
            network.config(),
            1,
            &Device::flex(),
        )
        .unwrap()
        .with_scaling(2.0);
        let variance = adapter.clone_with(|_, tensor| tensor.zeros_like() + 0.3);
        let gaussian = Gaussian::new(adapter.clone(), variance).unwrap();
        let example = |key: u32, label| Encoded {
            id: key.to_string(),
            key: u64::from(key),
            tokens: vec![5, 6 + key, 7],
            target: Target::Choice {
                choices: Choices::Tokens(vec![10, 20]),
                label,
            },
        };
        let examples: Vec<Encoded> = (0..4)
            .map(|key| example(key, Some(key as usize % 2)))
            .collect();
        let options = EvaluationOptions {
            samples: 2,
            ..EvaluationOptions::default()
        };
        let (mut last, mut total) = (0, 0);
        let mut watch = |event: Event<'_>| {
            if let Event::Progress {
                done, total: of, ..
            } = event
            {
                (last, total) = (done, of);
            }
            true
        };
        let predictor = Predictor::new(&network, &gaussian, &options);
        let passes = predictor.trial_passes(&[0.0, 2.25]);
        let mut progress = Progress::new(Stage::Scales, passes * examples.len(), &mut watch);
        let trials = predictor.scale_trials(&examples, &[0.0, 2.25], &mut progress);
        let wide = EvaluationOptions {
            scale: 2.25,
            ..options
        };
        let evaluated = Predictor::new(&network, &gaussian, &wide)
            .evaluate(&examples, &mut Progress::silent())
            .unwrap();
        let of = |scale, found| {
            ScaleTrial::new(scale, &Predictions::new(found, vec![0, 1, 0, 1]).unwrap())
        };
        let expected = [
            of(0.0, evaluated.mean),
            of(2.25, mean_of_draws(&evaluated.draws).unwrap()),
        ];
        assert_eq!(trials.unwrap(), expected);
        assert_eq!((last, total), (12, 12));
        let point = PointEstimate { adapter };
        let unlabelled = Predictor::new(&network, &point, &options)
            .scale_trials(&[example(1, None)], &SCALES, &mut Progress::silent())
            .unwrap_err();
        assert_eq!(
            unlabelled.to_string(),
            "example `1` has no label to score against"
        );
    }
}

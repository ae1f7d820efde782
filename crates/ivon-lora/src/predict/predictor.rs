//! Log-probabilities of a whole set: at the mean, and under draws that are shared by the whole set.

use std::time::Instant;

use super::batches::batches;
use super::choice::{Questions, choice_log_probabilities};
use super::error::PredictError;
use super::last_layer::NoisyNetwork;
use super::linear::linearised_logits;
use super::normal_logits::NormalLogits;
use crate::data::Encoded;
use crate::forward::Network;
use crate::lora::Draw;
use crate::metrics::LogProbabilities;
use crate::posterior::Posterior;
use crate::ranks::Team;
use crate::watch::{Progress, Stage, Watch};

/// How a set is evaluated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EvaluationOptions {
    /// Number of draws S; 0 for the mean alone.
    pub samples: usize,
    /// τ, which multiplies the posterior's variance.
    pub scale: f64,
    /// Seed of the draws.
    pub seed: u64,
    /// Prompts are packed up to this many tokens per forward pass.
    pub batch_tokens: usize,
}

impl Default for EvaluationOptions {
    fn default() -> Self {
        Self {
            samples: 10,
            scale: 1.0,
            seed: 0,
            batch_tokens: 2048,
        }
    }
}

/// Log-probabilities of a set, nats, and the time that they took.
#[derive(Clone, Debug, Default)]
pub struct SetProbabilities {
    /// At the mean, `[N][C]`.
    pub mean: LogProbabilities,
    /// Under each draw, `[S][N][C]`.
    pub draws: Vec<LogProbabilities>,
    /// Wall-clock time.
    pub seconds: EvaluationSeconds,
}

/// Wall-clock seconds of an evaluation.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct EvaluationSeconds {
    /// Of the pass at the mean; none if one pass gives mean and draws, as in the linearised model.
    pub mean: Option<f64>,
    /// Of all passes.
    pub all: f64,
}

/// A posterior, the network it belongs to, and how sets are predicted with them.
#[derive(Clone, Copy)]
pub struct Predictor<'a> {
    /// The frozen network.
    pub network: &'a Network,
    /// The posterior.
    pub posterior: &'a dyn Posterior,
    /// Number of draws, their scale and seed, and the size of a batch.
    pub options: EvaluationOptions,
    /// Draws 0, 1, … under these options that are already made, see
    /// [`prepare_draws`](Self::prepare_draws); later ones are made when they are needed.
    pub draws: &'a [Draw],
    /// The ranks that predict a set together, each a part of its rows; none if one process does.
    pub team: Option<&'a Team<'a>>,
}

impl<'a> Predictor<'a> {
    /// A predictor that makes each draw when it is needed.
    pub fn new(
        network: &'a Network,
        posterior: &'a dyn Posterior,
        options: &EvaluationOptions,
    ) -> Self {
        Self {
            network,
            posterior,
            options: *options,
            draws: &[],
            team: None,
        }
    }

    /// The same over the ranks of a run. Every one of them must predict the same sets.
    pub fn over(self, team: Option<&'a Team<'a>>) -> Self {
        Self { team, ..self }
    }

    /// The draws of an evaluation, to be made once and used for many. There are none for a posterior
    /// that draws logits.
    ///
    /// # Errors
    /// If a draw cannot be made.
    pub fn prepare_draws(&self) -> Result<Vec<Draw>, PredictError> {
        let samples = if self.draws_logits() {
            0
        } else {
            self.samples()
        };
        (0..samples).map(|sample| self.draw(sample)).collect()
    }

    /// Predicts a set at the mean and under draws 0 … S−1: none for a point estimate, and at most as
    /// many as an ensemble has members. A posterior that predicts in the linearised model, or whose
    /// noise is in the output layer, draws logits, example by example. `progress` advances by each example in each of the
    /// [`passes`](Self::passes).
    ///
    /// # Errors
    /// If a draw cannot be made, a probability is not a number, or the watcher says stop.
    pub fn evaluate(
        &self,
        examples: &[Encoded],
        progress: &mut Progress<'_>,
    ) -> Result<SetProbabilities, PredictError> {
        let started = Instant::now();
        let Some(set) = self.normal_logits(examples, progress)? else {
            return self.evaluate_draws(examples, progress);
        };
        let EvaluationOptions { seed, scale, .. } = self.options;
        Ok(SetProbabilities {
            mean: set.mean(),
            draws: set.draws(self.samples(), seed, scale),
            seconds: EvaluationSeconds {
                mean: None,
                all: started.elapsed().as_secs_f64(),
            },
        })
    }

    /// As [`evaluate`](Self::evaluate), reported as this stage.
    ///
    /// # Errors
    /// As [`evaluate`](Self::evaluate).
    pub fn evaluate_as(
        &self,
        stage: Stage,
        examples: &[Encoded],
        watch: Watch<'_>,
    ) -> Result<SetProbabilities, PredictError> {
        let total = self.passes() * examples.len();
        self.evaluate(examples, &mut Progress::new(stage, total, watch))
    }

    /// Whether draws are of logits, all from one pass.
    pub(super) fn draws_logits(&self) -> bool {
        draws_logits(self.posterior)
    }

    /// The distribution of a set's logits, from one pass, if the posterior gives one.
    pub(super) fn normal_logits(
        &self,
        examples: &[Encoded],
        progress: &mut Progress<'_>,
    ) -> Result<Option<NormalLogits>, PredictError> {
        let (network, mean) = (self.network, self.posterior.mean());
        if let Some(linearised) = self.posterior.linearised() {
            // One distribution, one set.
            return Ok(linearised_logits(network, mean, &[linearised], examples, progress)?.pop());
        }
        let Some(noise) = self.posterior.output_noise() else {
            return Ok(None);
        };
        let noisy = NoisyNetwork {
            network,
            mean,
            noise,
        };
        let logits = noisy.logits(examples, self.options.batch_tokens, progress)?;
        Ok(Some(logits))
    }

    fn evaluate_draws(
        &self,
        examples: &[Encoded],
        progress: &mut Progress<'_>,
    ) -> Result<SetProbabilities, PredictError> {
        let started = Instant::now();
        let mut pass = |draw: &Draw| self.log_probabilities(draw, examples, progress);
        let mean = pass(&Draw::of(self.posterior.mean().clone()))?;
        let mean_seconds = started.elapsed().as_secs_f64();
        let mut draws = Vec::new();
        for sample in 0..self.samples() {
            draws.push(pass(&self.draw(sample)?)?);
        }
        Ok(SetProbabilities {
            mean,
            draws,
            seconds: EvaluationSeconds {
                mean: Some(mean_seconds),
                all: started.elapsed().as_secs_f64(),
            },
        })
    }

    /// How many times an evaluation goes over its examples.
    pub fn passes(&self) -> usize {
        if self.draws_logits() {
            1
        } else {
            1 + self.samples()
        }
    }

    /// The number of draws to make.
    pub(super) fn samples(&self) -> usize {
        self.posterior.spread().draws(self.options.samples)
    }

    /// A draw of these options: a prepared one, or made now.
    fn draw(&self, sample: usize) -> Result<Draw, PredictError> {
        if let Some(draw) = self.draws.get(sample) {
            return Ok(draw.clone());
        }
        let EvaluationOptions { seed, scale, .. } = self.options;
        Ok(self.posterior.draw(sample as u64, seed, scale)?)
    }

    /// Predicts a set under one draw, see [`log_probabilities`].
    ///
    /// # Errors
    /// If a probability is not a number, a rank fails, or the watcher says stop.
    pub fn log_probabilities(
        &self,
        draw: &Draw,
        examples: &[Encoded],
        progress: &mut Progress<'_>,
    ) -> Result<LogProbabilities, PredictError> {
        let batch_tokens = self.options.batch_tokens;
        let Some(team) = self.team else {
            return log_probabilities(self.network, draw, examples, batch_tokens, progress);
        };
        let own = &examples[team.part(examples.len())];
        let rows = log_probabilities(self.network, draw, own, batch_tokens, progress);
        let rows = rows.and_then(|rows| {
            progress.advance(examples.len() - own.len())?;
            Ok(rows)
        });
        let rows = team.agreed(rows)?;
        let all = team.gather(&bytes_of(&rows))?;
        Ok(all.iter().flat_map(|bytes| rows_of(bytes)).collect())
    }
}

/// Rows as bytes: the number of values of each, and the values.
fn bytes_of(rows: &LogProbabilities) -> Vec<u8> {
    let mut bytes = Vec::new();
    for row in rows {
        bytes.extend((row.len() as f64).to_le_bytes());
        bytes.extend(row.iter().flat_map(|value| value.to_le_bytes()));
    }
    bytes
}

/// The rows of [`bytes_of`].
fn rows_of(bytes: &[u8]) -> LogProbabilities {
    let eights = bytes.as_chunks::<8>().0.iter();
    let mut numbers = eights.map(|eight| f64::from_le_bytes(*eight));
    let mut rows = Vec::new();
    while let Some(length) = numbers.next() {
        rows.push(numbers.by_ref().take(length as usize).collect());
    }
    rows
}

/// Whether draws of a posterior are of the logits of choices, rather than of an adapter.
pub fn draws_logits(posterior: &dyn Posterior) -> bool {
    posterior.linearised().is_some() || posterior.output_noise().is_some()
}

/// Predicts a set under one draw, `[N][C]`, nats; `progress` advances by its examples.
///
/// # Errors
/// If a probability is not a number, or the watcher says stop.
pub fn log_probabilities(
    network: &Network,
    draw: &Draw,
    examples: &[Encoded],
    batch_tokens: usize,
    progress: &mut Progress<'_>,
) -> Result<LogProbabilities, PredictError> {
    let draw = draw.valid();
    let mut rows: Vec<Vec<f64>> = vec![Vec::new(); examples.len()];
    for group in batches(examples, batch_tokens) {
        let members: Vec<&Encoded> = group.iter().map(|&index| &examples[index]).collect();
        for (&index, row) in group
            .iter()
            .zip(batch_log_probabilities(network, &draw, &members)?)
        {
            rows[index] = row;
        }
        progress.advance(group.len())?;
    }
    Ok(rows)
}

/// Predicts the examples of one batch.
fn batch_log_probabilities(
    network: &Network,
    draw: &Draw,
    examples: &[&Encoded],
) -> Result<LogProbabilities, PredictError> {
    let questions = Questions::pack(examples)?;
    let values = choice_log_probabilities(network, draw, &questions).into_data();
    let values = values.try_to_vec::<f32>();
    let values = values.map_err(|error| PredictError::Device {
        reason: error.to_string(),
    })?;
    let width = values.len() / examples.len();
    let row = |(place, example): (usize, &&Encoded)| {
        let row = &values[place * width..][..questions.choices(place)];
        normalised(row).ok_or_else(|| PredictError::NotFinite {
            id: example.id.clone(),
        })
    };
    examples.iter().enumerate().map(row).collect()
}

/// f32 log-probabilities in f64, normalised again in that precision; `None` if one is not a number.
fn normalised(row: &[f32]) -> Option<Vec<f64>> {
    let row: Vec<f64> = row.iter().map(|&value| f64::from(value)).collect();
    let total = crate::metrics::log_sum_exp(row.iter().copied());
    total
        .is_finite()
        .then(|| row.into_iter().map(|value| value - total).collect())
}

//! Log-probabilities of a whole set: at the mean, and under draws that each serve the whole set.

use std::time::Instant;

use super::choice::{Questions, choice_log_probabilities};
use super::error::PredictError;
use super::linear::LinearSet;
use crate::data::{Choices, Encoded};
use crate::forward::Network;
use crate::lora::Draw;
use crate::metrics::LogProbabilities;
use crate::posterior::{Linearised, Posterior};
use crate::watch::{Progress, Stage, Watch};

/// How a set is evaluated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EvaluationOptions {
    /// Number of draws S; 0 for the mean alone.
    pub samples: usize,
    /// τ: multiplies the posterior's variance.
    pub scale: f64,
    /// Names the draws.
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

/// Log-probabilities of a set, nats, and what they took.
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
    /// Of the pass at the mean; none where one pass gives mean and draws, as in the linearised
    /// model.
    pub mean: Option<f64>,
    /// Of all passes.
    pub all: f64,
}

/// A posterior on its network, and how sets are predicted with both.
#[derive(Clone, Copy)]
pub struct Predictor<'a> {
    /// The frozen network.
    pub network: &'a Network,
    /// What draws come from.
    pub posterior: &'a dyn Posterior,
    /// Number of draws, their scale and seed, and the size of a batch.
    pub options: EvaluationOptions,
    /// Draws 0, 1, … under these options that are there already, see
    /// [`prepare_draws`](Self::prepare_draws); those after them are made when they are needed.
    pub draws: &'a [Draw],
}

impl<'a> Predictor<'a> {
    /// One that makes each draw when it is needed.
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
        }
    }

    /// The draws that each evaluation needs, to be made once for many. None for a posterior that
    /// predicts in the linearised model, whose draws are of the logits.
    ///
    /// # Errors
    /// If a draw cannot be made.
    pub fn prepare_draws(&self) -> Result<Vec<Draw>, PredictError> {
        let samples = match self.posterior.linearised() {
            Some(_) => 0,
            None => self.samples(),
        };
        (0..samples).map(|sample| self.draw(sample)).collect()
    }

    /// Predicts a set at the mean and under draws 0 … S−1, of which there are none for a point
    /// estimate, and no more than an ensemble has members; a posterior that predicts in the
    /// linearised model draws logits, example by example. `progress` advances by an example of each
    /// of the [`passes`](Self::passes).
    ///
    /// # Errors
    /// If a draw cannot be made, a probability is not a number, or whoever watches says stop.
    pub fn evaluate(
        &self,
        examples: &[Encoded],
        progress: &mut Progress<'_>,
    ) -> Result<SetProbabilities, PredictError> {
        match self.posterior.linearised() {
            Some(linearised) => self.evaluate_linearised(linearised, examples, progress),
            None => self.evaluate_draws(examples, progress),
        }
    }

    /// As [`evaluate`](Self::evaluate), told as one stage of its own.
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

    fn evaluate_linearised(
        &self,
        linearised: &dyn Linearised,
        examples: &[Encoded],
        progress: &mut Progress<'_>,
    ) -> Result<SetProbabilities, PredictError> {
        let started = Instant::now();
        let (network, posterior) = (self.network, self.posterior);
        let set = LinearSet::of(network, posterior, linearised, examples, progress)?;
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
            draws.push(match self.draws.get(sample) {
                Some(draw) => pass(draw)?,
                None => pass(&self.draw(sample)?)?,
            });
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

    /// How often an evaluation goes over its examples.
    pub fn passes(&self) -> usize {
        match self.posterior.linearised() {
            Some(_) => 1,
            None => 1 + self.samples(),
        }
    }

    /// Number of draws that are worth making.
    pub(super) fn samples(&self) -> usize {
        self.posterior.spread().draws(self.options.samples)
    }

    fn draw(&self, sample: usize) -> Result<Draw, PredictError> {
        let EvaluationOptions { seed, scale, .. } = self.options;
        Ok(self.posterior.draw(sample as u64, seed, scale)?)
    }

    /// A set with one draw, see [`log_probabilities`].
    pub(super) fn log_probabilities(
        &self,
        draw: &Draw,
        examples: &[Encoded],
        progress: &mut Progress<'_>,
    ) -> Result<LogProbabilities, PredictError> {
        let batch_tokens = self.options.batch_tokens;
        log_probabilities(self.network, draw, examples, batch_tokens, progress)
    }
}

/// Predicts a set with one draw, `[N][C]`, nats; `progress` advances by its examples.
///
/// # Errors
/// If a probability is not a number, or whoever watches says stop.
pub fn log_probabilities(
    network: &Network,
    draw: &Draw,
    examples: &[Encoded],
    batch_tokens: usize,
    progress: &mut Progress<'_>,
) -> Result<LogProbabilities, PredictError> {
    let draw = draw.valid();
    let mut rows: Vec<Vec<f64>> = vec![Vec::new(); examples.len()];
    // Prompts of like length side by side waste nothing here, but keep the attention's tiles even.
    let mut order: Vec<usize> = (0..examples.len()).collect();
    order.sort_by_key(|&index| examples[index].tokens.len());
    for group in groups(examples, &order, batch_tokens) {
        let members: Vec<&Encoded> = group.iter().map(|&index| &examples[index]).collect();
        let questions = Questions::pack(&members);
        let values = choice_log_probabilities(network, &draw, &questions).into_data();
        let values = values
            .try_to_vec::<f32>()
            .map_err(|error| PredictError::Device {
                reason: error.to_string(),
            })?;
        let width = values.len() / group.len();
        for (place, &index) in group.iter().enumerate() {
            let row = &values[place * width..place * width + questions.choices(place)];
            rows[index] = normalised(row).ok_or_else(|| PredictError::NotFinite {
                id: examples[index].id.clone(),
            })?;
        }
        progress.advance(group.len())?;
    }
    Ok(rows)
}

/// f32 log-probabilities in f64, normalised again to f64's precision; `None` if one is not a
/// number.
fn normalised(row: &[f32]) -> Option<Vec<f64>> {
    let row: Vec<f64> = row.iter().map(|&value| f64::from(value)).collect();
    let total = crate::metrics::log_sum_exp(row.iter().copied());
    total
        .is_finite()
        .then(|| row.into_iter().map(|value| value - total).collect())
}

/// Cuts an order of examples into groups of at most `batch_tokens` tokens, at least one example
/// each.
fn groups<'a>(examples: &[Encoded], order: &'a [usize], batch_tokens: usize) -> Vec<&'a [usize]> {
    let tokens = |index: usize| {
        let example = &examples[index];
        example.tokens.len()
            + match example.choices() {
                Choices::Tokens(_) => 0,
                Choices::Answers(answers) => answers.iter().map(Vec::len).sum(),
            }
    };
    let mut groups = Vec::new();
    let (mut start, mut sum) = (0, 0);
    for (place, &index) in order.iter().enumerate() {
        if place > start && sum + tokens(index) > batch_tokens {
            groups.push(&order[start..place]);
            (start, sum) = (place, 0);
        }
        sum += tokens(index);
    }
    if start < order.len() {
        groups.push(&order[start..]);
    }
    groups
}

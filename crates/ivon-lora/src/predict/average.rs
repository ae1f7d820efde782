//! Log-probabilities of a whole set: at the mean, and under draws that each serve the whole set.

use std::time::Instant;

use super::choice::{Questions, choice_log_probabilities};
use super::error::PredictError;
use super::linear::LinearSet;
use crate::data::{Choices, Encoded};
use crate::forward::Network;
use crate::lora::Draw;
use crate::metrics::LogProbabilities;
use crate::posterior::Posterior;

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

/// Log-probabilities of a set, nats.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluated {
    /// At the mean, `[N][C]`.
    pub mean: LogProbabilities,
    /// Under each draw, `[S][N][C]`.
    pub draws: Vec<LogProbabilities>,
}

/// Wall-clock seconds of an evaluation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EvaluationSeconds {
    /// Of the pass at the mean; none where one pass gives mean and draws, as in the linearised
    /// model.
    pub mean: Option<f64>,
    /// Of all passes.
    pub all: f64,
}

/// Predicts a set at the mean and under draws 0 … S−1, of which there are none for a point
/// estimate, and no more than an ensemble has members; a posterior that predicts in the linearised
/// model draws logits, example by example. `watch` hears how many examples of how many (over all
/// passes) are done and says whether to go on.
///
/// # Errors
/// If a draw cannot be made, a probability is not a number, or `watch` says stop.
pub fn evaluate(
    network: &Network,
    posterior: &dyn Posterior,
    examples: &[Encoded],
    options: &EvaluationOptions,
    watch: &mut dyn FnMut(usize, usize) -> bool,
) -> Result<Evaluated, PredictError> {
    evaluate_timed(network, posterior, examples, options, watch).map(|(evaluated, _)| evaluated)
}

/// As [`evaluate`], with what it took.
///
/// # Errors
/// As [`evaluate`].
pub fn evaluate_timed(
    network: &Network,
    posterior: &dyn Posterior,
    examples: &[Encoded],
    options: &EvaluationOptions,
    watch: &mut dyn FnMut(usize, usize) -> bool,
) -> Result<(Evaluated, EvaluationSeconds), PredictError> {
    let started = Instant::now();
    let until_now = || started.elapsed().as_secs_f64();
    let samples = posterior.spread().draws(options.samples);
    if let Some(linearised) = posterior.linearised() {
        let mut watch = |done| watch(done, examples.len());
        let set = LinearSet::of(network, posterior, linearised, examples, &mut watch)?;
        let draws = set.draws(samples, options.seed, options.scale);
        return Ok((
            Evaluated {
                mean: set.mean(),
                draws,
            },
            EvaluationSeconds {
                mean: None,
                all: until_now(),
            },
        ));
    }
    let total = examples.len() * (samples + 1);
    let mut pass = |index: usize, draw: &Draw| {
        log_probabilities(network, draw, examples, options.batch_tokens, &mut |done| {
            watch(index * examples.len() + done, total)
        })
    };
    let mean = pass(0, &Draw::of(posterior.mean().clone()))?;
    let of_mean = Some(until_now());
    let draws = (0..samples)
        .map(|sample| {
            let draw = posterior.draw(sample as u64, options.seed, options.scale)?;
            pass(sample + 1, &draw)
        })
        .collect::<Result<_, PredictError>>()?;
    Ok((
        Evaluated { mean, draws },
        EvaluationSeconds {
            mean: of_mean,
            all: until_now(),
        },
    ))
}

/// Predicts a set with one draw, `[N][C]`, nats. `watch` hears how many examples are done and
/// says whether to go on.
///
/// # Errors
/// If a probability is not a number, or `watch` says stop.
pub fn log_probabilities(
    network: &Network,
    draw: &Draw,
    examples: &[Encoded],
    batch_tokens: usize,
    watch: &mut dyn FnMut(usize) -> bool,
) -> Result<LogProbabilities, PredictError> {
    let draw = draw.valid();
    let mut rows: Vec<Vec<f64>> = vec![Vec::new(); examples.len()];
    // Prompts of like length side by side waste nothing here, but keep the attention's tiles even.
    let mut order: Vec<usize> = (0..examples.len()).collect();
    order.sort_by_key(|&index| examples[index].tokens.len());
    let mut done = 0;
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
        done += group.len();
        if !watch(done) {
            return Err(PredictError::Stopped {
                done,
                total: examples.len(),
            });
        }
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

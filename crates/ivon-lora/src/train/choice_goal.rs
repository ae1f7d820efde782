//! Learning the right choice: cross-entropy over the choices of an example, scored on *tune*.

use super::{BatchObjective, Goal, Objective, TrainConfig, TrainError};
use crate::data::{Encoded, batch_indices};
use crate::forward::Network;
use crate::lora::LoraConfig;
use crate::metrics::{LogProbabilities, Predictions, mean_of_draws};
use crate::posterior::Posterior;
use crate::predict::{EvaluationOptions, PredictError, Predictor};
use crate::watch::{Evaluation, MainScores, SampledScores, Stage, Watch};

/// Labelled examples with choices.
#[derive(Clone, Copy)]
pub struct ChoiceGoal<'a> {
    /// The frozen decoder.
    pub network: &'a Network,
    /// Scaling and dropout of the adapter.
    pub lora: &'a LoraConfig,
    /// Batch size, accumulation, and draws of the scores.
    pub config: &'a TrainConfig,
    /// How scores are computed; the number of draws is that of `config`.
    pub evaluation: EvaluationOptions,
    /// The examples to learn from.
    pub train: &'a [Encoded],
    /// The examples to score on; may be empty.
    pub tune: &'a [Encoded],
}

impl Goal for ChoiceGoal<'_> {
    fn check(&self) -> Result<(), TrainError> {
        labels("tune", self.tune)?;
        labels("train", self.train).map(|_| ())
    }

    fn examples(&self) -> usize {
        self.train.len()
    }

    fn objective(&self, seed: u64, step: u64) -> Box<dyn Objective + '_> {
        let accumulation = self.config.accumulation as u64;
        let micro_batches: Vec<Vec<&Encoded>> = (0..accumulation)
            .map(|micro_batch| self.batch(seed, step * accumulation + micro_batch))
            .collect();
        Box::new(BatchObjective::new(
            self.network,
            self.lora.dropout,
            seed,
            step,
            &micro_batches,
        ))
    }

    fn is_scored(&self) -> bool {
        !self.tune.is_empty()
    }

    fn score(&self, posterior: &dyn Posterior, watch: Watch<'_>) -> Result<Evaluation, TrainError> {
        let labels = labels("tune", self.tune)?;
        let options = EvaluationOptions {
            samples: self.config.eval_samples,
            ..self.evaluation
        };
        let predictor = Predictor::new(self.network, posterior, &options);
        let evaluated = predictor.evaluate_as(Stage::Tune, self.tune, watch)?;
        let sampled = match evaluated.draws.len() {
            0 => None,
            samples => Some(SampledScores {
                samples,
                scores: scores(
                    mean_of_draws(&evaluated.draws).map_err(PredictError::from)?,
                    &labels,
                )?,
            }),
        };
        Ok(Evaluation {
            split: "tune".into(),
            n: self.tune.len(),
            mean: scores(evaluated.mean, &labels)?,
            sampled,
        })
    }
}

impl ChoiceGoal<'_> {
    /// The examples of a forward pass. The order of the epoch is computed again for each pass, which
    /// takes a millisecond for a hundred thousand examples.
    fn batch(&self, seed: u64, pass: u64) -> Vec<&Encoded> {
        batch_indices(seed, self.train.len(), self.config.batch_size, pass)
            .into_iter()
            .map(|index| &self.train[index])
            .collect()
    }
}

/// The labels of the examples of a role.
///
/// # Errors
/// If an example has none.
fn labels(role: &'static str, examples: &[Encoded]) -> Result<Vec<usize>, TrainError> {
    let label = |example: &Encoded| {
        example.label().ok_or_else(|| TrainError::NoLabel {
            role,
            id: example.id.clone(),
        })
    };
    examples.iter().map(label).collect()
}

fn scores(
    log_probabilities: LogProbabilities,
    labels: &[usize],
) -> Result<MainScores, PredictError> {
    let predictions = Predictions::new(log_probabilities, labels.to_vec())?;
    Ok(predictions.main_scores())
}

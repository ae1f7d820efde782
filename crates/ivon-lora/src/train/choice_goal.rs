//! Learning the right choice: cross-entropy over the choices of an example, scored on *tune*.

use super::{BatchObjective, Goal, GoalExamples, Objective, TrainError};
use crate::data::Encoded;
use crate::metrics::{LogProbabilities, Predictions, mean_of_draws};
use crate::posterior::Posterior;
use crate::predict::{PredictError, Predictor};
use crate::watch::{Evaluation, MainScores, SampledScores, Stage, Watch};

/// Labelled examples with choices.
#[derive(Clone, Copy)]
pub struct ChoiceGoal<'a>(pub GoalExamples<'a>);

impl Goal for ChoiceGoal<'_> {
    fn check(&self) -> Result<(), TrainError> {
        labels("tune", self.0.tune)?;
        labels("train", self.0.train).map(|_| ())
    }

    fn examples(&self) -> usize {
        self.0.train.len()
    }

    fn weight_of_squares(&self) -> f64 {
        let labels = self.0.train.iter().filter_map(Encoded::label);
        self.0.weights.of_squares(labels)
    }

    fn objective(&self, seed: u64, step: u64) -> Box<dyn Objective + '_> {
        let GoalExamples { network, lora, .. } = self.0;
        let part = self.0.part(seed, step);
        let own = BatchObjective::new(network, lora.dropout, seed, step, &part.micro_batches);
        let own = own.with_weights(self.0.weights);
        let weight = own.weight();
        self.0.over_ranks(own, weight, part.whole)
    }

    fn is_scored(&self) -> bool {
        !self.0.tune.is_empty()
    }

    fn score(&self, posterior: &dyn Posterior, watch: Watch<'_>) -> Result<Evaluation, TrainError> {
        let labels = labels("tune", self.0.tune)?;
        let options = self.0.options();
        let predictor = Predictor::new(self.0.network, posterior, &options).over(self.0.team);
        let evaluated = predictor.evaluate_as(Stage::Tune, self.0.tune, watch)?;
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
            n: self.0.tune.len(),
            mean: scores(evaluated.mean, &labels)?,
            sampled,
        })
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

//! Learning texts: cross-entropy of their tokens over the whole vocabulary, scored on *tune*.

use super::{Goal, Objective, TextObjective, TrainConfig, TrainError};
use crate::data::{Encoded, TextTarget, batch_indices};
use crate::forward::Network;
use crate::lora::LoraConfig;
use crate::metrics::{Bootstrap, PredictedDocument, TokenScores};
use crate::posterior::Posterior;
use crate::predict::{EvaluationOptions, PredictError, Predictor};
use crate::watch::{Evaluation, MainScores, Progress, SampledScores, Stage, Watch};

/// Texts with the tokens to learn.
#[derive(Clone, Copy)]
pub struct TextGoal<'a> {
    /// The frozen decoder.
    pub network: &'a Network,
    /// Scaling and dropout of the adapter.
    pub lora: &'a LoraConfig,
    /// Batch size, accumulation, and draws of the scores.
    pub config: &'a TrainConfig,
    /// How scores are computed; the number of draws is that of `config`.
    pub evaluation: EvaluationOptions,
    /// The texts to learn from.
    pub train: &'a [Encoded],
    /// The texts to score on; may be empty.
    pub tune: &'a [Encoded],
}

impl Goal for TextGoal<'_> {
    fn check(&self) -> Result<(), TrainError> {
        check("tune", self.tune)?;
        check("train", self.train)
    }

    fn examples(&self) -> usize {
        self.train.len()
    }

    fn predictions(&self) -> usize {
        let texts = self.train.iter().filter_map(Encoded::text);
        texts.map(TextTarget::trained).sum()
    }

    fn objective(&self, seed: u64, step: u64) -> Box<dyn Objective + '_> {
        let accumulation = self.config.accumulation as u64;
        let batch = |micro_batch: u64| -> Vec<&Encoded> {
            let pass = step * accumulation + micro_batch;
            batch_indices(seed, self.train.len(), self.config.batch_size, pass)
                .into_iter()
                .map(|index| &self.train[index])
                .collect()
        };
        let micro_batches: Vec<Vec<&Encoded>> = (0..accumulation).map(batch).collect();
        Box::new(TextObjective::new(
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
        let options = EvaluationOptions {
            samples: self.config.eval_samples,
            ..self.evaluation
        };
        let predictor = Predictor::new(self.network, posterior, &options);
        let total = predictor.passes() * self.tune.len();
        let mut progress = Progress::new(Stage::Tune, total, watch);
        let found = predictor.evaluate_texts(self.tune, &mut progress)?;
        let sampled = match &found.sampled {
            None => None,
            Some(documents) => Some(SampledScores {
                samples: predictor.passes() - 1,
                scores: main_scores(documents)?,
            }),
        };
        Ok(Evaluation {
            split: "tune".into(),
            n: self.tune.len(),
            mean: main_scores(&found.mean)?,
            sampled,
        })
    }
}

/// The scores of records, which have no intervals.
fn main_scores(documents: &[PredictedDocument]) -> Result<MainScores, TrainError> {
    let bootstrap = Bootstrap {
        resamples: 0,
        ..Bootstrap::default()
    };
    let scores = TokenScores::of(documents, &bootstrap).map_err(PredictError::from)?;
    Ok(scores.main_scores())
}

/// Checks that every example of a role is a text with a token to predict.
fn check(role: &'static str, examples: &[Encoded]) -> Result<(), TrainError> {
    let predicts = |example: &&Encoded| example.text().is_none_or(|text| text.trained() == 0);
    match examples.iter().find(predicts) {
        None => Ok(()),
        Some(example) => Err(TrainError::NothingToLearn {
            role,
            id: example.id.clone(),
        }),
    }
}

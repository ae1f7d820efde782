//! Learning texts: cross-entropy of their tokens over the whole vocabulary, scored on *tune*.

use super::{Goal, GoalExamples, Objective, TextObjective, TrainError};
use crate::data::{Encoded, TextTarget};
use crate::metrics::{Bootstrap, PredictedDocument, TokenScores};
use crate::posterior::Posterior;
use crate::predict::{PredictError, Predictor};
use crate::watch::{Evaluation, MainScores, Progress, SampledScores, Stage, Watch};

/// Texts with the tokens to learn.
#[derive(Clone, Copy)]
pub struct TextGoal<'a>(pub GoalExamples<'a>);

impl Goal for TextGoal<'_> {
    fn check(&self) -> Result<(), TrainError> {
        check("tune", self.0.tune)?;
        check("train", self.0.train)
    }

    fn examples(&self) -> usize {
        self.0.train.len()
    }

    fn predictions(&self) -> usize {
        let texts = self.0.train.iter().filter_map(Encoded::text);
        texts.map(TextTarget::trained).sum()
    }

    fn objective(&self, seed: u64, step: u64) -> Box<dyn Objective + '_> {
        let GoalExamples { network, lora, .. } = self.0;
        let part = self.0.part(seed, step);
        let own = TextObjective::new(network, lora.dropout, seed, step, &part.micro_batches);
        let weight = own.weight();
        self.0.over_ranks(own, weight, part.whole)
    }

    fn is_scored(&self) -> bool {
        !self.0.tune.is_empty()
    }

    fn score(&self, posterior: &dyn Posterior, watch: Watch<'_>) -> Result<Evaluation, TrainError> {
        let options = self.0.options();
        let predictor = Predictor::new(self.0.network, posterior, &options).over(self.0.team);
        let total = predictor.passes() * self.0.tune.len();
        let mut progress = Progress::new(Stage::Tune, total, watch);
        let found = predictor.evaluate_texts(self.0.tune, &mut progress)?;
        let sampled = match &found.sampled {
            None => None,
            Some(documents) => Some(SampledScores {
                samples: predictor.passes() - 1,
                scores: main_scores(documents)?,
            }),
        };
        Ok(Evaluation {
            split: "tune".into(),
            n: self.0.tune.len(),
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

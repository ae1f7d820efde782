//! Predictions of a set in a study → their scores, and what a choice by them is made from: of questions
//! over choices, of texts over tokens.

use super::StudyError;
use ivon_lora::answer::{Answerer, ExampleSet};
use ivon_lora::lora::Draw;
use ivon_lora::metrics::{
    Ground, LogProbabilities, MainScores, PredictedDocument, Predictions, TokenSums, mean_of_draws,
};
use ivon_lora::predict::{EvaluationOptions, log_probabilities, predicted_documents};
use ivon_lora::watch::Progress;

/// A set with its scores.
pub(super) struct Scored {
    pub scores: MainScores,
    /// The loss of each row, nats, whose mean is the NLL.
    pub losses: Vec<f64>,
    pub ground: Ground,
}

impl Scored {
    /// A set under the first draws of these options, for each of the numbers in `counts`; at the mean
    /// without draws.
    ///
    /// # Errors
    /// If a row has no label, a probability is not a number, and if the watcher says stop.
    pub fn under_first(
        counts: &[usize],
        answerer: &Answerer,
        set: &ExampleSet,
        options: &EvaluationOptions,
        progress: &mut Progress<'_>,
    ) -> Result<Vec<Self>, StudyError> {
        if answerer.task().is_text() {
            let found = answerer.texts_under_first(counts, &set.encoded, options, progress)?;
            return Ok(found.iter().map(|texts| Self::of_texts(texts)).collect());
        }
        let labels = set.labels()?;
        let found = answerer.log_probabilities_with(&set.encoded, options, progress)?;
        let draws = match options.samples {
            0 => vec![found.mean],
            _ => found.draws,
        };
        let averaged = |&count: &usize| {
            let first = &draws[..count.min(draws.len())];
            Self::of_questions(mean_of_draws(first)?, &labels)
        };
        counts.iter().map(averaged).collect()
    }

    /// A set under one draw.
    ///
    /// # Errors
    /// As [`under_first`](Self::under_first).
    pub fn under(
        draw: Draw,
        answerer: &Answerer,
        set: &ExampleSet,
        progress: &mut Progress<'_>,
    ) -> Result<Self, StudyError> {
        let (network, examples) = (&answerer.base().network, &set.encoded.examples);
        let batch_tokens = answerer.options().batch_tokens;
        if answerer.task().is_text() {
            let found = predicted_documents(network, &[draw], examples, batch_tokens, progress)?;
            return Ok(Self::of_texts(&found));
        }
        let found = log_probabilities(network, &draw, examples, batch_tokens, progress)?;
        Self::of_questions(found, &set.labels()?)
    }

    fn of_questions(found: LogProbabilities, labels: &[usize]) -> Result<Self, StudyError> {
        let predictions = Predictions::new(found, labels.to_vec())?;
        Ok(Self {
            scores: predictions.main_scores(),
            losses: predictions.losses(),
            ground: Ground::of(&predictions),
        })
    }

    /// The loss of a text is that of all its tokens, so that a long one counts more, as in the NLL.
    fn of_texts(documents: &[PredictedDocument]) -> Self {
        let sums: Vec<TokenSums> = documents.iter().map(TokenSums::of).collect();
        let weight: f64 = sums.iter().map(|sums| sums.weight).sum();
        let share = sums.len() as f64 / weight;
        Self {
            scores: TokenSums::main_scores(&sums),
            losses: sums.iter().map(|sums| sums.loss * share).collect(),
            ground: Ground::of_texts(documents),
        }
    }
}

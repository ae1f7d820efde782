//! A prompt with references, what was written to it at the mean and under draws, and every uncertainty
//! of it: a line of `answers.jsonl`.

use serde::{Deserialize, Serialize};

use crate::generate::FinishReason;
use crate::metrics::text::{Agreement, Consensus};
use crate::predict::WrittenScores;

/// The file of answers in a folder of results.
pub const ANSWERS_FILE: &str = "answers.jsonl";

/// The answers to one prompt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AnsweredPrompt {
    /// The id of its row.
    pub id: String,
    /// Right answers.
    pub references: Vec<String>,
    /// The answer at the mean, each token the most probable one.
    pub answer: String,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Sums over its tokens, nats.
    pub sum: WrittenScores,
    /// Means over its tokens, nats.
    pub per_token: WrittenScores,
    /// The probability that the model gives the answer to be true.
    pub p_true: f64,
    /// The answers under draws; empty if none were asked for.
    pub samples: Vec<String>,
    /// What these agree on.
    pub consensus: Option<Consensus>,
    /// The share of them that mean the same as the answer.
    pub support: Option<f64>,
    /// The answer's mean utility over them.
    pub expected_utility: Option<f64>,
}

impl AnsweredPrompt {
    /// The same, compared with its samples.
    pub(super) fn compared(mut self, agreement: &Agreement) -> Self {
        self.consensus = agreement.consensus(&self.samples);
        self.support = agreement.support(&self.answer, &self.samples);
        self.expected_utility = agreement.expected_utility(&self.answer, &self.samples);
        self
    }

    /// The sample of the most frequent meaning.
    pub fn vote(&self) -> Option<&str> {
        let place = self.consensus.as_ref()?.vote;
        self.samples.get(place).map(String::as_str)
    }

    /// The sample with the largest expected utility.
    pub fn best(&self) -> Option<&str> {
        let place = self.consensus.as_ref()?.best;
        self.samples.get(place).map(String::as_str)
    }
}

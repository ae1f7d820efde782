//! Predicted tokens of texts → NLL per token, perplexity, bits per byte, accuracy and calibration of
//! the next token, with intervals over documents.
//!
//! A token counts by its weight in the loss, so that the NLL here is the loss on the same rows. The
//! tokens of one document are not independent, so the bootstrap draws documents.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::bootstrap::{Bootstrap, intervals_of};
use super::calibration::BINS;
use super::calibration::{Bin, bin_of, bins_of};
use super::error::MetricsError;
use super::predicted_document::PredictedDocument;
use crate::watch::MainScores;

/// A score with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoreWithInterval {
    /// The score.
    pub value: f64,
    /// `[low, high]`, over documents.
    pub interval: [f64; 2],
}

impl ScoreWithInterval {
    /// The scores of `count` rows, with the intervals of their resamples.
    pub(super) fn of_rows<const SCORES: usize>(
        count: usize,
        bootstrap: &Bootstrap,
        scores: impl Fn(&[usize]) -> [f64; SCORES],
    ) -> [Self; SCORES] {
        let rows: Vec<usize> = (0..count).collect();
        let mut intervals = intervals_of(count, bootstrap, &scores).into_iter();
        scores(&rows).map(|value| Self {
            value,
            interval: intervals.next().unwrap_or([f64::NAN; 2]),
        })
    }
}

impl fmt::Display for ScoreWithInterval {
    /// `0.812 [0.790, 0.834]`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [low, high] = self.interval;
        write!(formatter, "{:.3} [{low:.3}, {high:.3}]", self.value)
    }
}

/// How well the tokens of some documents are predicted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenScores {
    /// Number of documents.
    pub documents: usize,
    /// Number of predicted tokens.
    pub tokens: usize,
    /// Bytes of UTF-8 that they spell.
    pub bytes: usize,
    /// Mean negative log-likelihood of a token, nats.
    pub nll: ScoreWithInterval,
    /// e to the NLL.
    pub perplexity: ScoreWithInterval,
    /// Negative log-likelihood of all tokens in bits, by byte of their text; independent of the
    /// tokenizer.
    pub bits_per_byte: ScoreWithInterval,
    /// Share of tokens that are the most probable one.
    pub accuracy: ScoreWithInterval,
    /// Expected calibration error of the most probable token.
    pub ece: ScoreWithInterval,
    /// Σ (p − y)² over the vocabulary, mean over tokens.
    pub brier: ScoreWithInterval,
    /// The bins of the calibration error, without empty ones.
    pub bins: Vec<Bin>,
}

/// Weighted sums over the tokens of a document, from which all scores follow.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenSums {
    /// Of the weights.
    pub weight: f64,
    /// Of the negative log-likelihoods, nats.
    pub loss: f64,
    /// Of the tokens that are the most probable one.
    pub right: f64,
    /// Of the Brier scores.
    pub brier: f64,
    /// Bytes of UTF-8 that the tokens spell, without weights.
    pub bytes: f64,
    /// Σ (right − confidence) of each bin of the calibration error.
    pub gaps: [f64; BINS],
}

impl TokenSums {
    const ZERO: Self = Self {
        weight: 0.0,
        loss: 0.0,
        right: 0.0,
        brier: 0.0,
        bytes: 0.0,
        gaps: [0.0; BINS],
    };

    /// Those of a document.
    pub fn of(document: &PredictedDocument) -> Self {
        let mut sums = Self {
            bytes: document.bytes as f64,
            ..Self::ZERO
        };
        for token in &document.tokens {
            let right = f64::from(u8::from(token.is_top));
            sums.weight += token.weight;
            sums.loss -= token.weight * token.log_probability;
            sums.right += token.weight * right;
            let brier = 1.0 - 2.0 * token.log_probability.exp() + token.squares;
            sums.brier += token.weight * brier;
            sums.gaps[bin_of(token.confidence, BINS)] += token.weight * (right - token.confidence);
        }
        sums
    }

    fn add(&mut self, other: &Self) {
        self.weight += other.weight;
        self.loss += other.loss;
        self.right += other.right;
        self.brier += other.brier;
        self.bytes += other.bytes;
        for (gap, other) in self.gaps.iter_mut().zip(other.gaps) {
            *gap += other;
        }
    }

    /// Whether they can be those of a document: finite, with a weight above 0.
    pub fn is_valid(&self) -> bool {
        let mut sums = [self.loss, self.right, self.brier, self.bytes]
            .into_iter()
            .chain(self.gaps);
        self.weight > 0.0 && self.weight.is_finite() && sums.all(f64::is_finite)
    }

    /// The scores of all tokens of these documents together.
    pub fn main_scores(documents: &[Self]) -> MainScores {
        let mut total = Self::ZERO;
        documents.iter().for_each(|sums| total.add(sums));
        let [nll, _, _, accuracy, ece, brier] = total.scores();
        MainScores {
            accuracy,
            nll,
            ece,
            brier,
        }
    }

    /// The scores of the tokens of some of these documents, which may stand there twice.
    pub(super) fn scores_of(documents: &[Self], rows: &[usize]) -> [f64; 6] {
        let mut total = Self::ZERO;
        rows.iter().for_each(|&row| total.add(&documents[row]));
        total.scores()
    }

    /// NLL, perplexity, bits per byte, accuracy, ECE, Brier score.
    fn scores(&self) -> [f64; 6] {
        let nll = self.loss / self.weight;
        let gaps = self.gaps.iter().map(|gap| gap.abs()).sum::<f64>();
        [
            nll,
            nll.exp(),
            self.loss / std::f64::consts::LN_2 / self.bytes,
            self.right / self.weight,
            gaps / self.weight,
            self.brier / self.weight,
        ]
    }
}

impl TokenScores {
    /// The scores of these documents.
    ///
    /// # Errors
    /// If they have no predicted token.
    pub fn of(
        documents: &[PredictedDocument],
        bootstrap: &Bootstrap,
    ) -> Result<Self, MetricsError> {
        let tokens = documents.iter().flat_map(|document| &document.tokens);
        if tokens.clone().next().is_none() {
            return Err(MetricsError::Empty);
        }
        let sums: Vec<TokenSums> = documents.iter().map(TokenSums::of).collect();
        let scores = |rows: &[usize]| TokenSums::scores_of(&sums, rows);
        let [nll, perplexity, bits_per_byte, accuracy, ece, brier] =
            ScoreWithInterval::of_rows(sums.len(), bootstrap, scores);
        let rows = tokens
            .clone()
            .map(|token| (token.confidence, token.is_top, token.weight));
        Ok(Self {
            documents: documents.len(),
            tokens: tokens.count(),
            bytes: documents.iter().map(|document| document.bytes).sum(),
            nll,
            perplexity,
            bits_per_byte,
            accuracy,
            ece,
            brier,
            bins: bins_of(rows, BINS),
        })
    }

    /// The four scores of records and tables.
    pub fn main_scores(&self) -> MainScores {
        MainScores {
            accuracy: self.accuracy.value,
            nll: self.nll.value,
            ece: self.ece.value,
            brier: self.brier.value,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::predicted_document::PredictedToken;
    use super::*;

    fn token(weight: f64, p: f64, confidence: f64) -> PredictedToken {
        PredictedToken {
            weight,
            log_probability: p.ln(),
            confidence,
            is_top: p == confidence,
            squares: p * p + (1.0 - p) * (1.0 - p),
        }
    }

    /// Two documents over a vocabulary of two tokens.
    fn documents() -> Vec<PredictedDocument> {
        let first = vec![token(1.0, 0.8, 0.8), token(1.0, 0.25, 0.75)];
        let second = vec![token(2.0, 0.5, 0.5)];
        let document = |tokens, bytes| PredictedDocument {
            id: String::new(),
            tokens,
            bytes,
        };
        vec![document(first, 6), document(second, 4)]
    }

    #[test]
    fn scores_are_the_weighted_means_over_all_tokens() {
        let found = TokenScores::of(&documents(), &Bootstrap::default()).unwrap();
        let loss = -(0.8f64.ln() + 0.25f64.ln() + 2.0 * 0.5f64.ln());
        let close = |found: ScoreWithInterval, expected: f64| {
            assert!(
                (found.value - expected).abs() < 1e-12,
                "{found:?} {expected}"
            );
            assert!(found.interval[0] <= expected && expected <= found.interval[1]);
        };
        assert_eq!((found.documents, found.tokens, found.bytes), (2, 3, 10));
        close(found.nll, loss / 4.0);
        close(found.perplexity, (loss / 4.0).exp());
        close(found.bits_per_byte, loss / 2f64.ln() / 10.0);
        close(found.accuracy, 3.0 / 4.0);
        // Bins (0.4, 0.5], (0.7, 0.8]: 2 tokens' weight right at 0.5, and one right of 0.8 and 0.75.
        close(found.ece, (2.0 * 0.5 + (1.0f64 - 0.8 - 0.75).abs()) / 4.0);
        // (1 − p)² + (1 − p)² for two tokens.
        close(found.brier, 2.0 * (0.04 + 0.5625 + 2.0 * 0.25) / 4.0);
        assert_eq!(
            found.bins.iter().map(|bin| bin.count).collect::<Vec<_>>(),
            [1, 2]
        );
    }

    #[test]
    fn intervals_are_those_of_whole_documents() {
        // All tokens of a document are alike: of 30 documents a third is lost, however long it is.
        let document = |index: usize| {
            let p = if index.is_multiple_of(3) { 0.1 } else { 0.9 };
            PredictedDocument {
                id: index.to_string(),
                tokens: vec![token(1.0, p, 0.9); 100],
                bytes: 100,
            }
        };
        let documents: Vec<_> = (0..30).map(document).collect();
        let found = TokenScores::of(&documents, &Bootstrap::default()).unwrap();
        // √(1/3 · 2/3 / 30) = 0.086, not the 0.0086 of 3,000 independent tokens.
        let half = (found.accuracy.interval[1] - found.accuracy.interval[0]) / 2.0;
        assert!((0.13..0.21).contains(&half), "{half}");
    }

    #[test]
    fn without_a_predicted_token_there_is_nothing_to_score() {
        let found = TokenScores::of(&[PredictedDocument::default()], &Bootstrap::default());
        assert_eq!(found, Err(MetricsError::Empty));
    }
}

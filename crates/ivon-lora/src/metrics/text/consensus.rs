//! Several answers to one question → what they agree on: the vote, the answer by minimum Bayes risk,
//! discrete semantic entropy.

use serde::{Deserialize, Serialize};

use crate::settings::SettingError;

use super::{Similarity, best_answer, by_meaning, expected_utilities, rouge_l};

/// When answers agree, and how much one is worth where another was meant.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    /// The utility of an answer where another one is right.
    pub utility: Similarity,
    /// The least ROUGE-L of two answers that mean the same; none: they must match exactly when
    /// normalised.
    pub same_from: Option<f64>,
}

impl Default for Agreement {
    fn default() -> Self {
        Self {
            utility: Similarity::Chrf,
            same_from: None,
        }
    }
}

/// What several answers to one question agree on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Consensus {
    /// The place of the first answer of the most frequent meaning.
    pub vote: usize,
    /// Its share of the answers.
    pub vote_share: f64,
    /// The entropy of the shares of the meanings, nats.
    pub semantic_entropy: f64,
    /// The place of the answer with the largest expected utility.
    pub best: usize,
    /// Its expected utility, the mean over all answers.
    pub expected_utility: f64,
}

impl Agreement {
    /// Checks the range of `same_from`.
    ///
    /// # Errors
    /// If it is out of range.
    pub fn validate(&self) -> Result<(), SettingError> {
        SettingError::share("same_from", self.same_from)
    }

    /// Whether two answers mean the same.
    pub fn means_the_same(&self, one: &str, other: &str) -> bool {
        match self.same_from {
            Some(least) => rouge_l(one, other) >= least,
            None => Similarity::Exact.of(one, other) == 1.0,
        }
    }

    /// What the answers agree on; none without answers.
    pub fn consensus<A: AsRef<str>>(&self, answers: &[A]) -> Option<Consensus> {
        let answers: Vec<&str> = answers.iter().map(AsRef::as_ref).collect();
        let meanings = by_meaning(&answers, |one, other| self.means_the_same(one, other));
        let (group, vote_share) = meanings.vote()?;
        let utilities = expected_utilities(&answers, &answers, |answer, meant| {
            self.utility.of(answer, meant)
        });
        let best = best_answer(&utilities)?;
        Some(Consensus {
            vote: meanings.groups.iter().position(|of| *of == group)?,
            vote_share,
            semantic_entropy: meanings.entropy(),
            best: best.place,
            expected_utility: best.expected_utility,
        })
    }

    /// The share of `samples` that mean the same as an answer; none without samples.
    pub fn support<A: AsRef<str>>(&self, answer: &str, samples: &[A]) -> Option<f64> {
        let same = |sample: &&A| self.means_the_same(answer, sample.as_ref());
        let count = samples.iter().filter(same).count();
        (!samples.is_empty()).then(|| count as f64 / samples.len() as f64)
    }

    /// The mean utility of an answer over `samples`; none without samples.
    pub fn expected_utility<A: AsRef<str>>(&self, answer: &str, samples: &[A]) -> Option<f64> {
        let utility = |sample: &A| self.utility.of(answer, sample.as_ref());
        let sum: f64 = samples.iter().map(utility).sum();
        (!samples.is_empty()).then(|| sum / samples.len() as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vote_goes_by_meaning_and_the_best_answer_by_utility() {
        let answers = ["red bus", "a red car", "blue car", "the red car"];
        let agreement = Agreement {
            utility: Similarity::F1,
            same_from: None,
        };
        let found = agreement.consensus(&answers).unwrap();
        assert_eq!((found.vote, found.vote_share), (1, 0.5));
        let entropy = 0.5 * 2f64.ln() + 2.0 * 0.25 * 4f64.ln();
        assert!((found.semantic_entropy - entropy).abs() < 1e-12);
        // `a red car` has F1 ½, 1, ½ and 1 with the four.
        assert_eq!((found.best, found.expected_utility), (1, 0.75));
        assert_eq!(agreement.support("Red car!", &answers), Some(0.5));
        assert_eq!(agreement.expected_utility("red car", &answers), Some(0.75));
        assert_eq!(agreement.consensus::<&str>(&[]), None);
    }

    #[test]
    fn answers_can_mean_the_same_from_a_rouge_l_on() {
        let agreement = Agreement {
            same_from: Some(0.6),
            ..Agreement::default()
        };
        // Two of three words in common.
        let found = agreement.consensus(&["one two three", "one two four"]);
        assert_eq!(found.unwrap().vote_share, 1.0);
        let exact = Agreement::default();
        let found = exact.consensus(&["one two three", "one two four"]);
        assert_eq!(found.unwrap().vote_share, 0.5);
    }
}

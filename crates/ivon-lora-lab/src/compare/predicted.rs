//! What a method predicted of a task's test rows: of questions the probabilities of their choices, of
//! texts sums over the tokens of each.

use super::scores::RowScores;
use ivon_lora::metrics::{
    Bootstrap, ComparedScore, Predictions, TokenSums, paired_over_seeds, paired_texts_over_seeds,
};

/// Predictions of test rows.
#[derive(Clone, Debug)]
pub enum Predicted {
    /// Of questions with choices.
    Choices(Predictions),
    /// Of texts, one for each.
    Texts(Vec<TokenSums>),
}

impl Predicted {
    /// Their scores.
    pub fn scores(&self) -> RowScores {
        match self {
            Self::Choices(predictions) => RowScores::from(predictions),
            Self::Texts(documents) => RowScores::from(TokenSums::main_scores(documents)),
        }
    }

    /// Whether they are of texts.
    pub fn is_of_texts(&self) -> bool {
        self.texts().is_some()
    }

    fn choices(&self) -> Option<&Predictions> {
        match self {
            Self::Choices(predictions) => Some(predictions),
            Self::Texts(_) => None,
        }
    }

    fn texts(&self) -> Option<&[TokenSums]> {
        match self {
            Self::Choices(_) => None,
            Self::Texts(documents) => Some(documents),
        }
    }
}

/// The interval of the mean over seeds of score(a) − score(b), where `a` and `b` are of the same seeds
/// in the same order; none without a seed, and of a score that texts do not have.
pub(super) fn paired_interval(
    score: ComparedScore,
    a: &[&Predicted],
    b: &[&Predicted],
) -> Option<[f64; 2]> {
    let bootstrap = Bootstrap::default();
    let choices = |of: &[&Predicted]| of.iter().all(|one| !one.is_of_texts());
    if choices(a) && choices(b) {
        let [a, b] = [a, b].map(|of| {
            of.iter()
                .filter_map(|one| one.choices())
                .collect::<Vec<_>>()
        });
        return paired_over_seeds(score, &a, &b, &bootstrap);
    }
    let [a, b] = [a, b].map(|of| of.iter().filter_map(|one| one.texts()).collect::<Vec<_>>());
    paired_texts_over_seeds(score, &a, &b, &bootstrap)
}

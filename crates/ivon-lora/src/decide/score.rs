//! A prediction → its answer, and how certain that is by each score that a threshold can be put on.

use serde::{Deserialize, Serialize};

use super::CostMatrix;
use crate::metrics::{entropy, first_largest};

/// What a threshold is put on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DecisionScore {
    /// The probability of the answer.
    Confidence,
    /// The entropy of the probabilities, nats.
    Entropy,
    /// The mutual information of answer and weights, nats; the same for all rows without draws.
    MutualInformation,
    /// The expected cost of the answer.
    ExpectedCost,
}

impl DecisionScore {
    /// All scores.
    pub const ALL: [Self; 4] = [
        Self::Confidence,
        Self::Entropy,
        Self::MutualInformation,
        Self::ExpectedCost,
    ];

    /// Its name, as in `--score`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Confidence => "confidence",
            Self::Entropy => "entropy",
            Self::MutualInformation => "mutual-information",
            Self::ExpectedCost => "expected-cost",
        }
    }

    /// Whether a larger value of the score means a more certain answer.
    pub fn rises_with_certainty(self) -> bool {
        self == Self::Confidence
    }

    /// The score whose certainty this is, and back: certainty is the score or its negative.
    pub fn signed(self, certainty: f64) -> f64 {
        match self.rises_with_certainty() {
            true => certainty,
            // Neither of both becomes −0.
            false => 0.0 - certainty,
        }
    }
}

/// A prediction as a rule sees it.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// Log-probabilities of the choices from the distribution that answers, nats.
    pub log_probabilities: &'a [f64],
    /// Mutual information of answer and weights, nats; 0 without draws.
    pub mutual_information: f64,
}

impl Evidence<'_> {
    /// Probabilities of the choices.
    pub fn probabilities(&self) -> Vec<f64> {
        self.log_probabilities.iter().map(|log| log.exp()).collect()
    }

    /// The answer: of least expected cost, or the most probable where there are no costs.
    pub fn answer(&self, costs: Option<&CostMatrix>) -> usize {
        match costs {
            Some(costs) => costs.best_answer(self.log_probabilities).0,
            None => first_largest(self.log_probabilities),
        }
    }

    /// The answer with its certainty by a score; larger is more certain.
    pub fn case(&self, score: DecisionScore, costs: Option<&CostMatrix>) -> Case {
        let answer = self.answer(costs);
        let confidence = || self.log_probabilities[answer].exp();
        let value = match (score, costs) {
            (DecisionScore::Confidence, _) => confidence(),
            (DecisionScore::Entropy, _) => entropy(self.log_probabilities),
            (DecisionScore::MutualInformation, _) => self.mutual_information,
            (DecisionScore::ExpectedCost, Some(costs)) => {
                costs.best_answer(self.log_probabilities).1
            }
            // Every wrong answer costs 1.
            (DecisionScore::ExpectedCost, None) => 1.0 - confidence(),
        };
        Case {
            answer,
            certainty: score.signed(value),
        }
    }
}

/// An answer with its certainty.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Case {
    /// The answered class, from 0.
    pub answer: usize,
    /// How certain it is; larger is more certain.
    pub certainty: f64,
}

/// A case whose right class is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LabelledCase {
    /// Answer and certainty.
    pub case: Case,
    /// The right class, from 0.
    pub label: usize,
}

impl LabelledCase {
    /// Whether the answer is wrong.
    pub fn is_wrong(&self) -> bool {
        self.case.answer != self.label
    }

    /// What the answer costs: 1 if it is wrong where there are no costs.
    pub fn cost(&self, costs: Option<&CostMatrix>) -> f64 {
        match costs {
            Some(costs) => costs.cost(self.label, self.case.answer),
            None => f64::from(u8::from(self.is_wrong())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_score_calls_the_surer_row_more_certain() {
        let rows = [[0.9f64, 0.1], [0.6, 0.4]].map(|row| row.map(f64::ln));
        let evidence = |row: usize| Evidence {
            log_probabilities: &rows[row],
            mutual_information: [0.01, 0.3][row],
        };
        let costs = CostMatrix::new(vec![vec![0.0, 1.0], vec![2.0, 0.0]]).unwrap();
        for score in DecisionScore::ALL {
            for costs in [None, Some(&costs)] {
                let [sure, unsure] = [0, 1].map(|row| evidence(row).case(score, costs));
                assert!(sure.certainty > unsure.certainty, "{score:?}");
            }
        }
        let case = evidence(1).case(DecisionScore::ExpectedCost, Some(&costs));
        // Answer 0 costs 0.4 · 2 = 0.8, answer 1 costs 0.6 · 1.
        assert!(case.answer == 1 && (case.certainty + 0.6).abs() < 1e-12);
        assert_eq!(evidence(1).answer(None), 0);
        let labelled = LabelledCase { case, label: 0 };
        assert_eq!(
            (labelled.cost(Some(&costs)), labelled.cost(None)),
            (1.0, 1.0)
        );
        assert!((DecisionScore::Entropy.signed(-0.2) - 0.2).abs() < 1e-15);
    }
}

//! What each wrong answer costs, and the answer of least expected cost.

use serde::{Deserialize, Serialize};

use super::DecideError;

/// The cost of each answer for each right class, `[label][answer]`, finite and at least 0, in any
/// unit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CostMatrix(Vec<Vec<f64>>);

impl CostMatrix {
    /// The matrix of these costs.
    ///
    /// # Errors
    /// If it is not square, or a cost is negative or not finite.
    pub fn new(costs: Vec<Vec<f64>>) -> Result<Self, DecideError> {
        let matrix = Self(costs);
        matrix.check(matrix.classes())?;
        Ok(matrix)
    }

    /// Checks that there is a cost for each pair of classes.
    ///
    /// # Errors
    /// As [`new`](Self::new), and if there are not `classes` classes.
    pub fn check(&self, classes: usize) -> Result<(), DecideError> {
        let widths = self.0.iter().map(Vec::len).chain([self.0.len()]);
        for found in widths {
            if found != classes {
                return Err(DecideError::Costs {
                    expected: classes,
                    found,
                });
            }
        }
        for (label, row) in self.0.iter().enumerate() {
            for (answer, &found) in row.iter().enumerate() {
                if !(found.is_finite() && found >= 0.0) {
                    return Err(DecideError::Cost {
                        label,
                        answer,
                        found,
                    });
                }
            }
        }
        Ok(())
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.0.len()
    }

    /// The cost of an answer where `label` is right.
    pub fn cost(&self, label: usize, answer: usize) -> f64 {
        self.0[label][answer]
    }

    /// The largest cost, to which all are bounded.
    pub fn largest(&self) -> f64 {
        self.0.iter().flatten().copied().fold(0.0, f64::max)
    }

    /// The answer of least expected cost, the first of those that tie, and that cost:
    /// min over a of Σ over y of p(y) cost(y, a).
    pub fn best_answer(&self, log_probabilities: &[f64]) -> (usize, f64) {
        let expected = |answer: usize| {
            let terms = log_probabilities.iter().enumerate();
            terms
                .map(|(label, log)| log.exp() * self.cost(label, answer))
                .sum::<f64>()
        };
        let costs = (0..self.classes()).map(|answer| (answer, expected(answer)));
        let cheaper = |best: (usize, f64), next: (usize, f64)| match next.1 < best.1 {
            true => next,
            false => best,
        };
        costs.reduce(cheaper).unwrap_or((0, 0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dear_miss_moves_the_answer_below_one_half() {
        // Missing class 1 costs 10, a false alarm 1: class 1 is answered from p = 1/11 on.
        let costs = CostMatrix::new(vec![vec![0.0, 1.0], vec![10.0, 0.0]]).unwrap();
        let best = |p: f64| costs.best_answer(&[(1.0 - p).ln(), p.ln()]);
        assert_eq!((best(0.09).0, best(0.092).0), (0, 1));
        assert!((best(0.05).1 - 0.5).abs() < 1e-12 && (best(0.9).1 - 0.1).abs() < 1e-12);
        assert_eq!((costs.largest(), costs.cost(1, 0)), (10.0, 10.0));
    }

    #[test]
    fn costs_that_are_none_are_named() {
        let error = |costs: &[&[f64]]| {
            let costs = costs.iter().map(|row| row.to_vec()).collect();
            CostMatrix::new(costs).unwrap_err().to_string()
        };
        assert_eq!(
            error(&[&[0.0, -1.0], &[1.0, 0.0]]),
            "the cost of answering class 1 when class 0 is right is -1, expected a finite number, at least 0"
        );
        assert_eq!(
            error(&[&[0.0], &[1.0, 0.0]]),
            "the costs are of 1 classes, expected 2"
        );
    }
}

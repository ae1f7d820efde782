//! Labelled cases → a threshold below which cases are deferred, such that the mean cost of a case
//! stays within a limit *in expectation* (conformal risk control, Angelopoulos et al. 2022, arXiv
//! 2208.02814).
//!
//! A deferred case costs nothing, so the cost of case i, Lᵢ(λ) = cost · 1[certainty > λ], falls in λ
//! and is continuous from the right, as the theorem asks. With costs of at most B,
//!
//! λ̂ = inf { λ : (n R̂ₙ(λ) + B) / (n + 1) ≤ α }
//!
//! gives E[L(λ̂)] ≤ α over calibration sets and the next case (theorem 1). The cost is per case, not
//! per answered case, whose mean would not fall in λ.

use super::{
    CostMatrix, Cutoff, DecideError, DecisionScore, LabelledCase, Limit, Outcome, Promise,
    Shortfall, ThresholdRule,
};

/// The rule with the lowest threshold on a score whose mean cost per case is at most `at_most` in
/// expectation. Only one score: to choose among several by the same cases would break the promise.
///
/// # Errors
/// As [`expected_cost_cutoff`].
pub fn expected_cost_rule(
    score: DecisionScore,
    cases: &[LabelledCase],
    costs: Option<&CostMatrix>,
    at_most: f64,
) -> Result<Outcome<ThresholdRule>, DecideError> {
    let cutoff = match expected_cost_cutoff(cases, costs, at_most)? {
        Outcome::Rule(cutoff) => cutoff,
        Outcome::Impossible(shortfall) => return Ok(Outcome::Impossible(shortfall)),
    };
    let is_answered = |row: &&LabelledCase| cutoff.answers(row.case.certainty);
    Ok(Outcome::Rule(ThresholdRule {
        score,
        cutoffs: vec![cutoff],
        limits: vec![Limit::CostPerCase(at_most)],
        promise: Promise::InExpectation,
        rows: cases.len(),
        answered: cases.iter().filter(is_answered).count(),
    }))
}

/// The lowest threshold whose mean cost per case is at most `at_most` in expectation; `costs` are 1
/// for each wrong answer if absent.
///
/// # Errors
/// If the limit is not above 0 and below the largest cost.
pub fn expected_cost_cutoff(
    cases: &[LabelledCase],
    costs: Option<&CostMatrix>,
    at_most: f64,
) -> Result<Outcome<Cutoff>, DecideError> {
    let bound = costs.map_or(1.0, CostMatrix::largest);
    if !(at_most > 0.0 && at_most < bound) {
        return Err(DecideError::OutOfRange {
            what: "the largest mean cost",
            found: at_most,
            expected: "a number above 0 and below the largest cost",
        });
    }
    let mut rows: Vec<(f64, f64)> = cases
        .iter()
        .map(|row| (row.case.certainty, row.cost(costs)))
        .collect();
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));
    let count = rows.len() as f64;
    let keeps = |total: f64| (total + bound) / (count + 1.0) <= at_most;
    let (mut total, mut answered) = (0.0, 0);
    for ties in rows.chunk_by(|a, b| a.0 == b.0) {
        let next = total + ties.iter().map(|row| row.1).sum::<f64>();
        if !keeps(next) {
            // Answering above the most certain value answers nothing that was seen.
            return Ok(match answered {
                0 => Outcome::Impossible(Shortfall {
                    rows: rows.len(),
                    needed: needed(bound, at_most, next / count),
                }),
                _ => Outcome::Rule(Cutoff::Above(ties[0].0)),
            });
        }
        (total, answered) = (next, answered + ties.len());
    }
    Ok(match answered {
        0 => Outcome::Impossible(Shortfall {
            rows: 0,
            needed: needed(bound, at_most, 0.0),
        }),
        _ => Outcome::Rule(Cutoff::Everything),
    })
}

/// The fewest rows with (n r + B) / (n + 1) ≤ α, if r < α.
fn needed(bound: f64, limit: f64, mean: f64) -> Option<usize> {
    let rows = (bound - limit) / (limit - mean);
    (limit > mean).then_some((rows - 1e-9).ceil() as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::Case;
    use crate::random::{Purpose, stream, uniform};

    fn row(certainty: f64, is_wrong: bool) -> LabelledCase {
        LabelledCase {
            case: Case {
                answer: 0,
                certainty,
            },
            label: usize::from(is_wrong),
        }
    }

    #[test]
    fn the_threshold_of_ten_cases_can_be_found_by_hand() {
        // (errors + 1) / 11 ≤ 0.2: one error may be among the answered, the second one not.
        let wrong = [
            false, false, true, false, true, false, false, false, true, true,
        ];
        let cases: Vec<LabelledCase> = wrong
            .iter()
            .enumerate()
            .map(|(place, &wrong)| row(1.0 - place as f64 / 10.0, wrong))
            .collect();
        let found = |limit: f64| expected_cost_cutoff(&cases, None, limit).unwrap();
        assert_eq!(found(0.2), Outcome::Rule(Cutoff::Above(0.6)));
        assert_eq!(found(0.5), Outcome::Rule(Cutoff::Everything));
        let shortfall = Shortfall {
            rows: 10,
            needed: Some(19),
        };
        assert_eq!(found(0.05), Outcome::Impossible(shortfall));
        assert!(expected_cost_cutoff(&cases, None, 1.0).is_err());
    }

    #[test]
    fn cases_of_one_certainty_stay_together() {
        let cases: Vec<LabelledCase> = (0..40).map(|i| row(0.5, i % 4 == 0)).collect();
        let found = expected_cost_cutoff(&cases, None, 0.1).unwrap();
        assert!(found.rule().is_none());
    }

    #[test]
    fn the_mean_cost_is_within_its_limit_on_average_over_calibration_sets() {
        // An answer of certainty s is wrong with probability (1 − s) / 2, and costs 2: the mean cost
        // of a case at λ is (1 − λ)² / 2.
        let costs = CostMatrix::new(vec![vec![0.0, 2.0], vec![2.0, 0.0]]).unwrap();
        for limit in [0.05, 0.2] {
            let (mut total, mut square, sets) = (0.0, 0.0, 5000);
            for set in 0..sets {
                let mut numbers = stream(4, Purpose::Bootstrap, set, 0, "risk_control");
                let mut draw = |_| {
                    let s = uniform(&mut numbers);
                    row(s, uniform(&mut numbers) < (1.0 - s) / 2.0)
                };
                let cases: Vec<LabelledCase> = (0..200).map(&mut draw).collect();
                let risk = match expected_cost_cutoff(&cases, Some(&costs), limit).unwrap() {
                    Outcome::Rule(Cutoff::Above(value)) => (1.0 - value).powi(2) / 2.0,
                    Outcome::Rule(_) => 0.5,
                    Outcome::Impossible(_) => 0.0,
                };
                total += risk;
                square += risk * risk;
            }
            let mean = total / sets as f64;
            let error = ((square / sets as f64 - mean * mean) / sets as f64).sqrt();
            assert!(mean <= limit + 3.0 * error, "{mean} at {limit}");
            assert!(mean > 0.7 * limit, "{mean} at {limit}");
        }
    }
}

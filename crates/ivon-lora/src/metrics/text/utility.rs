//! Minimum Bayes risk decoding: the answer that is on average the most similar to what the model might
//! have written (Eikema and Aziz, arXiv 2108.04718; under a posterior over the weights, Daheim et al.,
//! arXiv 2503.05318, where the average also goes over draws).

/// The answer with the largest expected utility.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BestAnswer {
    /// Its place among the candidates, from 0.
    pub place: usize,
    /// Its expected utility.
    pub expected_utility: f64,
}

/// The mean over `samples` of the utility of each candidate, `[candidates]`. The samples are answers
/// drawn under all draws of the weights together, equally many under each.
pub fn expected_utilities<A>(
    candidates: &[A],
    samples: &[A],
    utility: impl Fn(&A, &A) -> f64,
) -> Vec<f64> {
    let mean = |candidate: &A| {
        let utilities = samples.iter().map(|sample| utility(candidate, sample));
        utilities.sum::<f64>() / samples.len() as f64
    };
    candidates.iter().map(mean).collect()
}

/// The candidate with the largest of these expected utilities, the first of several; none if there is
/// no candidate, or no sample.
pub fn best_answer(expected_utilities: &[f64]) -> Option<BestAnswer> {
    let mut best: Option<BestAnswer> = None;
    for (place, &expected_utility) in expected_utilities.iter().enumerate() {
        let is_better = best.is_none_or(|best| expected_utility > best.expected_utility);
        if is_better && !expected_utility.is_nan() {
            best = Some(BestAnswer {
                place,
                expected_utility,
            });
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::super::{exact_match, token_f1};
    use super::*;

    #[test]
    fn with_exact_match_the_best_answer_is_the_most_frequent_and_its_utility_its_share() {
        let answers = ["x", "y", "y", "z", "y"];
        let utilities = expected_utilities(&answers, &answers, |a, b| exact_match(a, b));
        assert_eq!(utilities, [0.2, 0.6, 0.6, 0.2, 0.6]);
        let best = best_answer(&utilities).unwrap();
        assert_eq!((best.place, best.expected_utility), (1, 0.6));
    }

    #[test]
    fn a_compromise_can_be_better_than_every_mode() {
        let samples = ["red car", "red car", "blue bus", "blue bus"];
        let candidates = ["red car", "blue bus", "red bus"];
        let utilities = expected_utilities(&candidates, &samples, |a, b| token_f1(a, b));
        assert_eq!(utilities, [0.5, 0.5, 0.5]);
        let other = ["red car", "blue bus", "red bus", "red bus sign"];
        let utilities = expected_utilities(&other, &other, |a, b| token_f1(a, b));
        assert_eq!(best_answer(&utilities).unwrap().place, 2);
    }

    #[test]
    fn without_samples_or_candidates_there_is_no_best_answer() {
        let utility = |_: &u32, _: &u32| 1.0;
        assert_eq!(best_answer(&expected_utilities(&[1], &[], utility)), None);
        assert_eq!(best_answer(&[]), None);
    }
}

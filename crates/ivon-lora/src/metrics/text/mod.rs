//! Written answers → how near they are to references, and what many answers to one question say about
//! it.

mod words;
mod rouge;
mod chrf;
mod meaning;
mod utility;
mod divergence;
mod rejection;
mod similarity;
mod consensus;
mod answer_scores;
mod wrong_answers;

pub use answer_scores::{AnswerScores, ReferredAnswers};
pub use chrf::{ChrfCounts, chrf};
pub use consensus::{Agreement, Consensus};
pub use divergence::pairwise_divergence;
pub use meaning::{Meanings, by_meaning};
pub use rejection::prediction_rejection_ratio;
pub use rouge::rouge_l;
pub use similarity::Similarity;
pub use utility::{BestAnswer, best_answer, expected_utilities};
pub use words::{exact_match, normalised, token_f1};
pub use wrong_answers::{JudgedAnswers, UncertaintyScores};

/// The largest score of an answer against any of several references; 0 if there are none.
pub fn best_of_references<R: AsRef<str>>(
    answer: &str,
    references: &[R],
    score: impl Fn(&str, &str) -> f64,
) -> f64 {
    let scores = references
        .iter()
        .map(|reference| score(answer, reference.as_ref()));
    scores.fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::testing::golden_json;

    #[test]
    fn chrf_and_rouge_l_are_those_of_the_public_packages() {
        let golden = golden_json("text_metrics.json");
        let mut all = ChrfCounts::default();
        for case in golden["cases"].as_array().unwrap() {
            let answer = case["answer"].as_str().unwrap();
            let references: Vec<String> =
                serde_json::from_value(case["references"].clone()).unwrap();
            let counts = ChrfCounts::new(answer, &references);
            all = all.and(&counts);
            let agree = |found: f64, stated: &Value| {
                let stated = stated.as_f64().unwrap();
                assert!(
                    (found - stated).abs() < 1e-12,
                    "{answer}: {found} for {stated}"
                );
            };
            agree(counts.score(), &case["chrf"]);
            agree(
                best_of_references(answer, &references, rouge_l),
                &case["rouge_l"],
            );
        }
        let stated = golden["corpus_chrf"].as_f64().unwrap();
        assert!(
            (all.score() - stated).abs() < 1e-12,
            "{} for {stated}",
            all.score()
        );
    }

    #[test]
    fn the_nearest_reference_counts() {
        let near =
            |answer: &str, references: &[&str]| best_of_references(answer, references, token_f1);
        assert_eq!(near("a cat", &["a dog", "the cat"]), 1.0);
        assert_eq!(near("a cat", &[]), 0.0);
    }
}

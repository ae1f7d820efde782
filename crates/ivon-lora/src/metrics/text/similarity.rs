//! How alike two texts are, by the name of the score: answers are judged by it, and it is the utility
//! of minimum Bayes risk decoding.

use serde::{Deserialize, Serialize};

use super::{best_of_references, chrf, exact_match, rouge_l, token_f1};

/// A score of how alike two texts are, from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Similarity {
    /// [`exact_match`].
    #[default]
    Exact,
    /// [`token_f1`].
    F1,
    /// [`rouge_l`].
    RougeL,
    /// [`chrf`].
    Chrf,
}

impl Similarity {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Exact, Self::F1, Self::RougeL, Self::Chrf];

    /// Its name in flags and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::F1 => "f1",
            Self::RougeL => "rouge-l",
            Self::Chrf => "chrf",
        }
    }

    /// That of an answer and a reference.
    pub fn of(self, answer: &str, reference: &str) -> f64 {
        match self {
            Self::Exact => exact_match(answer, reference),
            Self::F1 => token_f1(answer, reference),
            Self::RougeL => rouge_l(answer, reference),
            Self::Chrf => chrf(answer, reference),
        }
    }

    /// That of an answer and the nearest of its references.
    pub fn of_nearest<R: AsRef<str>>(self, answer: &str, references: &[R]) -> f64 {
        best_of_references(answer, references, |answer, reference| {
            self.of(answer, reference)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_a_file_is_that_of_the_flag() {
        for similarity in Similarity::ALL {
            let named = serde_json::to_value(similarity).unwrap();
            assert_eq!(named, similarity.name());
            assert_eq!(similarity.of("the red car", "the red car"), 1.0);
        }
        let near = Similarity::F1.of_nearest("red car", &["blue car", "red bus stop"]);
        assert_eq!(near, 0.5);
    }
}

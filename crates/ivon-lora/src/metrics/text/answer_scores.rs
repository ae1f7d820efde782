//! Answers and their references → exact match, token F1, ROUGE-L and chrF2 of a set, with intervals
//! over questions.

use serde::{Deserialize, Serialize};

use super::super::{Bootstrap, ScoreWithInterval};
use super::{ChrfCounts, Similarity};

/// How near the answers to some questions are to their references; each from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AnswerScores {
    /// Share of answers that are a reference when normalised.
    pub exact_match: ScoreWithInterval,
    /// Mean F1 of words.
    pub token_f1: ScoreWithInterval,
    /// Mean ROUGE-L.
    pub rouge_l: ScoreWithInterval,
    /// chrF2 of the whole set: n-grams are counted over all answers.
    pub chrf: ScoreWithInterval,
}

/// The answers to one question, several if each is to count equally, and its references.
#[derive(Clone, Debug, PartialEq)]
pub struct ReferredAnswers<'a> {
    /// The answers, at least one.
    pub answers: Vec<&'a str>,
    /// The references.
    pub references: &'a [String],
}

/// The scores of one question.
struct Question {
    means: [f64; 3],
    chrf: ChrfCounts,
}

impl Question {
    fn of(question: &ReferredAnswers<'_>) -> Self {
        let ReferredAnswers {
            answers,
            references,
        } = question;
        let mean = |similarity: Similarity| {
            let scores = answers.iter().map(|a| similarity.of_nearest(a, references));
            scores.sum::<f64>() / answers.len() as f64
        };
        let counts = answers.iter().map(|a| ChrfCounts::new(a, references));
        Self {
            means: [Similarity::Exact, Similarity::F1, Similarity::RougeL].map(mean),
            chrf: counts.fold(ChrfCounts::default(), |sum, counts| sum.and(&counts)),
        }
    }
}

impl AnswerScores {
    /// The scores of these questions; NaN if there are none.
    pub fn of(questions: &[ReferredAnswers<'_>], bootstrap: &Bootstrap) -> Self {
        let questions: Vec<Question> = questions.iter().map(Question::of).collect();
        let scores = |rows: &[usize]| set_scores(&questions, rows);
        let [exact_match, token_f1, rouge_l, chrf] =
            ScoreWithInterval::of_rows(questions.len(), bootstrap, scores);
        Self {
            exact_match,
            token_f1,
            rouge_l,
            chrf,
        }
    }
}

/// Exact match, F1, ROUGE-L and chrF2 of the questions at these places.
fn set_scores(questions: &[Question], rows: &[usize]) -> [f64; 4] {
    let mean = |score: usize| {
        let values = rows.iter().map(|&row| questions[row].means[score]);
        values.sum::<f64>() / rows.len() as f64
    };
    let counts = rows.iter().map(|&row| &questions[row].chrf);
    let chrf = counts.fold(ChrfCounts::default(), |sum, counts| sum.and(counts));
    [mean(0), mean(1), mean(2), chrf.score()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_means_over_questions_and_chrf_is_that_of_the_set() {
        let references = [vec!["red car".to_string()], vec!["blue bus".to_string()]];
        let questions = [
            ReferredAnswers {
                answers: vec!["the red car", "red bus"],
                references: &references[0],
            },
            ReferredAnswers {
                answers: vec!["green tree"],
                references: &references[1],
            },
        ];
        let found = AnswerScores::of(&questions, &Bootstrap::default());
        assert_eq!(found.exact_match.value, 0.25);
        assert_eq!(found.exact_match.interval, [0.0, 0.5]);
        assert_eq!(found.token_f1.value, 0.375);
        let counts = ChrfCounts::new("the red car", &references[0])
            .and(&ChrfCounts::new("red bus", &references[0]))
            .and(&ChrfCounts::new("green tree", &references[1]));
        assert_eq!(found.chrf.value, counts.score());
    }
}

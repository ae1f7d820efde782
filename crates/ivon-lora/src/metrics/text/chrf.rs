//! chrF2 (Popović, 2015): n-grams of letters, n from 1 to 6, recall counted twice, as sacrebleu's
//! `CHRF()` computes it (no words, white space left out, the orders that both texts have).

use std::collections::HashMap;

/// The largest n.
const ORDER: usize = 6;
/// β²: recall counts β = 2 times as much as precision.
const BETA_SQUARED: f64 = 4.0;

/// The n-grams of an answer, of its reference, and of both, by n; they add up over a set of answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChrfCounts([Counts; ORDER]);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    answer: usize,
    reference: usize,
    common: usize,
}

impl ChrfCounts {
    /// Those of an answer and the nearest of its references; nothing if there are none.
    pub fn new<R: AsRef<str>>(answer: &str, references: &[R]) -> Self {
        let answer = Grams::new(answer);
        let mut best: Option<Self> = None;
        for reference in references {
            let found = answer.against(&Grams::new(reference.as_ref()));
            if best.is_none_or(|best| found.score() > best.score()) {
                best = Some(found);
            }
        }
        best.unwrap_or_default()
    }

    /// Those of two sets of answers together.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        for (one, other) in self.0.iter_mut().zip(&other.0) {
            one.answer += other.answer;
            one.reference += other.reference;
            one.common += other.common;
        }
        self
    }

    /// chrF2, from 0 to 1 (sacrebleu writes it times 100).
    pub fn score(&self) -> f64 {
        let there = |counts: &&Counts| counts.answer > 0 && counts.reference > 0;
        let there: Vec<&Counts> = self.0.iter().filter(there).collect();
        let mean = |of: fn(&Counts) -> usize| {
            let shares = there
                .iter()
                .map(|counts| counts.common as f64 / of(counts) as f64);
            shares.sum::<f64>() / there.len() as f64
        };
        let (precision, recall) = (
            mean(|counts| counts.answer),
            mean(|counts| counts.reference),
        );
        match precision + recall > 0.0 {
            true => (1.0 + BETA_SQUARED) * precision * recall / (BETA_SQUARED * precision + recall),
            false => 0.0,
        }
    }
}

/// chrF2 of an answer and a reference, from 0 to 1.
pub fn chrf(answer: &str, reference: &str) -> f64 {
    ChrfCounts::new(answer, &[reference]).score()
}

/// The n-grams of a text, each with how often it occurs, by n.
struct Grams([HashMap<Vec<char>, usize>; ORDER]);

impl Grams {
    fn new(text: &str) -> Self {
        let letters: Vec<char> = text.chars().filter(|letter| !is_space(*letter)).collect();
        let mut grams = Self(Default::default());
        for (n, counts) in (1..).zip(&mut grams.0) {
            for gram in letters.windows(n) {
                *counts.entry(gram.to_vec()).or_insert(0) += 1;
            }
        }
        grams
    }

    fn against(&self, reference: &Self) -> ChrfCounts {
        let mut all = ChrfCounts::default();
        for ((counts, answer), reference) in all.0.iter_mut().zip(&self.0).zip(&reference.0) {
            let common =
                |(gram, count): (&Vec<char>, &usize)| *count.min(reference.get(gram).unwrap_or(&0));
            *counts = Counts {
                // Nothing is missed where the reference is too short.
                answer: match reference.is_empty() {
                    true => 0,
                    false => answer.values().sum(),
                },
                reference: reference.values().sum(),
                common: answer.iter().map(common).sum(),
            };
        }
        all
    }
}

/// White space of Python's `str.split`.
fn is_space(letter: char) -> bool {
    letter.is_whitespace() || ('\x1c'..='\x1f').contains(&letter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_have_1_whatever_their_spaces_and_strange_ones_0() {
        assert_eq!(chrf("a b c", "abc"), 1.0);
        assert_eq!(chrf("abc", "xyz"), 0.0);
        assert_eq!(
            (chrf("", ""), chrf("a", ""), chrf("", "a")),
            (0.0, 0.0, 0.0)
        );
    }

    #[test]
    fn two_letters_by_hand() {
        // Unigrams: 1 of 2 and 1 of 1; only these does the reference have: P = ½, R = 1, so
        // 5 · ½ / (4 · ½ + 1) = 5/6.
        assert!((chrf("ab", "a") - 5.0 / 6.0).abs() < 1e-15);
    }

    #[test]
    fn the_nearest_reference_is_chosen_by_its_score() {
        let counts = ChrfCounts::new("abc", &["xyz", "abd", "abc"]);
        assert_eq!(counts.score(), 1.0);
        let none: &[&str] = &[];
        assert_eq!(ChrfCounts::new("abc", none).score(), 0.0);
    }
}

//! Answers to one question grouped by what they mean, and discrete semantic entropy (Kuhn et al.,
//! arXiv 2302.09664; the discrete form: Farquhar et al., Nature 630, 2024).

use super::super::entropy;

/// Answers grouped by what they mean.
#[derive(Clone, Debug, PartialEq)]
pub struct Meanings {
    /// The group of each answer; groups are numbered in the order of their first answers.
    pub groups: Vec<usize>,
    /// The number of answers of each group.
    pub counts: Vec<usize>,
}

/// Groups answers: each joins the first group whose first answer `means_the_same`, which is asked with
/// both orders of the two, or begins one.
pub fn by_meaning<A>(answers: &[A], means_the_same: impl Fn(&A, &A) -> bool) -> Meanings {
    let mut firsts: Vec<&A> = Vec::new();
    let mut meanings = Meanings {
        groups: Vec::with_capacity(answers.len()),
        counts: Vec::new(),
    };
    for answer in answers {
        let both = |first: &&A| means_the_same(first, answer) && means_the_same(answer, first);
        let group = firsts.iter().position(both).unwrap_or(firsts.len());
        if group == firsts.len() {
            firsts.push(answer);
            meanings.counts.push(0);
        }
        meanings.counts[group] += 1;
        meanings.groups.push(group);
    }
    meanings
}

impl Meanings {
    /// The largest group, the first of several, and its share of the answers; none without answers.
    pub fn vote(&self) -> Option<(usize, f64)> {
        let largest = *self.counts.iter().max()?;
        let group = self.counts.iter().position(|count| *count == largest)?;
        Some((group, largest as f64 / self.groups.len() as f64))
    }

    /// The entropy of the groups' shares of the answers, nats: 0 if all answers mean the same.
    pub fn entropy(&self) -> f64 {
        let all = self.groups.len() as f64;
        let shares = self.counts.iter().map(|count| (*count as f64 / all).ln());
        entropy(&shares.collect::<Vec<f64>>())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{exact_match, rouge_l};
    use super::*;

    #[test]
    fn answers_that_are_equal_when_normalised_are_one_meaning() {
        let answers = ["Paris", "the paris.", "Rome", "paris", "Rome!"];
        let found = by_meaning(&answers, |one, other| exact_match(one, other) == 1.0);
        assert_eq!(found.groups, [0, 0, 1, 0, 1]);
        assert_eq!(found.vote(), Some((0, 0.6)));
        let expected = -(0.6 * 0.6f64.ln() + 0.4 * 0.4f64.ln());
        assert!((found.entropy() - expected).abs() < 1e-15);
    }

    #[test]
    fn all_alike_have_no_entropy_and_all_different_the_most() {
        let of = |answers: &[u32]| by_meaning(answers, |one, other| one == other);
        assert_eq!(of(&[4, 4, 4]).entropy(), 0.0);
        assert!((of(&[1, 2, 3, 4]).entropy() - 4f64.ln()).abs() < 1e-15);
        assert_eq!((of(&[]).entropy(), of(&[]).vote()), (0.0, None));
    }

    #[test]
    fn both_must_mean_the_other() {
        // The first is in the second, but not the other way round.
        let found = by_meaning(&["red", "red car"], |one, other| other.contains(one));
        assert_eq!(found.counts, [1, 1]);
        let near = by_meaning(&["a red car", "the red car", "a bus"], |one, other| {
            rouge_l(one, other) > 0.5
        });
        assert_eq!(near.groups, [0, 0, 1]);
    }
}

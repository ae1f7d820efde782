//! ROUGE-L (Lin, 2004): the longest common subsequence of words, as the package `rouge-score` computes
//! it without stemming.

/// The harmonic mean of LCS / words of the answer and LCS / words of the reference. Words are runs of
/// the letters a to z and digits, in lower case: other scripts have none.
pub fn rouge_l(answer: &str, reference: &str) -> f64 {
    let (answer, reference) = (answer.to_lowercase(), reference.to_lowercase());
    let (answer, reference) = (words(&answer), words(&reference));
    let common = longest_common_subsequence(&answer, &reference) as f64;
    if common == 0.0 {
        return 0.0;
    }
    2.0 * common / (answer.len() + reference.len()) as f64
}

fn words(text: &str) -> Vec<&str> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric());
    words.filter(|word| !word.is_empty()).collect()
}

/// The length of the longest list of words that both have in this order, with others between.
fn longest_common_subsequence(one: &[&str], other: &[&str]) -> usize {
    // lengths[j]: that of what of `one` has been seen, and the first j words of the other.
    let mut lengths = vec![0; other.len() + 1];
    for word in one {
        let mut before = 0;
        for (place, other) in other.iter().enumerate() {
            let above = lengths[place + 1];
            lengths[place + 1] = match word == other {
                true => before + 1,
                false => above.max(lengths[place]),
            };
            before = above;
        }
    }
    lengths[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By all subsequences of `one`.
    fn by_brute_force(one: &[&str], other: &[&str]) -> usize {
        let is_in = |part: &[&str]| {
            let mut rest = other.iter();
            part.iter().all(|word| rest.any(|other| other == word))
        };
        let parts = (0..1usize << one.len()).map(|choice| {
            let chosen = one.iter().enumerate();
            let chosen = chosen.filter(|(place, _)| choice >> place & 1 == 1);
            chosen.map(|(_, word)| *word).collect::<Vec<_>>()
        });
        let common = parts.filter(|part| is_in(part));
        common.map(|part| part.len()).max().unwrap_or(0)
    }

    #[test]
    fn the_longest_common_subsequence_is_that_of_all_subsequences() {
        let letters = ["x", "y", "z"];
        for seed in 0..200usize {
            let word =
                |place: usize| letters[(seed * 7 + place * place * 5 + seed / (place + 1)) % 3];
            let (one, other): (Vec<_>, Vec<_>) = (
                (0..seed % 8).map(word).collect(),
                (3..3 + seed % 6).map(word).collect(),
            );
            assert_eq!(
                longest_common_subsequence(&one, &other),
                by_brute_force(&one, &other),
                "{one:?} {other:?}"
            );
        }
    }

    #[test]
    fn words_are_those_of_ascii_letters_and_digits() {
        assert_eq!(rouge_l("Café No. 7", "caf no 7!"), 1.0);
        assert_eq!(rouge_l("猫", "猫"), 0.0);
    }
}

//! Answers as words: exact match and F1 of SQuAD (Rajpurkar et al., arXiv 1606.05250; the second
//! version's script, in which two empty answers agree).

use std::collections::HashMap;

/// An answer in lower case without ASCII punctuation, English articles and surplus white space.
pub fn normalised(answer: &str) -> String {
    let lower = answer.to_lowercase();
    let letters: String = lower
        .chars()
        .filter(|letter| !letter.is_ascii_punctuation())
        .collect();
    let words = letters.split_whitespace();
    let words = words.filter(|word| !["a", "an", "the"].contains(word));
    words.collect::<Vec<_>>().join(" ")
}

/// 1 if both are equal when [`normalised`], else 0.
pub fn exact_match(answer: &str, reference: &str) -> f64 {
    f64::from(u8::from(normalised(answer) == normalised(reference)))
}

/// The harmonic mean of the share of the answer's words that the reference has and the share of the
/// reference's that the answer has, both [`normalised`]; a word counts as often as it occurs in both.
pub fn token_f1(answer: &str, reference: &str) -> f64 {
    let (answer, reference) = (normalised(answer), normalised(reference));
    let (found, wanted) = (counts(&answer), counts(&reference));
    let [found_count, wanted_count] = [&found, &wanted].map(|words| words.values().sum::<usize>());
    if found_count == 0 || wanted_count == 0 {
        return f64::from(u8::from(found_count == wanted_count));
    }
    let common = |(word, count): (&&str, &usize)| *count.min(wanted.get(word).unwrap_or(&0));
    let common: usize = found.iter().map(common).sum();
    // With P = c / f and R = c / w, 2 P R / (P + R) = 2 c / (f + w).
    2.0 * common as f64 / (found_count + wanted_count) as f64
}

fn counts(text: &str) -> HashMap<&str, usize> {
    let mut counts = HashMap::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        *counts.entry(word).or_insert(0) += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_articles_punctuation_and_spaces_do_not_count() {
        assert_eq!(normalised("  The U.S.A.,\n an ÄRA "), "usa ära");
        assert_eq!(exact_match("The Beatles!", "beatles"), 1.0);
        assert_eq!(exact_match("Theatre", "atre"), 0.0);
    }

    #[test]
    fn f1_counts_repeated_words_as_often_as_both_have_them() {
        // Two of three words, two of four: 2 · (2/3) (1/2) / (2/3 + 1/2) = 4/7.
        let found = token_f1("red red blue", "red green red yellow");
        assert!((found - 4.0 / 7.0).abs() < 1e-15, "{found}");
        assert_eq!(token_f1("red", "blue"), 0.0);
        assert_eq!((token_f1("", "the"), token_f1("", "red")), (1.0, 0.0));
    }
}

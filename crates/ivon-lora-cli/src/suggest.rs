//! The known name that a mistyped one is nearest to.

/// The candidate that is spelt most like `name`, if it differs in about a third of its letters or
/// less.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |text: &str| {
        text.to_lowercase()
            .replace('-', "_")
            .chars()
            .take(64)
            .collect::<Vec<char>>()
    };
    let name = plain(name);
    candidates
        .into_iter()
        .map(|candidate| (edits(&name, &plain(candidate)), candidate))
        .min_by_key(|(edits, _)| *edits)
        .filter(|(edits, _)| *edits <= (name.len().max(3) + 1) / 3)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance.
fn edits(first: &[char], second: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=second.len()).collect();
    for (above, letter) in first.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], above + 1);
        for (column, other) in second.iter().enumerate() {
            let substituted = diagonal + usize::from(letter != other);
            diagonal = row[column + 1];
            row[column + 1] = substituted.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[second.len()]
}

/// `did you mean …?`, if anything is near.
pub fn did_you_mean<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    nearest(name, candidates).map(|nearest| format!("did you mean `{nearest}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_word_and_a_stranger_finds_none() {
        assert_eq!(
            nearest("batchsize", ["steps", "batch_size"]),
            Some("batch_size")
        );
        assert_eq!(
            nearest("learning-rate", ["learning_rate", "rank"]),
            Some("learning_rate")
        );
        assert_eq!(nearest("cude", ["cpu", "cuda", "metal"]), Some("cuda"));
        assert_eq!(nearest("trian", ["train", "data"]), Some("train"));
        assert_eq!(nearest("tpu", ["cuda", "metal"]), None);
        assert_eq!(nearest("", ["cuda"]), None);
    }

    #[test]
    fn distances_are_levenshteins() {
        let of = |first: &str, second: &str| {
            edits(
                &first.chars().collect::<Vec<_>>(),
                &second.chars().collect::<Vec<_>>(),
            )
        };
        assert_eq!(
            (of("kitten", "sitting"), of("", "abc"), of("abc", "abc")),
            (3, 3, 0)
        );
    }
}

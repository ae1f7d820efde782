//! Words in sentences: the known name closest to a mistyped one, and lists in prose.

/// The number of letters of a name that are compared.
const LONGEST: usize = 64;

/// The candidate closest to `name`, if at most about a third of the letters differ; `-` and `_`
/// count as equal.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = letters(name);
    candidates
        .into_iter()
        .map(|candidate| (edits(&name, &letters(candidate)), candidate))
        .min_by_key(|(edits, _)| *edits)
        .filter(|(edits, _)| *edits <= (name.len().max(3) + 1) / 3)
        .map(|(_, candidate)| candidate)
}

/// The letters of a name, normalised for comparison.
fn letters(name: &str) -> Vec<char> {
    let name = name.to_lowercase().replace('-', "_");
    name.chars().take(LONGEST).collect()
}

/// Levenshtein distance.
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

/// `a`, `b`, `c` in backticks; a long list is truncated.
pub fn listed(names: &[impl AsRef<str>]) -> String {
    const MOST: usize = 12;
    if names.is_empty() {
        return "nothing".into();
    }
    let mut list = names
        .iter()
        .take(MOST)
        .map(|name| format!("`{}`", name.as_ref()))
        .collect::<Vec<_>>()
        .join(", ");
    if names.len() > MOST {
        list += &format!(" and {} more", names.len() - MOST);
    }
    list
}

/// `a`, `a and b`, `a, b and c`, with `joint` in place of "and".
pub fn joined(words: &[impl AsRef<str>], joint: &str) -> String {
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    match &words[..] {
        [] => String::new(),
        [one] => (*one).into(),
        [first @ .., last] => format!("{} {joint} {last}", first.join(", ")),
    }
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
        let names = ["arc_easy", "arc_challenge", "boolq"];
        assert_eq!(nearest("arc_eassy", names), Some("arc_easy"));
        assert_eq!(nearest("BoolQ", names), Some("boolq"));
        assert_eq!(nearest("banking", names), None);
    }

    #[test]
    fn distances_are_levenshteins() {
        let of = |first: &str, second: &str| edits(&letters(first), &letters(second));
        assert_eq!(
            (of("kitten", "sitting"), of("", "abc"), of("abc", "abc")),
            (3, 3, 0)
        );
    }

    #[test]
    fn a_list_is_cut_where_it_would_be_too_long_to_read() {
        assert_eq!(listed(&[] as &[&str]), "nothing");
        assert_eq!(listed(&["a", "b"]), "`a`, `b`");
        assert!(listed(&["x"; 15]).ends_with("`x`, `x` and 3 more"));
        let words = ["a", "b", "c"].map(String::from);
        assert_eq!(joined(&words[..1], "and"), "a");
        assert_eq!(joined(&words, "or"), "a, b or c");
    }
}

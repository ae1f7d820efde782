//! What the assistant says in a rendered conversation: the text inside `{% generation %}`.
//!
//! The rewritten source writes a character before and after it that no text has. They are taken
//! out again, and their places are those that transformers counts while it renders.

use std::ops::Range;

use minijinja::{State, Value};

use super::Rendered;

/// The variable that says whether marks are written.
pub(super) const IS_MARKED: &str = "__marked";
/// The characters before and after: Unicode reserves both for uses inside a program.
pub(super) const MARKS: [char; 2] = [START, END];

const START: char = '\u{fdd0}';
const END: char = '\u{fdd1}';

/// The mark at the start, or at the end, of what the assistant says.
pub(super) fn mark(state: &State, is_start: bool) -> String {
    let is_marked = state.lookup(IS_MARKED);
    match is_marked.as_ref().is_some_and(Value::is_true) {
        true => String::from(if is_start { START } else { END }),
        false => String::new(),
    }
}

/// A text without its marks, and the places between them.
///
/// # Errors
/// A message if they do not alternate.
pub(super) fn separated(marked: &str) -> Result<Rendered, String> {
    let mut rendered = Rendered::default();
    let mut start = None;
    for piece in marked.split_inclusive(MARKS) {
        let text = piece.trim_end_matches(MARKS);
        rendered.text.push_str(text);
        let end = rendered.text.len();
        start = match (start, piece[text.len()..].chars().next()) {
            (start, None) => start,
            (None, Some(START)) => Some(end),
            (Some(start), Some(END)) => {
                rendered.generation.extend(spoken(start..end));
                None
            }
            _ => return Err(UNPAIRED.into()),
        };
    }
    match start {
        None => Ok(rendered),
        Some(_) => Err(UNPAIRED.into()),
    }
}

const UNPAIRED: &str = "what its `{% generation %}` marks is nested or cut";

/// A range that is not empty.
fn spoken(range: Range<usize>) -> Option<Range<usize>> {
    Some(range).filter(|range| !range.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_become_places_in_the_text_without_them() {
        let found = separated("a\u{fdd0}é\u{fdd1}b\u{fdd0}\u{fdd1}\u{fdd0}c\u{fdd1}").unwrap();
        assert_eq!(found.text, "aébc");
        assert_eq!(found.generation, [1..3, 4..5]);
        assert!(separated("plain").unwrap().generation.is_empty());
        for broken in ["\u{fdd0}a", "a\u{fdd1}", "\u{fdd0}a\u{fdd0}b\u{fdd1}"] {
            assert_eq!(separated(broken).unwrap_err(), UNPAIRED);
        }
    }
}

//! The width of words, and words that are cut to fit.
//!
//! A picture is shown in whatever font a machine has. Its words are measured in DejaVu Sans, one of the
//! widest common fonts, so that they fit in others: Helvetica, Arial, Roboto and Segoe UI are a tenth
//! narrower.

/// The advance widths of the characters from space to tilde in DejaVu Sans, in thousandths of the
/// font's size.
#[rustfmt::skip]
const WIDTHS: [u16; 95] = [
    318, 401, 460, 838, 636, 950, 780, 275, 390, 390, 500, 838, 318, 361, 318, 337, 636, 636, 636,
    636, 636, 636, 636, 636, 636, 636, 337, 337, 838, 838, 838, 531, 1000, 684, 686, 698, 770, 632,
    575, 775, 752, 295, 295, 656, 557, 863, 748, 787, 603, 787, 695, 635, 611, 732, 684, 989, 685,
    611, 685, 390, 337, 390, 838, 500, 500, 613, 635, 550, 635, 615, 352, 635, 634, 278, 278, 579,
    278, 974, 634, 612, 635, 635, 411, 521, 392, 634, 592, 818, 592, 592, 525, 636, 337, 636, 838,
];
/// The width of any other letter, and of one from a script with wide characters.
const OTHER: f64 = 0.95;
const WIDE: f64 = 1.42;
/// Letters from here on, beyond Latin, Greek and Cyrillic, are taken to be wide.
const FIRST_WIDE: char = '\u{530}';
/// How much wider bold letters are on average.
const BOLD: f64 = 1.2;

/// Size and weight of the words of a class, as in the style of pictures.
fn lettering(class: &str) -> (f64, f64) {
    let has = |name: &str| class.split(' ').any(|word| word == name);
    let size = if has("title") {
        13.0
    } else if has("small") {
        11.0
    } else {
        12.0
    };
    (
        size,
        if has("title") || has("toned") {
            BOLD
        } else {
            1.0
        },
    )
}

/// The width of words of a class, in the units of a picture.
pub fn width_of(class: &str, words: &str) -> f64 {
    let of = |letter: char| match letter {
        ' '..='~' => f64::from(WIDTHS[letter as usize - ' ' as usize]) / 1000.0,
        '…' | '–' | '·' | 'τ' | 'σ' | '−' | '×' => 1.0,
        // Combining marks are above the letter before them.
        '\u{300}'..='\u{36f}' => 0.0,
        letter if letter < FIRST_WIDE => OTHER,
        _ => WIDE,
    };
    let (size, weight) = lettering(class);
    size * weight * words.chars().map(of).sum::<f64>()
}

/// These words, or as many of their letters as fit into `room`, followed by an ellipsis.
pub fn fitted(class: &str, words: &str, room: f64) -> String {
    if width_of(class, words) <= room {
        return words.into();
    }
    let mut letters: Vec<char> = words.chars().collect();
    while letters.pop().is_some() {
        let short = letters.iter().collect::<String>().trim_end().to_string() + "…";
        if width_of(class, &short) <= room {
            return short;
        }
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_as_wide_as_their_letters() {
        // A 684, d 635, a 613, m 974, W 989: at 11 units 42.8, not the 36.5 that 7.3 a letter would
        // be.
        assert!((width_of("small", "AdamW") - 0.011 * 3895.0).abs() < 1e-9);
        assert!((width_of("title", "ii") - 13.0 * 1.2 * 0.556).abs() < 1e-9);
        assert!(
            width_of("", "日") > width_of("", "é") && width_of("", "e\u{301}") == width_of("", "e")
        );
    }

    #[test]
    fn words_that_are_too_wide_end_in_dots() {
        assert_eq!(fitted("small", "Laplace", 60.0), "Laplace");
        let short = fitted("small", &"wide ".repeat(40), 100.0);
        assert!(
            short.starts_with("wide wide")
                && short.ends_with('…')
                && width_of("small", &short) <= 100.0
        );
        assert_eq!(fitted("small", "Laplace", 3.0), "");
    }
}

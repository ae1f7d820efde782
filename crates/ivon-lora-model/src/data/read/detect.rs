//! Detects the [`Dialect`] of a CSV or TSV file from its start, but only where there is no doubt.
//!
//! *CSV.* A first line `sep=;`, as written by Excel, decides. Otherwise the delimiter is the comma,
//! or the only one of `;`, tab and `|` that occurs in a header without commas.
//!
//! *TSV.* GLUE and OpenBookQA publish files without quoting, spreadsheets write them with quoting.
//! Quotes are taken as such if a field at the start of the file needs them (because it contains a
//! tab, a line end or a doubled quote) and no field contradicts that.

use std::io;

use super::dialect::Dialect;
use super::splitter::Splitter;

/// The size of the sample in bytes.
pub(crate) const SAMPLE: usize = 1 << 18;

impl Dialect {
    /// The dialect of a file that starts with `sample`; `tabs` for a TSV. Also returns the length
    /// of a `sep=` line in bytes, which is not part of the table.
    pub(crate) fn of(sample: &[u8], tabs: bool) -> (Self, usize) {
        let (first, rest) = first_line(sample);
        if let Some(delimiter) = named_delimiter(first) {
            let dialect = Self {
                delimiter,
                quoted: true,
            };
            return (dialect, sample.len() - rest.len());
        }
        let dialect = match tabs {
            true => Self {
                delimiter: b'\t',
                quoted: needs_quotes(sample),
            },
            false => Self {
                delimiter: delimiter(first),
                quoted: true,
            },
        };
        (dialect, 0)
    }
}

/// The delimiter of a line `sep=;`.
fn named_delimiter(line: &[u8]) -> Option<u8> {
    if line.starts_with(b"sep=\t") {
        return Some(b'\t');
    }
    match line.trim_ascii_end() {
        [b's' | b'S', b'e' | b'E', b'p' | b'P', b'=', delimiter]
            if delimiter.is_ascii() && !delimiter.is_ascii_alphanumeric() && *delimiter != b'"' =>
        {
            Some(*delimiter)
        }
        _ => None,
    }
}

/// The delimiter of a header: the comma, or, if it has none, the only one of `;`, tab and `|` that
/// occurs in it.
fn delimiter(header: &[u8]) -> u8 {
    let divides = |delimiter: &u8| columns(header, *delimiter) > 1;
    if divides(&b',') {
        return b',';
    }
    let others: Vec<u8> = b";\t|".iter().copied().filter(divides).collect();
    match others[..] {
        [one] => one,
        _ => b',',
    }
}

/// The columns of the first record of a sample, read as CSV; none if there is no complete record.
pub(crate) fn header(sample: &[u8]) -> Option<Vec<String>> {
    let (dialect, skipped) = Dialect::of(sample, false);
    let mut splitter = Splitter::new(sample.get(skipped..)?, dialect);
    splitter.next_record().ok()??;
    Some(
        splitter
            .fields()
            .ok()?
            .into_iter()
            .map(|field| field.trim().to_string())
            .collect(),
    )
}

/// The first line that is not empty, and the rest.
fn first_line(sample: &[u8]) -> (&[u8], &[u8]) {
    let start = sample
        .iter()
        .position(|byte| !matches!(byte, b'\n' | b'\r'))
        .unwrap_or(sample.len());
    let sample = &sample[start..];
    let end = sample
        .iter()
        .position(|byte| matches!(byte, b'\n' | b'\r'))
        .unwrap_or(sample.len());
    sample.split_at(end)
}

/// The number of columns of a header line.
fn columns(line: &[u8], delimiter: u8) -> usize {
    let mut splitter = Splitter::new(
        line,
        Dialect {
            delimiter,
            quoted: true,
        },
    );
    match splitter.next_record() {
        Ok(Some(_)) => splitter.fields().map_or(0, |fields| fields.len()),
        _ => 0,
    }
}

/// Whether the quotes of a TSV are quoting: some field cannot be read otherwise, and with quoting
/// every record has as many columns as the header.
fn needs_quotes(sample: &[u8]) -> bool {
    // The last line may be incomplete, and its last quote closed only beyond the sample.
    let is_cut = sample.len() >= SAMPLE;
    let whole = if is_cut { whole_lines(sample) } else { sample };
    let mut fields = whole.split(|byte| matches!(byte, b'\t' | b'\n' | b'\r'));
    if !fields.any(shows_quoting) {
        return false;
    }
    let mut splitter = Splitter::new(
        io::Cursor::new(whole),
        Dialect {
            delimiter: b'\t',
            quoted: true,
        },
    );
    let mut columns = None;
    loop {
        match splitter.next_record() {
            Ok(None) => return strictly_quoted(whole, is_cut),
            Ok(Some(_)) => match (splitter.fields().map(|fields| fields.len()), columns) {
                (Ok(found), None) => columns = Some(found),
                (Ok(found), Some(expected)) if found == expected => {}
                _ => return false,
            },
            Err(_) => return is_cut && strictly_quoted(whole, is_cut),
        }
    }
}

/// The sample without an incomplete last line.
fn whole_lines(sample: &[u8]) -> &[u8] {
    let end = sample.iter().rposition(|byte| *byte == b'\n');
    &sample[..end.map_or(0, |at| at + 1)]
}

/// Whether a field between tabs needs quoting to be read: it has a `"` at just one end, or a
/// doubled one between `"` at both ends.
fn shows_quoting(field: &[u8]) -> bool {
    let begins = field.first() == Some(&b'"');
    let ends = field.len() > 1 && field.last() == Some(&b'"');
    begins != ends || begins && field.windows(2).skip(1).any(|pair| pair == b"\"\"")
}

/// Whether every opening quote is closed right before a tab or a line end; in a truncated text the
/// last one need not be.
fn strictly_quoted(text: &[u8], is_cut: bool) -> bool {
    let mut rest = text;
    let mut at_start = true;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'"' || !at_start {
            at_start = matches!(byte, b'\t' | b'\n' | b'\r');
            continue;
        }
        // Up to the closing quote; a doubled quote is part of the text.
        loop {
            let Some(at) = rest.iter().position(|byte| *byte == b'"') else {
                return is_cut;
            };
            rest = &rest[at + 1..];
            match rest.first() {
                Some(b'"') => rest = &rest[1..],
                None | Some(b'\t' | b'\n' | b'\r') => break,
                Some(_) => return false,
            }
        }
        at_start = false;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn csv(text: &str) -> (char, usize) {
        let (dialect, skipped) = Dialect::of(text.as_bytes(), false);
        (char::from(dialect.delimiter), skipped)
    }

    #[test]
    fn the_header_or_a_line_sep_tells_what_divides_the_columns() {
        assert_eq!(csv("text,label\na;b,1\n"), (',', 0));
        assert_eq!(csv("text;label\n\"a, b\";1\n"), (';', 0));
        assert_eq!(csv("text\tlabel\r\na\t1\r\n"), ('\t', 0));
        assert_eq!(csv("text|label\n"), ('|', 0));
        assert_eq!(csv("\"a;b\",c\n"), (',', 0));
        // Several delimiters are possible, or none: it stays the comma.
        assert_eq!(csv("a;b\tc\n"), (',', 0));
        assert_eq!(csv("text\none\n"), (',', 0));
        assert_eq!(csv("sep=;\r\ntext;label\r\n"), (';', 5));
        assert_eq!(csv("sep=\t\ntext\tlabel\n"), ('\t', 5));
    }

    #[test]
    fn quotes_of_a_tsv_are_quotes_only_where_a_field_needs_them_and_none_speaks_against() {
        let quoted = |text: &str| Dialect::of(text.as_bytes(), true).0.quoted;
        assert!(quoted("text\tlabel\n\"he said \"\"no\"\"\"\t1\nplain\t0\n"));
        assert!(quoted("text\tlabel\n\"two\nlines\"\t1\n"));
        assert!(quoted("text\tlabel\n\"a\tb\"\t1\n"));
        assert!(!quoted("text\tlabel\n\"bold\"\t1\n"));
        // Both continue beyond the sample, in the middle of a field.
        assert!(quoted(&format!(
            "text\tlabel\n\"a\tb\"\t1\n\"{}",
            "c\n".repeat(SAMPLE)
        )));
        assert!(!quoted(&format!(
            "text\tlabel\n\"a\t1\nb \"c\" d\t0\n\"{}",
            "c\n".repeat(SAMPLE)
        )));
        assert!(!quoted(
            "sentence\tlabel\n\"open quote\t1\nit 's \"fine\"\t0\n"
        ));
        assert!(!quoted(
            "sentence\tlabel\n\"open\" quote\t1\n\"he said \"\"no\"\"\"\t0\n"
        ));
        assert!(!quoted("sentence\tlabel\n\"open\t1\nclosed\"\t0\n\"\t1\n"));
    }
}

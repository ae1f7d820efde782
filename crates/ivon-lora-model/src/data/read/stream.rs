//! A stream without a file name (standard input) → rows or lines. Unless the format is given, the
//! first line decides.

use std::io::{Cursor, Read};
use std::sync::Arc;

use super::detect::{self, SAMPLE};
use super::format::Format;
use super::lines::Lines;
use super::rows::Rows;
use super::text::{io_error, open_text};
use crate::data::error::DataError;
use crate::data::place::Place;

/// The formats of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamFormat {
    /// Rows.
    Rows(Format),
    /// A finished prompt on each line.
    Text,
}

impl StreamFormat {
    /// The names of the formats.
    pub const NAMES: [&str; 4] = ["csv", "tsv", "jsonl", "text"];

    /// A format by its name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "text" => Some(Self::Text),
            "csv" | "tsv" | "jsonl" => Format::named(name).map(Self::Rows),
            _ => None,
        }
    }
}

/// The content of a stream.
pub enum Stream {
    /// Rows.
    Rows(Rows),
    /// Lines of text with their places, without blank ones.
    Lines(StreamLines),
}

/// The lines of a stream.
pub struct StreamLines(Lines);

impl Iterator for StreamLines {
    type Item = Result<(String, Place), DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next_line()
    }
}

/// Opens a stream; `name` identifies it in messages. Without a format, a first line that starts
/// with a brace means JSONL, one whose columns `is_header` recognises is the header of a table, and
/// anything else is lines of text.
///
/// # Errors
/// If it cannot be read, or is not text.
pub fn stream(
    name: Arc<str>,
    reader: Box<dyn Read + Send>,
    format: Option<StreamFormat>,
    is_header: &dyn Fn(&[String]) -> bool,
) -> Result<Stream, DataError> {
    let (mut text, _) = open_text(&name, reader)?;
    let mut sample = Vec::new();
    text.by_ref()
        .take(SAMPLE as u64)
        .read_to_end(&mut sample)
        .map_err(|source| io_error(&name, source))?;
    let format = format.unwrap_or_else(|| detect_format(&sample, is_header));
    let whole: Box<dyn Read + Send> = Box::new(Cursor::new(sample).chain(text));
    match format {
        StreamFormat::Rows(format) => Rows::from_reader(name, format, whole).map(Stream::Rows),
        StreamFormat::Text => Ok(Stream::Lines(StreamLines(Lines::new(
            open_text(&name, whole)?.0,
            name,
        )))),
    }
}

/// Detects the format from the start of a stream.
fn detect_format(sample: &[u8], is_header: &dyn Fn(&[String]) -> bool) -> StreamFormat {
    if sample.trim_ascii_start().first() == Some(&b'{') {
        return StreamFormat::Rows(Format::Jsonl);
    }
    match detect::header(sample) {
        Some(names) if is_header(&names) => StreamFormat::Rows(Format::Csv),
        _ => StreamFormat::Text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, format: Option<StreamFormat>) -> Vec<String> {
        let is_header = |names: &[String]| names.iter().any(|name| name == "text");
        match stream(
            "in".into(),
            Box::new(Cursor::new(text.to_string())),
            format,
            &is_header,
        )
        .unwrap()
        {
            Stream::Rows(rows) => rows.map(|row| row.unwrap().text("text").unwrap()).collect(),
            Stream::Lines(lines) => lines.map(|line| line.unwrap().0).collect(),
        }
    }

    #[test]
    fn the_first_line_tells_rows_from_prompts() {
        assert_eq!(read("\n {\"text\": \"a\"}\n", None), ["a"]);
        assert_eq!(read("id,text\n1,\"a\nb\"\n2,c\n", None), ["a\nb", "c"]);
        assert_eq!(read("sep=;\nid;text\n1;a\n", None), ["a"]);
        assert_eq!(read("id\ttext\n1\ta, b\n", None), ["a, b"]);
        assert_eq!(read("one, two\n\n three \n", None), ["one, two", " three "]);
    }

    #[test]
    fn a_format_that_is_named_is_taken() {
        assert_eq!(
            read("id,text\n1,a\n", StreamFormat::named("text")),
            ["id,text", "1,a"]
        );
        assert_eq!(read("text\nb, c\n", StreamFormat::named("tsv")), ["b, c"]);
        assert!(
            StreamFormat::NAMES
                .iter()
                .all(|name| StreamFormat::named(name).is_some())
        );
        assert_eq!(StreamFormat::named("parquet"), None);
    }
}

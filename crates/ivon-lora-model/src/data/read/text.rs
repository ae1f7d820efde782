//! Bytes → UTF-8: gzip is decompressed, UTF-16 decoded, a byte-order mark removed, and data that
//! are not text are identified.

use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::sync::Arc;

use flate2::bufread::MultiGzDecoder;

use crate::data::error::DataError;
use crate::files::FileError;

/// A stream of bytes that should be UTF-8.
pub(crate) type Text = BufReader<Box<dyn Read + Send>>;

/// The maximum size of a file in bytes, both compressed and decompressed.
pub const LARGEST_FILE: u64 = 8 << 30;

/// The number of bytes needed to identify the content.
const HEAD: usize = 512;
const BUFFER: usize = 1 << 16;

/// The content of a stream of bytes.
enum Content {
    /// Text, and a description of its encoding if it is unusual.
    Text(Text, Option<&'static str>),
    /// Something else, in words.
    Other(&'static str),
}

/// Opens bytes as text. Decompression is streamed, and fails beyond [`LARGEST_FILE`] bytes.
///
/// # Errors
/// If the first bytes cannot be read or decompressed.
fn open(reader: Box<dyn Read + Send>) -> io::Result<Content> {
    let (head, reader) = peek(reader)?;
    if !head.starts_with(&[0x1f, 0x8b]) {
        return decoded(&head, reader, None);
    }
    let packed = BufReader::with_capacity(BUFFER, reader);
    let unpacked = LimitedReader {
        inner: MultiGzDecoder::new(packed),
        left: LARGEST_FILE,
    };
    let (head, reader) = peek(Box::new(unpacked))?;
    decoded(&head, reader, Some("gzip"))
}

/// Opens a stream as text, and describes its encoding if it is unusual; `name` identifies the
/// stream in messages.
///
/// # Errors
/// If it cannot be read, or is not text.
pub(super) fn open_text(
    name: &Arc<str>,
    reader: Box<dyn Read + Send>,
) -> Result<(Text, Option<&'static str>), DataError> {
    match open(reader).map_err(|source| io_error(name, source))? {
        Content::Text(text, how) => Ok((text, how)),
        Content::Other(found) => Err(not_rows(name, found, "text with a row on each line")),
    }
}

/// The error for content without rows.
pub(super) fn not_rows(name: &Arc<str>, found: &'static str, expected: &'static str) -> DataError {
    DataError::NotRows {
        file: name.to_string(),
        found,
        expected,
    }
}

/// An error of the operating system or of decompression.
pub(super) fn io_error(name: &str, source: io::Error) -> DataError {
    FileError::Io {
        action: "read",
        path: name.into(),
        source,
    }
    .into()
}

/// The first bytes, and a stream that starts with them again.
fn peek(mut reader: Box<dyn Read + Send>) -> io::Result<(Vec<u8>, Box<dyn Read + Send>)> {
    let mut head = Vec::with_capacity(HEAD);
    reader.by_ref().take(HEAD as u64).read_to_end(&mut head)?;
    Ok((head.clone(), Box::new(Cursor::new(head).chain(reader))))
}

/// Text in the encoding that its first bytes indicate.
fn decoded(
    head: &[u8],
    mut reader: Box<dyn Read + Send>,
    packed: Option<&'static str>,
) -> io::Result<Content> {
    let text = |reader, how| Content::Text(BufReader::with_capacity(BUFFER, reader), how);
    Ok(match head {
        [0xef, 0xbb, 0xbf, ..] => {
            reader.read_exact(&mut [0; 3])?;
            text(reader, packed)
        }
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
            reader.read_exact(&mut [0; 2])?;
            text(
                Box::new(Utf16::new(reader, head[0] == 0xfe)),
                Some("UTF-16"),
            )
        }
        _ => match other(head) {
            Some(what) => Content::Other(what),
            None => text(reader, packed),
        },
    })
}

/// What the content is, if it is not text.
fn other(head: &[u8]) -> Option<&'static str> {
    let begins =
        |mark: &[u8]| head.len() >= mark.len() && head[..mark.len()].eq_ignore_ascii_case(mark);
    match head {
        _ if begins(b"PK\x03\x04") => Some("a zip archive (a workbook of Excel is one)"),
        _ if begins(b"PAR1") => Some("a parquet file"),
        _ if begins(&[0xd0, 0xcf, 0x11, 0xe0]) => Some("a workbook of an old Excel"),
        _ if begins(&[0x28, 0xb5, 0x2f, 0xfd]) => Some("packed with zstd"),
        _ if begins(b"BZh") && head.get(4..10) == Some(b"1AY&SY") => Some("packed with bzip2"),
        _ if begins(&[0xfd, b'7', b'z', b'X', b'Z']) => Some("packed with xz"),
        _ if begins(b"version https://git-lfs") => {
            Some("a pointer of Git LFS, not the file itself")
        }
        _ if begins(b"<!doctype html") || begins(b"<html") => Some("a page of HTML"),
        _ if head.contains(&0) => Some("binary, or UTF-16 without a byte-order mark"),
        _ => None,
    }
}

/// A stream that fails beyond a number of bytes.
struct LimitedReader<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for LimitedReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| {
            io::Error::other(format!("it unpacks to more than {LARGEST_FILE} bytes"))
        })?;
        Ok(read)
    }
}

/// UTF-16 → UTF-8. An unpaired surrogate becomes U+FFFD, as is usual.
struct Utf16 {
    inner: BufReader<Box<dyn Read + Send>>,
    big_endian: bool,
    /// The first surrogate of a pair, until the second is read.
    high: Option<u16>,
    /// Decoded UTF-8 not yet returned.
    ready: Cursor<Vec<u8>>,
}

impl Utf16 {
    fn new(inner: Box<dyn Read + Send>, big_endian: bool) -> Self {
        Self {
            inner: BufReader::with_capacity(BUFFER, inner),
            big_endian,
            high: None,
            ready: Cursor::default(),
        }
    }

    /// Decodes the buffer; afterwards nothing is ready only at the end of the stream.
    fn refill(&mut self) -> io::Result<()> {
        let pairs = self.read_pairs()?;
        let ended = pairs.len() < 2;
        let from = if self.big_endian {
            u16::from_be_bytes
        } else {
            u16::from_le_bytes
        };
        let units = self
            .high
            .take()
            .into_iter()
            .chain(pairs.chunks_exact(2).map(|pair| from([pair[0], pair[1]])));
        let mut units: Vec<u16> = units.collect();
        if !ended
            && units
                .last()
                .is_some_and(|unit| (0xd800..0xdc00).contains(unit))
        {
            self.high = units.pop();
        }
        let mut text: String = char::decode_utf16(units)
            .map(|letter| letter.unwrap_or(char::REPLACEMENT_CHARACTER))
            .collect();
        if pairs.len() == 1 {
            text.push(char::REPLACEMENT_CHARACTER);
        }
        self.ready = Cursor::new(text.into_bytes());
        Ok(())
    }

    /// An even number of bytes; fewer than two only at the end of the stream.
    fn read_pairs(&mut self) -> io::Result<Vec<u8>> {
        let bytes = self.inner.fill_buf()?;
        let mut pairs: Vec<u8> = bytes[..bytes.len() & !1].to_vec();
        if pairs.is_empty() {
            self.inner.by_ref().take(2).read_to_end(&mut pairs)?;
        } else {
            self.inner.consume(pairs.len());
        }
        Ok(pairs)
    }
}

impl Read for Utf16 {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.ready.read(buffer)?;
        if read > 0 || buffer.is_empty() {
            return Ok(read);
        }
        self.refill()?;
        if self.ready.get_ref().is_empty() && self.high.is_some() {
            self.refill()?;
        }
        self.ready.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn text_of(bytes: Vec<u8>) -> io::Result<String> {
        let mut text = String::new();
        match open(Box::new(Cursor::new(bytes)))? {
            Content::Text(mut reader, _) => reader.read_to_string(&mut text)?,
            Content::Other(what) => return Ok(what.into()),
        };
        Ok(text)
    }

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn the_same_text_comes_out_of_every_encoding() {
        // Long enough for several buffers, with surrogate pairs at every offset from their ends.
        let text = "naïve 東京 🎬\r\n".repeat(20_000);
        let units =
            |order: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(order).collect::<Vec<u8>>();
        assert_eq!(text_of(text.clone().into_bytes()).unwrap(), text);
        assert_eq!(
            text_of([b"\xef\xbb\xbf", text.as_bytes()].concat()).unwrap(),
            text
        );
        for shift in ["", "x"] {
            let expected = format!("{shift}{text}");
            let little = [
                &[0xff, 0xfe][..],
                &shift
                    .encode_utf16()
                    .flat_map(u16::to_le_bytes)
                    .collect::<Vec<u8>>(),
                &units(u16::to_le_bytes),
            ];
            assert!(text_of(little.concat()).unwrap() == expected);
        }
        assert!(
            text_of([&[0xfe, 0xff], units(u16::to_be_bytes).as_slice()].concat()).unwrap() == text
        );
        // Concatenated gzip members are one file, as made by `cat one.gz two.gz`.
        assert!(
            text_of([packed(text.as_bytes()), packed(b"end")].concat()).unwrap()
                == text.clone() + "end"
        );
        assert!(
            text_of(packed(
                &[&[0xff, 0xfe], units(u16::to_le_bytes).as_slice()].concat()
            ))
            .unwrap()
                == text
        );
        assert_eq!(text_of(vec![]).unwrap(), "");
    }

    #[test]
    fn halves_and_odd_ends_of_utf_16_are_marked_and_not_lost() {
        assert_eq!(text_of(vec![0xff, 0xfe, 0x3d, 0xd8]).unwrap(), "\u{fffd}");
        assert_eq!(
            text_of(vec![0xff, 0xfe, b'a', 0, b'b']).unwrap(),
            "a\u{fffd}"
        );
        assert_eq!(text_of(vec![0xff, 0xfe]).unwrap(), "");
    }

    #[test]
    fn what_is_no_text_is_named() {
        assert!(
            text_of(b"PK\x03\x04rest".to_vec())
                .unwrap()
                .contains("zip archive")
        );
        assert!(
            text_of(b"version https://git-lfs.github.com/spec/v1\n".to_vec())
                .unwrap()
                .contains("Git LFS")
        );
        assert!(
            text_of(b"a\0,\0b\0".to_vec())
                .unwrap()
                .contains("UTF-16 without")
        );
        assert!(
            text_of(b"<!DOCTYPE html><p>log in".to_vec())
                .unwrap()
                .contains("HTML")
        );
    }

    #[test]
    fn damaged_gzip_is_an_error_and_unpacking_has_a_limit() {
        let whole = packed("text ".repeat(9999).as_bytes());
        assert!(text_of(whole[..whole.len() - 9].to_vec()).is_err());
        let mut limited = LimitedReader {
            inner: io::repeat(b' '),
            left: 10,
        };
        let error = limited.read(&mut [0; 16]).unwrap_err();
        assert!(
            error.to_string().starts_with("it unpacks to more than"),
            "{error}"
        );
    }
}

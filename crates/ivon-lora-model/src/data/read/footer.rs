//! Checks the metadata of a parquet file before the parquet crate uses it: that crate allocates
//! whatever a footer or a page header declares, and follows a schema to any depth.
//!
//! Skips through Thrift's compact protocol,
//! <https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md>; the fields
//! are those of
//! <https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift>.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use super::dialect::MOST_COLUMNS;

/// The maximum length of a footer in bytes.
const LONGEST_FOOTER: u64 = 64 << 20;
/// The maximum uncompressed size of a page in bytes; writers make pages of about 1 MiB.
const LARGEST_PAGE: i64 = 256 << 20;
/// The maximum length of a page header in bytes: its statistics contain two values of the column.
const LONGEST_HEADER: u64 = 1 << 20;
/// The maximum depth of a schema.
const DEEPEST: usize = 64;

/// Checks the footer of a file, and rewinds it.
///
/// # Errors
/// What is wrong with it, in words.
pub(super) fn check_footer(file: &mut File) -> Result<(), String> {
    let bytes = footer(file)
        .map_err(|error| error.to_string())?
        .ok_or("it does not end as a parquet file does")?;
    let mut walk = Walk { rest: &bytes };
    let mut size = SchemaSize::default();
    walk.structure(0, &mut |walk, field, kind| {
        if field != 2 || kind != LIST {
            return Ok(false);
        }
        let (count, _) = walk.list()?;
        for _ in 0..count {
            let mut children = 0;
            walk.structure(0, &mut |walk, field, kind| {
                if field == 5 && kind == I32 {
                    children = walk.signed()?;
                    return Ok(true);
                }
                Ok(false)
            })?;
            size.add(children, count)?;
        }
        Ok(true)
    })
}

/// The depth and width of a schema, which is a list of groups and columns in depth-first order.
#[derive(Default)]
struct SchemaSize {
    /// For each open group the number of its children still to come.
    levels: Vec<i64>,
    columns: usize,
}

impl SchemaSize {
    /// Adds a group of `children`, or a column without any, to a schema of `count` elements.
    fn add(&mut self, children: i64, count: u64) -> Result<(), String> {
        if let Some(left) = self.levels.last_mut() {
            *left -= 1;
        }
        self.columns += usize::from(children == 0);
        if children < 0 || children > count as i64 {
            return Err(format!(
                "a group of its schema has {children} columns, of {count} in all"
            ));
        }
        if children > 0 {
            self.levels.push(children);
        }
        while self.levels.last() == Some(&0) {
            self.levels.pop();
        }
        if self.levels.len() > DEEPEST || self.columns > MOST_COLUMNS {
            return Err(format!(
                "its schema has more than {DEEPEST} levels or {MOST_COLUMNS} columns"
            ));
        }
        Ok(())
    }
}

/// Checks every page header of the column chunk of `length` bytes at `start`.
///
/// # Errors
/// What is wrong with one, in words.
pub(super) fn check_pages(file: &mut File, start: u64, length: u64) -> Result<(), String> {
    let end = start.saturating_add(length);
    let mut at = start;
    let mut bytes = Vec::new();
    while at < end {
        let (unpacked, packed, used) = header(file, at, end - at, &mut bytes)?;
        if !(0..=LARGEST_PAGE).contains(&unpacked) {
            return Err(format!(
                "a page announces {unpacked} bytes, expected at most {LARGEST_PAGE}"
            ));
        }
        let packed =
            u64::try_from(packed).map_err(|_| format!("a page announces {packed} bytes"))?;
        at = at.saturating_add(used).saturating_add(packed);
    }
    Ok(())
}

/// The sizes in the page header at a position, uncompressed and compressed, and the header's
/// length.
fn header(
    file: &mut File,
    at: u64,
    room: u64,
    bytes: &mut Vec<u8>,
) -> Result<(i64, i64, u64), String> {
    // Most headers are short; only a long one is read again in full.
    for most in [512, LONGEST_HEADER] {
        bytes.clear();
        let read = file
            .seek(SeekFrom::Start(at))
            .and_then(|_| file.by_ref().take(most.min(room)).read_to_end(bytes));
        read.map_err(|error| error.to_string())?;
        let mut walk = Walk { rest: bytes };
        let (mut unpacked, mut packed) = (0, 0);
        let walked = walk.structure(0, &mut |walk, field, kind| match (field, kind) {
            (2, I32) => walk.signed().map(|size| unpacked = size).map(|()| true),
            (3, I32) => walk.signed().map(|size| packed = size).map(|()| true),
            _ => Ok(false),
        });
        match walked {
            Ok(()) => return Ok((unpacked, packed, (bytes.len() - walk.rest.len()) as u64)),
            Err(_) if (bytes.len() as u64) == most && most < LONGEST_HEADER => {}
            Err(reason) => return Err(reason),
        }
    }
    Err("the header of a page is too long".into())
}

/// The bytes of the footer; none if the file does not end with one.
fn footer(file: &mut File) -> io::Result<Option<Vec<u8>>> {
    let length = file.metadata()?.len();
    let mut tail = [0; 8];
    if length < 12 {
        return Ok(None);
    }
    file.seek(SeekFrom::End(-8))?;
    file.read_exact(&mut tail)?;
    let [a, b, c, d, mark @ ..] = tail;
    let size = u64::from(u32::from_le_bytes([a, b, c, d]));
    if mark != *b"PAR1" || size > LONGEST_FOOTER || size > length - 12 {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(length - 8 - size))?;
    file.by_ref().take(size).read_to_end(&mut bytes)?;
    file.rewind()?;
    Ok(Some(bytes))
}

const BYTE: u8 = 3;
const I32: u8 = 5;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const SET: u8 = 10;
const MAP: u8 = 11;
const STRUCT: u8 = 12;

/// A cursor over encoded bytes.
struct Walk<'a> {
    rest: &'a [u8],
}

/// Reads a field by its number and type and returns true, or returns false to have it skipped.
type Take<'t, 'a> = &'t mut dyn FnMut(&mut Walk<'a>, i64, u8) -> Result<bool, String>;

impl<'a> Walk<'a> {
    /// Reads the fields of a struct.
    fn structure(&mut self, depth: usize, take: Take<'_, 'a>) -> Result<(), String> {
        let mut field = 0i64;
        loop {
            let byte = self.byte()?;
            let (delta, kind) = (byte >> 4, byte & 15);
            if kind == 0 {
                return Ok(());
            }
            field = if delta == 0 {
                self.signed()?
            } else {
                field.saturating_add(i64::from(delta))
            };
            if !take(self, field, kind)? {
                self.skip_value(kind, depth, false)?;
            }
        }
    }

    /// Skips a value. A boolean takes a byte in a list, none in a struct. The parquet crate skips no
    /// byte in a list either, so that a few nested lists of booleans keep it busy for hours. No
    /// footer has such a list: it is refused.
    fn skip_value(&mut self, kind: u8, depth: usize, in_list: bool) -> Result<(), String> {
        if depth > DEEPEST {
            return Err("its description is nested too deep".into());
        }
        match kind {
            1 | 2 if !in_list => Ok(()),
            1 | 2 => Err("its description has a list of booleans".into()),
            BYTE => self.byte().map(drop),
            4..=6 => self.unsigned().map(drop),
            DOUBLE => self.skip(8),
            BINARY => {
                let length = self.unsigned()?;
                self.skip(length)
            }
            LIST | SET => {
                let (count, kind) = self.list()?;
                (0..count).try_for_each(|_| self.skip_value(kind, depth + 1, true))
            }
            MAP => self.map(depth),
            STRUCT => self.structure(depth + 1, &mut |_, _, _| Ok(false)),
            other => Err(format!(
                "its description has a value of the unknown kind {other}"
            )),
        }
    }

    fn map(&mut self, depth: usize) -> Result<(), String> {
        let count = self.unsigned()?;
        if count == 0 {
            return Ok(());
        }
        let kinds = self.byte()?;
        (0..count).try_for_each(|_| {
            self.skip_value(kinds >> 4, depth + 1, true)?;
            self.skip_value(kinds & 15, depth + 1, true)
        })
    }

    /// The number of values of a list, at most the number of bytes left, and their type.
    fn list(&mut self) -> Result<(u64, u8), String> {
        let byte = self.byte()?;
        let count = if byte >> 4 == 15 {
            self.unsigned()?
        } else {
            u64::from(byte >> 4)
        };
        match count <= self.rest.len() as u64 {
            true => Ok((count, byte & 15)),
            false => Err(format!(
                "a list of its description announces {count} values"
            )),
        }
    }

    fn byte(&mut self) -> Result<u8, String> {
        let (byte, rest) = self
            .rest
            .split_first()
            .ok_or("its description ends early")?;
        self.rest = rest;
        Ok(*byte)
    }

    fn skip(&mut self, count: u64) -> Result<(), String> {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        self.rest = self.rest.get(count..).ok_or("its description ends early")?;
        Ok(())
    }

    fn unsigned(&mut self) -> Result<u64, String> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 127) << shift;
            if byte < 128 {
                return Ok(value);
            }
        }
        Err("a number of its description does not end".into())
    }

    fn signed(&mut self) -> Result<i64, String> {
        let value = self.unsigned()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A file with nothing but a footer, whose schema has groups with these numbers of children.
    fn with_schema(children: &[i64]) -> Result<(), String> {
        let zigzag = |value: i64| (value << 1 ^ value >> 63) as u64;
        let varint = |mut value: u64| {
            let mut bytes = Vec::new();
            while value >= 128 {
                bytes.push(value as u8 | 128);
                value >>= 7;
            }
            bytes.push(value as u8);
            bytes
        };
        // Field 2 of the footer: a list of structs.
        let mut footer = vec![0x29, 0xfc];
        footer.extend(varint(children.len() as u64));
        for &count in children {
            // Field 4: the name `a`; field 5: the number of children.
            footer.extend([0x48, 1, b'a']);
            if count != 0 {
                footer.push(0x15);
                footer.extend(varint(zigzag(count)));
            }
            footer.push(0);
        }
        footer.push(0);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        let size = (footer.len() as u32).to_le_bytes();
        fs::write(&path, [b"PAR1", footer.as_slice(), &size, b"PAR1"].concat()).unwrap();
        check_footer(&mut File::open(&path).unwrap())
    }

    #[test]
    fn a_schema_that_announces_more_than_it_has_or_goes_too_deep_is_refused() {
        assert_eq!(with_schema(&[2, 0, 1, 0]), Ok(()));
        assert!(
            with_schema(&[i64::from(i32::MAX), 0])
                .unwrap_err()
                .contains("has 2147483647 columns, of 2 in all")
        );
        assert!(
            with_schema(&[-1, 0])
                .unwrap_err()
                .contains("has -1 columns")
        );
        let deep: Vec<i64> = std::iter::repeat_n(1, 100_000).chain([0]).collect();
        assert!(
            with_schema(&deep)
                .unwrap_err()
                .contains("more than 64 levels")
        );
        let wide: Vec<i64> = std::iter::once(20_000)
            .chain(std::iter::repeat_n(0, 20_000))
            .collect();
        assert!(with_schema(&wide).unwrap_err().contains("or 10000 columns"));
    }

    #[test]
    fn a_list_of_booleans_which_the_parquet_crate_counts_without_reading_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        // Field 9: a set of four booleans, which our walk could skip.
        let footer = [0x9a, 0x42, 1, 1, 1, 1, 0, 0];
        let size = (footer.len() as u32).to_le_bytes();
        fs::write(&path, [b"PAR1", footer.as_slice(), &size, b"PAR1"].concat()).unwrap();
        assert_eq!(
            check_footer(&mut File::open(&path).unwrap()).unwrap_err(),
            "its description has a list of booleans"
        );
        // 289 bytes that a fuzzer found, with which the parquet crate was busy for a second.
        let found = crate::testing::workspace().join("testdata/parquet/nested_booleans.parquet");
        assert!(check_footer(&mut File::open(found).unwrap()).is_err());
    }

    #[test]
    fn a_page_that_announces_gigabytes_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        // Field 1: kind 0; field 2: 2^31 - 1 bytes; field 3: 4 bytes.
        let huge = [
            0x15, 0, 0x15, 0xfe, 0xff, 0xff, 0xff, 0x0f, 0x15, 8, 0, 1, 2, 3, 4,
        ];
        fs::write(&path, huge).unwrap();
        let check = |length| check_pages(&mut File::open(&path).unwrap(), 0, length);
        assert_eq!(
            check(15).unwrap_err(),
            "a page announces 2147483647 bytes, expected at most 268435456"
        );
        fs::write(&path, [0x15, 0, 0x15, 16, 0x15, 8, 0, 1, 2, 3, 4]).unwrap();
        assert_eq!(check(11), Ok(()));
        fs::write(&path, [0x15, 0, 0x15]).unwrap();
        assert_eq!(check(3).unwrap_err(), "its description ends early");
        // A string that declares more bytes than there are, and endlessly nested structs.
        fs::write(&path, [0x18, 0xff, 0xff, 0xff, 0xff, 0x7f, 0]).unwrap();
        assert!(check(7).is_err());
        fs::write(&path, [0x1c; 4000]).unwrap();
        assert!(check(4000).is_err());
    }
}

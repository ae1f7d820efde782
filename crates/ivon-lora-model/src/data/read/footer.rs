//! Checks the metadata of a parquet file before the parquet crate uses it: that crate allocates
//! whatever a footer or a page header declares, and follows a schema to any depth.
//!
//! The fields are those of
//! <https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift>.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use super::dialect::MOST_COLUMNS;
use super::thrift::{DEEPEST, Fields, Form, Walk};

/// The maximum length of a footer in bytes.
const LONGEST_FOOTER: u64 = 64 << 20;
/// The maximum uncompressed size of a page in bytes; writers make pages of about 1 MiB.
const LARGEST_PAGE: i64 = 256 << 20;
/// The maximum length of a page header in bytes: its statistics contain two values of the column.
const LONGEST_HEADER: u64 = 1 << 20;

const KEY_VALUE: Fields = &[(1, Form::Binary), (2, Form::Binary)];
const STATISTICS: Fields = &[
    (1, Form::Binary),
    (2, Form::Binary),
    (3, Form::I64),
    (4, Form::I64),
    (5, Form::Binary),
    (6, Form::Binary),
    (7, Form::Bool),
    (8, Form::Bool),
    (9, Form::I64),
];
const NOTHING: Form = Form::Struct(&[]);
const TIME_UNIT: Form = Form::Struct(&[(1, NOTHING), (2, NOTHING), (3, NOTHING)]);
const TIME: Form = Form::Struct(&[(1, Form::Bool), (2, TIME_UNIT)]);
const LOGICAL_TYPE: Fields = &[
    (1, NOTHING),
    (2, NOTHING),
    (3, NOTHING),
    (4, NOTHING),
    (5, Form::Struct(&[(1, Form::I32), (2, Form::I32)])),
    (6, NOTHING),
    (7, TIME),
    (8, TIME),
    (10, Form::Struct(&[(1, Form::Byte), (2, Form::Bool)])),
    (11, NOTHING),
    (12, NOTHING),
    (13, NOTHING),
    (14, NOTHING),
    (15, NOTHING),
    (16, Form::Struct(&[(1, Form::Byte)])),
    (17, Form::Struct(&[(1, Form::Binary)])),
    (18, Form::Struct(&[(1, Form::Binary), (2, Form::I32)])),
    (19, NOTHING),
];
const SCHEMA_ELEMENT: Fields = &[
    (1, Form::I32),
    (2, Form::I32),
    (3, Form::I32),
    (4, Form::Binary),
    (5, Form::I32),
    (6, Form::I32),
    (7, Form::I32),
    (8, Form::I32),
    (9, Form::I32),
    (10, Form::Struct(LOGICAL_TYPE)),
];
const BOUNDING_BOX: Fields = &[
    (1, Form::Double),
    (2, Form::Double),
    (3, Form::Double),
    (4, Form::Double),
    (5, Form::Double),
    (6, Form::Double),
    (7, Form::Double),
    (8, Form::Double),
];
const COLUMN_METADATA: Fields = &[
    (1, Form::I32),
    (2, Form::List(&Form::I32)),
    (3, Form::List(&Form::Binary)),
    (4, Form::I32),
    (5, Form::I64),
    (6, Form::I64),
    (7, Form::I64),
    (8, Form::List(&Form::Struct(KEY_VALUE))),
    (9, Form::I64),
    (10, Form::I64),
    (11, Form::I64),
    (12, Form::Struct(STATISTICS)),
    (
        13,
        Form::List(&Form::Struct(&[
            (1, Form::I32),
            (2, Form::I32),
            (3, Form::I32),
        ])),
    ),
    (14, Form::I64),
    (15, Form::I32),
    (
        16,
        Form::Struct(&[
            (1, Form::I64),
            (2, Form::List(&Form::I64)),
            (3, Form::List(&Form::I64)),
        ]),
    ),
    (
        17,
        Form::Struct(&[(1, Form::Struct(BOUNDING_BOX)), (2, Form::List(&Form::I32))]),
    ),
];
const COLUMN_CHUNK: Fields = &[
    (1, Form::Binary),
    (2, Form::I64),
    (3, Form::Struct(COLUMN_METADATA)),
    (4, Form::I64),
    (5, Form::I32),
    (6, Form::I64),
    (7, Form::I32),
    (
        8,
        Form::Struct(&[
            (1, NOTHING),
            (
                2,
                Form::Struct(&[(1, Form::List(&Form::Binary)), (2, Form::Binary)]),
            ),
        ]),
    ),
    (9, Form::Binary),
];
const ROW_GROUP: Fields = &[
    (1, Form::List(&Form::Struct(COLUMN_CHUNK))),
    (2, Form::I64),
    (3, Form::I64),
    (
        4,
        Form::List(&Form::Struct(&[
            (1, Form::I32),
            (2, Form::Bool),
            (3, Form::Bool),
        ])),
    ),
    (5, Form::I64),
    (6, Form::I64),
    (7, Form::I16),
];
const CIPHER: Form = Form::Struct(&[(1, Form::Binary), (2, Form::Binary), (3, Form::Bool)]);
const FILE_METADATA: Fields = &[
    (1, Form::I32),
    (SCHEMA, Form::List(&Form::Struct(SCHEMA_ELEMENT))),
    (3, Form::I64),
    (4, Form::List(&Form::Struct(ROW_GROUP))),
    (5, Form::List(&Form::Struct(KEY_VALUE))),
    (6, Form::Binary),
    (7, Form::List(&Form::Struct(&[(1, NOTHING), (2, NOTHING)]))),
    (8, Form::Struct(&[(1, CIPHER), (2, CIPHER)])),
    (9, Form::Binary),
];
const SCHEMA: i64 = 2;
const PAGE_HEADER: Fields = &[
    (1, Form::I32),
    (UNPACKED_SIZE, Form::I32),
    (PACKED_SIZE, Form::I32),
    (4, Form::I32),
    (
        5,
        Form::Struct(&[
            (1, Form::I32),
            (2, Form::I32),
            (3, Form::I32),
            (4, Form::I32),
            (5, Form::Struct(STATISTICS)),
        ]),
    ),
    (6, NOTHING),
    (
        7,
        Form::Struct(&[(1, Form::I32), (2, Form::I32), (3, Form::Bool)]),
    ),
    (
        8,
        Form::Struct(&[
            (1, Form::I32),
            (2, Form::I32),
            (3, Form::I32),
            (4, Form::I32),
            (5, Form::I32),
            (6, Form::I32),
            (7, Form::Bool),
            (8, Form::Struct(STATISTICS)),
        ]),
    ),
];
const UNPACKED_SIZE: i64 = 2;
const PACKED_SIZE: i64 = 3;

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
    walk.structure(FILE_METADATA, 0, &mut |walk, field| match field {
        SCHEMA => walk_schema(walk, &mut size).map(|()| true),
        _ => Ok(false),
    })
}

/// Walks over the list of a schema's elements and adds them up.
fn walk_schema(walk: &mut Walk<'_>, size: &mut SchemaSize) -> Result<(), String> {
    let (count, _) = walk.list_of(Form::Struct(SCHEMA_ELEMENT))?;
    for _ in 0..count {
        let mut children = 0;
        walk.structure(SCHEMA_ELEMENT, 1, &mut |walk, field| {
            if field == 5 {
                children = walk.signed()?;
            }
            Ok(field == 5)
        })?;
        size.add(children, count)?;
    }
    Ok(())
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
        // The parquet crate takes 32 bits of it.
        let size = i32::try_from(packed)
            .ok()
            .and_then(|size| u64::try_from(size).ok());
        let size = size.ok_or_else(|| format!("a page announces {packed} bytes"))?;
        at = at.saturating_add(used).saturating_add(size);
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
        let walked = walk.structure(PAGE_HEADER, 0, &mut |walk, field| match field {
            UNPACKED_SIZE => walk.signed().map(|size| unpacked = size).map(|()| true),
            PACKED_SIZE => walk.signed().map(|size| packed = size).map(|()| true),
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
        // The unknown field 10: a set of four booleans, which our walk could skip.
        let footer = [0xaa, 0x42, 1, 1, 1, 1, 0, 0];
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
    fn a_known_field_of_another_type_which_the_parquet_crate_would_not_notice_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let check = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            check_pages(&mut File::open(&path).unwrap(), 0, bytes.len() as u64).unwrap_err()
        };
        // Field 5, the header of a data page, as a text; as a structure whose statistics are a list.
        assert_eq!(
            check(&[0x58, 2, 0, 0, 0]),
            "the field 5 of its description has the wrong type 8"
        );
        assert_eq!(
            check(&[0x5c, 0x59, 0x25, 0, 0, 0, 0]),
            "the field 5 of its description has the wrong type 9"
        );
        // Field 2 by the number 65,538, of which 16 bits are 2.
        assert_eq!(
            check(&[0x05, 0x84, 0x80, 0x08, 16, 0]),
            "its description has a field with the number 65538"
        );
        // An input on which the parquet crate read an ended file 2^31 times.
        let found = crate::testing::workspace().join("testdata/parquet/other_type.parquet");
        let found = File::open(found).unwrap();
        let length = found.metadata().unwrap().len();
        let pages = || check_pages(&mut found.try_clone().unwrap(), 4, length);
        assert!(check_footer(&mut found.try_clone().unwrap()).is_err() || pages().is_err());
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
        // A size whose lower 32 bits alone are small.
        let wrapped = [0x15, 0, 0x15, 16, 0x15, 0x88, 0x80, 0x80, 0x80, 0x20, 0];
        fs::write(&path, wrapped).unwrap();
        assert_eq!(check(11).unwrap_err(), "a page announces 4294967300 bytes");
        fs::write(&path, [0x15, 0, 0x15]).unwrap();
        assert_eq!(check(3).unwrap_err(), "its description ends early");
        // A string that declares more bytes than there are, and endlessly nested structs.
        fs::write(&path, [0x18, 0xff, 0xff, 0xff, 0xff, 0x7f, 0]).unwrap();
        assert!(check(7).is_err());
        fs::write(&path, [0x1c; 4000]).unwrap();
        assert!(check(4000).is_err());
    }
}

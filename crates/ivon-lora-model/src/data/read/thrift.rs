//! Thrift's compact protocol, walked without keeping anything:
//! <https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md>.

/// The maximum depth of a schema, and of a description.
pub(super) const DEEPEST: usize = 64;

const BYTE: u8 = 3;
const I16: u8 = 4;
const I32: u8 = 5;
const I64: u8 = 6;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const SET: u8 = 10;
const MAP: u8 = 11;
const STRUCT: u8 = 12;

/// The type that a field must have, since the parquet crate reads the fields it knows by their
/// numbers, whatever type the file gives them: from one of another type on, it would read other
/// bytes than this walk has checked.
#[derive(Clone, Copy)]
pub(super) enum Form {
    Bool,
    Byte,
    I16,
    I32,
    I64,
    Double,
    Binary,
    List(&'static Form),
    Struct(Fields),
}

/// The known fields of a struct, by number.
pub(super) type Fields = &'static [(i64, Form)];

impl Form {
    /// Whether a value of this type in the file has this form.
    fn fits(self, kind: u8) -> bool {
        match self {
            Self::Bool => kind == 1 || kind == 2,
            Self::Byte => kind == BYTE,
            Self::I16 => kind == I16,
            Self::I32 => kind == I32,
            Self::I64 => kind == I64,
            Self::Double => kind == DOUBLE,
            Self::Binary => kind == BINARY,
            Self::List(_) => kind == LIST,
            Self::Struct(_) => kind == STRUCT,
        }
    }
}

/// A cursor over encoded bytes.
pub(super) struct Walk<'a> {
    pub(super) rest: &'a [u8],
}

/// Reads a field by its number and returns true, or returns false to have it skipped.
type Take<'t, 'a> = &'t mut dyn FnMut(&mut Walk<'a>, i64) -> Result<bool, String>;

impl<'a> Walk<'a> {
    /// Reads the fields of a struct; `take` is asked about the known ones.
    pub(super) fn structure(
        &mut self,
        fields: Fields,
        depth: usize,
        take: Take<'_, 'a>,
    ) -> Result<(), String> {
        let mut number = 0i64;
        loop {
            let byte = self.byte()?;
            let (delta, kind) = (byte >> 4, byte & 15);
            if kind == 0 {
                return Ok(());
            }
            number = match delta {
                0 => self.signed()?,
                _ => number + i64::from(delta),
            };
            if !(0..=i64::from(i16::MAX)).contains(&number) {
                return Err(format!(
                    "its description has a field with the number {number}"
                ));
            }
            let known = fields.iter().find(|(known, _)| *known == number);
            match known {
                None => self.skip_value(kind, depth, false)?,
                Some((_, form)) if !form.fits(kind) => {
                    return Err(format!(
                        "the field {number} of its description has the wrong type {kind}"
                    ));
                }
                Some((_, form)) => {
                    if !take(self, number)? {
                        self.skip_form(*form, kind, depth)?;
                    }
                }
            }
        }
    }

    /// Skips a value of a known form.
    fn skip_form(&mut self, form: Form, kind: u8, depth: usize) -> Result<(), String> {
        if depth > DEEPEST {
            return Err("its description is nested too deep".into());
        }
        match form {
            Form::Struct(fields) => self.structure(fields, depth + 1, &mut |_, _| Ok(false)),
            Form::List(element) => {
                let (count, kind) = self.list_of(*element)?;
                (0..count).try_for_each(|_| self.skip_form(*element, kind, depth + 1))
            }
            _ => self.skip_value(kind, depth, false),
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
            I16 | I32 | I64 => self.unsigned().map(drop),
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
            STRUCT => self.structure(&[], depth + 1, &mut |_, _| Ok(false)),
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

    /// The number of values of a list and their type, which must have this form.
    pub(super) fn list_of(&mut self, element: Form) -> Result<(u64, u8), String> {
        let (count, kind) = self.list()?;
        match count == 0 || element.fits(kind) {
            true => Ok((count, kind)),
            false => Err(format!(
                "a list of its description has values of the wrong type {kind}"
            )),
        }
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

    pub(super) fn signed(&mut self) -> Result<i64, String> {
        let value = self.unsigned()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }
}

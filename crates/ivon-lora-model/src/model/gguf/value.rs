//! The metadata values of a GGUF file, and the positions of its tensors.

use std::ops::Range;

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Unsigned(usize),
    Signed(usize),
    Float(usize),
    Bool,
    Text,
    Array,
}

impl Kind {
    pub(super) fn of(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::Unsigned(1),
            1 => Self::Signed(1),
            2 => Self::Unsigned(2),
            3 => Self::Signed(2),
            4 => Self::Unsigned(4),
            5 => Self::Signed(4),
            6 => Self::Float(4),
            7 => Self::Bool,
            8 => Self::Text,
            9 => Self::Array,
            10 => Self::Unsigned(8),
            11 => Self::Signed(8),
            12 => Self::Float(8),
            _ => return None,
        })
    }

    /// The minimum size of a value in bytes.
    pub(super) fn least_bytes(self) -> usize {
        match self {
            Self::Unsigned(size) | Self::Signed(size) | Self::Float(size) => size,
            Self::Bool => 1,
            Self::Text => 8,
            Self::Array => 12,
        }
    }
}

/// A value of the metadata.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// u8, u16, u32, u64.
    Unsigned(u64),
    /// i8, i16, i32, i64.
    Signed(i64),
    /// f32, f64.
    Float(f64),
    /// A boolean.
    Bool(bool),
    /// UTF-8 text.
    Text(String),
    /// An array, still in the file.
    Array(Array),
}

/// The position of a metadata array.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    pub(super) kind: Kind,
    pub(super) count: usize,
    pub(super) bytes: Range<usize>,
}

/// The description of a tensor in the file.
#[derive(Clone, Debug)]
pub struct TensorEntry {
    /// The shape with rows first, as everywhere else; the file has it reversed.
    pub shape: Vec<usize>,
    /// ggml's number for the encoding.
    pub ggml_type: u32,
    /// The position in its file; empty if ggml does not know the encoding.
    pub bytes: Range<usize>,
    /// The index of its file: 0 except in split models.
    pub(super) part: usize,
}

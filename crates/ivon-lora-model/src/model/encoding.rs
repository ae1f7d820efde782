//! The encodings of stored tensors: safetensors' floats and GGUF's blocks.

/// The encoding of a stored tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Encoding {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
    IQ4NL,
    IQ4XS,
    MXFP4,
}

impl Encoding {
    /// All encodings, with their names in GGUF and their `ggml_type` numbers.
    pub const ALL: [(Self, &'static str, u32); 16] = [
        (Self::F32, "F32", 0),
        (Self::F16, "F16", 1),
        (Self::BF16, "BF16", 30),
        (Self::Q4_0, "Q4_0", 2),
        (Self::Q4_1, "Q4_1", 3),
        (Self::Q5_0, "Q5_0", 6),
        (Self::Q5_1, "Q5_1", 7),
        (Self::Q8_0, "Q8_0", 8),
        (Self::Q2K, "Q2_K", 10),
        (Self::Q3K, "Q3_K", 11),
        (Self::Q4K, "Q4_K", 12),
        (Self::Q5K, "Q5_K", 13),
        (Self::Q6K, "Q6_K", 14),
        (Self::IQ4NL, "IQ4_NL", 20),
        (Self::IQ4XS, "IQ4_XS", 23),
        (Self::MXFP4, "MXFP4", 39),
    ];

    /// The number of values in a block, and its size in bytes.
    pub fn block(self) -> (usize, usize) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::BF16 => (1, 2),
            Self::Q4_0 | Self::IQ4NL => (32, 18),
            Self::Q4_1 => (32, 20),
            Self::Q5_0 => (32, 22),
            Self::Q5_1 => (32, 24),
            Self::Q8_0 => (32, 34),
            Self::Q2K => (256, 84),
            Self::Q3K => (256, 110),
            Self::Q4K => (256, 144),
            Self::Q5K => (256, 176),
            Self::Q6K => (256, 210),
            Self::IQ4XS => (256, 136),
            Self::MXFP4 => (32, 17),
        }
    }

    /// The size in bytes of a row of `columns` numbers; `None` if they are not a whole number of
    /// blocks, or too many.
    pub fn row_bytes(self, columns: usize) -> Option<usize> {
        let (values, bytes) = self.block();
        columns
            .is_multiple_of(values)
            .then(|| (columns / values).checked_mul(bytes))
            .flatten()
    }

    /// GGUF's name of the encoding.
    pub fn name(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(encoding, ..)| *encoding == self)
            .map_or("", |(_, name, _)| name)
    }

    /// The encoding's number in GGUF.
    pub fn ggml_type(self) -> u32 {
        Self::ALL
            .iter()
            .find(|(encoding, ..)| *encoding == self)
            .map_or(0, |(.., number)| *number)
    }

    /// The encoding with this number in GGUF.
    pub fn from_ggml_type(number: u32) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|(.., known)| *known == number)
            .map(|(encoding, ..)| *encoding)
    }
}

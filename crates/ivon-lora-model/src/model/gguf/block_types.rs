//! Every number type of GGUF, supported or not: its name and the size of its blocks.

/// Number in `ggml_type`, name, values in a block, bytes of a block; from ggml's own table. The
/// missing numbers (4, 5, 31 to 33, 36 to 38) were removed from ggml.
const TYPES: [(u32, &str, usize, usize); 34] = [
    (0, "F32", 1, 4),
    (1, "F16", 1, 2),
    (2, "Q4_0", 32, 18),
    (3, "Q4_1", 32, 20),
    (6, "Q5_0", 32, 22),
    (7, "Q5_1", 32, 24),
    (8, "Q8_0", 32, 34),
    (9, "Q8_1", 32, 36),
    (10, "Q2_K", 256, 84),
    (11, "Q3_K", 256, 110),
    (12, "Q4_K", 256, 144),
    (13, "Q5_K", 256, 176),
    (14, "Q6_K", 256, 210),
    (15, "Q8_K", 256, 292),
    (16, "IQ2_XXS", 256, 66),
    (17, "IQ2_XS", 256, 74),
    (18, "IQ3_XXS", 256, 98),
    (19, "IQ1_S", 256, 50),
    (20, "IQ4_NL", 32, 18),
    (21, "IQ3_S", 256, 110),
    (22, "IQ2_S", 256, 82),
    (23, "IQ4_XS", 256, 136),
    (24, "I8", 1, 1),
    (25, "I16", 1, 2),
    (26, "I32", 1, 4),
    (27, "I64", 1, 8),
    (28, "F64", 1, 8),
    (29, "IQ1_M", 256, 56),
    (30, "BF16", 1, 2),
    (34, "TQ1_0", 256, 54),
    (35, "TQ2_0", 256, 66),
    (39, "MXFP4", 32, 17),
    (40, "NVFP4", 64, 36),
    (41, "Q1_0", 128, 18),
];

/// The values and bytes in a block of a type; none for an unknown type.
pub fn block(number: u32) -> Option<(usize, usize)> {
    TYPES
        .iter()
        .find(|(known, ..)| *known == number)
        .map(|(.., values, bytes)| (*values, *bytes))
}

/// The name of a type: ggml's own, or `ggml type 99`.
pub fn name(number: u32) -> String {
    TYPES
        .iter()
        .find(|(known, ..)| *known == number)
        .map_or_else(
            || format!("ggml type {number}"),
            |(_, name, ..)| (*name).into(),
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Encoding;

    #[test]
    fn what_is_read_has_the_same_name_and_block_in_both_tables() {
        for (encoding, known, number) in Encoding::ALL {
            assert_eq!(
                (name(number).as_str(), block(number)),
                (known, Some(encoding.block()))
            );
        }
        // Types that are not read are known by name, so that a refusal can say which it is.
        for (number, known) in [(16, "IQ2_XXS"), (19, "IQ1_S"), (21, "IQ3_S"), (34, "TQ1_0")] {
            assert_eq!(name(number), known);
            assert_eq!(Encoding::from_ggml_type(number), None);
        }
        assert_eq!((name(40), block(40)), ("NVFP4".into(), Some((64, 36))));
        assert_eq!((name(99), block(99)), ("ggml type 99".into(), None));
    }
}

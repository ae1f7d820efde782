//! Blocks of quantised numbers → f32, with the same results as ggml's `dequantize_row_*` and the
//! `gguf` package; and f32 → Q8_0 blocks, as ggml's `quantize_row_q8_0`.
//!
//! Each block of 32 or 256 numbers is stored as small integers with one or two f16 scales; the
//! 256-wide "K" formats and IQ4_XS also have 4- to 6-bit scales for sub-blocks of 16 or 32. The
//! 4-bit integers of IQ4_NL, IQ4_XS and MXFP4 are positions in a table of levels.

use half::f16;
use half::slice::HalfFloatSliceExt;

use super::encoding::Encoding;

/// Decodes a row of numbers to f32.
///
/// `bytes` are the blocks of `out.len()` numbers, `encoding.row_bytes(out.len())` bytes at any
/// alignment.
///
/// # Panics
/// If the length of `bytes` does not fit.
pub fn dequantize_row(encoding: Encoding, bytes: &[u8], out: &mut [f32]) {
    decode_row(encoding, bytes, out);
}

/// [`dequantize_row`] as part of its caller, compiled for the instructions that are available
/// there.
#[inline(always)]
pub fn decode_row(encoding: Encoding, bytes: &[u8], out: &mut [f32]) {
    assert_eq!(
        Some(bytes.len()),
        encoding.row_bytes(out.len()),
        "bytes of {} numbers as {}",
        out.len(),
        encoding.name()
    );
    match encoding {
        Encoding::F32 => out
            .iter_mut()
            .zip(bytes.as_chunks().0)
            .for_each(|(x, b)| *x = f32::from_le_bytes(*b)),
        Encoding::F16 => halves(bytes, out),
        Encoding::BF16 => out
            .iter_mut()
            .zip(bytes.as_chunks().0)
            .for_each(|(x, b)| *x = f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16)),
        Encoding::Q4_0 => each(bytes, out, q4_0),
        Encoding::Q4_1 => each(bytes, out, q4_1),
        Encoding::Q5_0 => each(bytes, out, q5_0),
        Encoding::Q5_1 => each(bytes, out, q5_1),
        Encoding::Q8_0 => each(bytes, out, q8_0),
        Encoding::Q2K => each(bytes, out, q2_k),
        Encoding::Q3K => each(bytes, out, q3_k),
        Encoding::Q4K => each(bytes, out, q4_k),
        Encoding::Q5K => each(bytes, out, q5_k),
        Encoding::Q6K => each(bytes, out, q6_k),
        Encoding::IQ4NL => each(bytes, out, iq4_nl),
        Encoding::IQ4XS => each(bytes, out, iq4_xs),
        Encoding::MXFP4 => each(bytes, out, mxfp4),
    }
}

/// The numbers of a row as 8-bit integers times a scale for each 32 of them, exactly; false if the
/// encoding does not hold such numbers. The integers are as large as they may be: those of four
/// bits are multiplied by 16.
///
/// # Panics
/// If the lengths do not fit.
#[inline(always)]
pub fn integer_row(
    encoding: Encoding,
    bytes: &[u8],
    integers: &mut [i8],
    scales: &mut [f32],
) -> bool {
    let (integers, rest) = integers.as_chunks_mut::<32>();
    assert!(
        rest.is_empty()
            && scales.len() == integers.len()
            && encoding.row_bytes(32 * scales.len()) == Some(bytes.len()),
        "bytes of {} blocks of 32 numbers as {}",
        scales.len(),
        encoding.name()
    );
    let to = integers.iter_mut().zip(scales);
    match encoding {
        Encoding::Q8_0 => {
            for (block, (integers, scale)) in bytes.as_chunks::<34>().0.iter().zip(to) {
                let [low, high, quants @ ..] = block;
                integers.copy_from_slice(pulp::bytemuck::cast_slice(quants));
                *scale = half_to_f32([*low, *high]);
            }
        }
        Encoding::Q4_0 => {
            for (block, (integers, scale)) in bytes.as_chunks::<18>().0.iter().zip(to) {
                let [low, high, nibbles @ ..] = block;
                // (q − 8) · 16, in the high half of a byte.
                let (first, second) = integers.split_at_mut(16);
                let first = first.iter_mut().zip(nibbles);
                first.for_each(|(to, byte)| *to = ((byte << 4) ^ 0x80).cast_signed());
                let second = second.iter_mut().zip(nibbles);
                second.for_each(|(to, byte)| *to = ((byte & 0xf0) ^ 0x80).cast_signed());
                *scale = half_to_f32([*low, *high]) / 16.0;
            }
        }
        _ => return false,
    }
    true
}

/// An f16 as f32, without asking the CPU what it can: 13 zeros behind its bits are a number that is
/// 2¹¹² times too small.
#[inline(always)]
fn half_to_f32(bytes: [u8; 2]) -> f32 {
    let bits = u32::from(u16::from_le_bytes(bytes));
    let (sign, size) = ((bits & 0x8000) << 16, (bits & 0x7fff) << 13);
    // 2¹¹², and the exponent of what is not finite.
    let size = match size < 0x0f80_0000 {
        true => (f32::from_bits(size) * f32::from_bits(0x7780_0000)).to_bits(),
        false => size | 0x7f80_0000,
    };
    f32::from_bits(sign | size)
}

/// Applies the rule of a format to every block. Lengths are known at compile time, so that the
/// rules vectorise.
#[inline(always)]
fn each<const BYTES: usize, const VALUES: usize>(
    bytes: &[u8],
    out: &mut [f32],
    rule: impl Fn(&[u8; BYTES], &mut [f32; VALUES]),
) {
    for (block, out) in bytes.as_chunks().0.iter().zip(out.as_chunks_mut().0) {
        rule(block, out);
    }
}

/// Reads halves through an aligned buffer, because `half` converts many at once where the CPU can.
fn halves(bytes: &[u8], out: &mut [f32]) {
    let mut buffer = [f16::ZERO; 64];
    for (bytes, out) in bytes.chunks(128).zip(out.chunks_mut(64)) {
        let buffer = &mut buffer[..out.len()];
        buffer
            .iter_mut()
            .zip(bytes.as_chunks().0)
            .for_each(|(half, pair)| *half = f16::from_le_bytes(*pair));
        buffer.convert_to_f32_slice(out);
    }
}

/// The f16 at `at`, as f32.
#[inline(always)]
fn scale(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// `(q − 8)·d`: d, 16 bytes of low and high nibbles.
#[inline(always)]
fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let d = scale(block, 0);
    for i in 0..16 {
        out[i] = (i32::from(block[2 + i] & 15) - 8) as f32 * d;
        out[i + 16] = (i32::from(block[2 + i] >> 4) - 8) as f32 * d;
    }
}

/// `q·d + m`.
#[inline(always)]
fn q4_1(block: &[u8; 20], out: &mut [f32; 32]) {
    let (d, m) = (scale(block, 0), scale(block, 2));
    for i in 0..16 {
        out[i] = f32::from(block[4 + i] & 15) * d + m;
        out[i + 16] = f32::from(block[4 + i] >> 4) * d + m;
    }
}

/// The 5-bit numbers of a block: the low four bits in nibbles, the fifth of number i in bit i of
/// `high`.
#[inline(always)]
fn fives(high: [u8; 4], nibbles: &[u8; 16], mut put: impl FnMut(usize, u8)) {
    let high = u32::from_le_bytes(high);
    for (i, &byte) in nibbles.iter().enumerate() {
        put(i, byte & 15 | ((high >> i & 1) as u8) << 4);
        put(i + 16, byte >> 4 | ((high >> (i + 16) & 1) as u8) << 4);
    }
}

/// `(q − 16)·d`.
#[inline(always)]
fn q5_0(block: &[u8; 22], out: &mut [f32; 32]) {
    let [
        d0,
        d1,
        high @ ..,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
        _,
    ] = *block;
    let d = f16::from_le_bytes([d0, d1]).to_f32();
    let nibbles = block.last_chunk().unwrap_or(&[0; 16]);
    fives(high, nibbles, |i, q| {
        out[i] = (i32::from(q) - 16) as f32 * d
    });
}

/// `q·d + m`.
#[inline(always)]
fn q5_1(block: &[u8; 24], out: &mut [f32; 32]) {
    let (d, m) = (scale(block, 0), scale(block, 2));
    let nibbles = block.last_chunk().unwrap_or(&[0; 16]);
    fives([block[4], block[5], block[6], block[7]], nibbles, |i, q| {
        out[i] = f32::from(q) * d + m
    });
}

/// `q·d`, q signed bytes.
#[inline(always)]
fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let d = scale(block, 0);
    for i in 0..32 {
        out[i] = f32::from(block[2 + i] as i8) * d;
    }
}

/// Rounds a row of f32 to blocks of Q8_0 and puts their bytes behind `bytes`: of each 32 numbers
/// d = max|x|/127 as f16, and q = round(x/d), halves away from zero, with the d of before it was
/// rounded. A number that is not finite makes its whole block so.
///
/// # Panics
/// If `row` is no whole number of blocks.
pub fn quantize_q8_0(row: &[f32], bytes: &mut Vec<u8>) {
    let (blocks, rest) = row.as_chunks::<32>();
    assert!(rest.is_empty(), "whole blocks of 32 numbers");
    for block in blocks {
        let is_finite = block.iter().all(|x| x.is_finite());
        let largest = block.iter().fold(0f32, |most, x| most.max(x.abs()));
        let d = if is_finite { largest / 127.0 } else { f32::NAN };
        let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
        bytes.extend(f16::from_f32(d).to_le_bytes());
        bytes.extend(block.map(|x| ((x * inverse).round() as i8).cast_unsigned()));
    }
}

/// 16 sub-blocks of 16: `d·s·q − dmin·m`; 4-bit s and m, 2-bit q.
#[inline(always)]
fn q2_k(block: &[u8; 84], out: &mut [f32; 256]) {
    let (scales, quants) = (&block[..16], &block[16..80]);
    let (d, dmin) = (scale(block, 80), scale(block, 82));
    for (sub, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let (s, m) = (
            d * f32::from(scales[sub] & 15),
            dmin * f32::from(scales[sub] >> 4),
        );
        let (first, shift) = two_bits(sub);
        for (x, q) in out.iter_mut().zip(&quants[first..first + 16]) {
            *x = s * f32::from(q >> shift & 3) - m;
        }
    }
}

/// The position of the 2-bit numbers of sub-block `sub`: first byte and shift. Every 32 bytes hold
/// 128 numbers, in four layers of two bits.
#[inline(always)]
fn two_bits(sub: usize) -> (usize, usize) {
    (sub / 8 * 32 + sub % 2 * 16, sub % 8 / 2 * 2)
}

/// 16 sub-blocks of 16: `d·(s − 32)·(q − 4)`; 6-bit s, 3-bit q with the high bit in a mask.
#[inline(always)]
fn q3_k(block: &[u8; 110], out: &mut [f32; 256]) {
    let (high, quants, scales, d) = (
        &block[..32],
        &block[32..96],
        &block[96..108],
        scale(block, 108),
    );
    for (sub, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let low = scales[sub % 8] >> (sub / 8 * 4) & 15;
        let top = scales[8 + sub % 4] >> (sub / 4 * 2) & 3;
        let s = d * (i32::from(low | top << 4) - 32) as f32;
        let (first, shift) = two_bits(sub);
        let (half, bit) = (sub % 2 * 16, sub / 2);
        for ((x, q), h) in out
            .iter_mut()
            .zip(&quants[first..first + 16])
            .zip(&high[half..half + 16])
        {
            *x = s * (i32::from(q >> shift & 3 | (h >> bit & 1) << 2) - 4) as f32;
        }
    }
}

/// The 6-bit scale and minimum of sub-block `sub` of 8, packed in 12 bytes.
#[inline(always)]
fn scale_and_minimum(packed: &[u8], sub: usize) -> (f32, f32) {
    let (s, m) = if sub < 4 {
        (packed[sub] & 63, packed[sub + 4] & 63)
    } else {
        (
            packed[sub + 4] & 15 | packed[sub - 4] >> 6 << 4,
            packed[sub + 4] >> 4 | packed[sub] >> 6 << 4,
        )
    };
    (f32::from(s), f32::from(m))
}

/// 8 sub-blocks of 32: `d·s·q − dmin·m`; 6-bit s and m, 4-bit q.
#[inline(always)]
fn q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    let (d, dmin, quants) = (scale(block, 0), scale(block, 2), &block[16..]);
    for (sub, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (s, m) = scale_and_minimum(&block[4..16], sub);
        let (s, m) = (d * s, dmin * m);
        let (first, shift) = (sub / 2 * 32, sub % 2 * 4);
        for (x, q) in out.iter_mut().zip(&quants[first..first + 32]) {
            *x = s * f32::from(q >> shift & 15) - m;
        }
    }
}

/// [`q4_k`] with a fifth bit: bit `sub` of one of 32 bytes.
#[inline(always)]
fn q5_k(block: &[u8; 176], out: &mut [f32; 256]) {
    let (d, dmin, high, quants) = (
        scale(block, 0),
        scale(block, 2),
        &block[16..48],
        &block[48..],
    );
    for (sub, out) in out.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (s, m) = scale_and_minimum(&block[4..16], sub);
        let (s, m) = (d * s, dmin * m);
        let (first, shift) = (sub / 2 * 32, sub % 2 * 4);
        for ((x, q), h) in out.iter_mut().zip(&quants[first..first + 32]).zip(high) {
            *x = s * f32::from(q >> shift & 15 | (h >> sub & 1) << 4) - m;
        }
    }
}

/// 16 sub-blocks of 16: `d·s·(q − 32)`; s signed bytes, q four low and two high bits.
#[inline(always)]
fn q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let (low, high, scales, d) = (
        &block[..128],
        &block[128..192],
        &block[192..208],
        scale(block, 208),
    );
    for (sub, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let s = d * f32::from(scales[sub] as i8);
        // Each half of 128 numbers is four layers of 32: two layers of nibbles in 64 bytes, four of
        // bit pairs in 32.
        let (half, layer, part) = (sub / 8, sub % 8 / 2, sub % 2 * 16);
        let (low_first, low_shift) = (half * 64 + layer % 2 * 32 + part, layer / 2 * 4);
        let (high_first, high_shift) = (half * 32 + part, layer * 2);
        for ((x, l), h) in out
            .iter_mut()
            .zip(&low[low_first..low_first + 16])
            .zip(&high[high_first..high_first + 16])
        {
            *x = s * (i32::from(l >> low_shift & 15 | (h >> high_shift & 3) << 4) - 32) as f32;
        }
    }
}

/// The levels of IQ4_NL and IQ4_XS: closer together near zero, as weights are.
const IQ4_LEVELS: [i8; 16] = [
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
];

/// The levels of MXFP4, doubled: the numbers of a float with sign, two bits of exponent and one of
/// mantissa (E2M1).
const MXFP4_LEVELS: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// `d·level(q)` for 32 numbers: 16 bytes, whose low nibbles come first.
#[inline(always)]
fn levels(nibbles: &[u8; 16], d: f32, table: &[i8; 16], out: &mut [f32; 32]) {
    let table = table.map(|level| d * f32::from(level));
    for (i, &byte) in nibbles.iter().enumerate() {
        out[i] = table[usize::from(byte & 15)];
        out[i + 16] = table[usize::from(byte >> 4)];
    }
}

/// `d·level(q)`.
#[inline(always)]
fn iq4_nl(block: &[u8; 18], out: &mut [f32; 32]) {
    let nibbles = block.last_chunk().unwrap_or(&[0; 16]);
    levels(nibbles, scale(block, 0), &IQ4_LEVELS, out);
}

/// 8 sub-blocks of 32: `d·(s − 32)·level(q)`; 6-bit s, whose two high bits lie in a u16.
#[inline(always)]
fn iq4_xs(block: &[u8; 136], out: &mut [f32; 256]) {
    let (d, low) = (scale(block, 0), &block[4..8]);
    let high = u16::from_le_bytes([block[2], block[3]]);
    let nibbles = block[8..].as_chunks().0;
    let subs = nibbles.iter().zip(out.as_chunks_mut().0).enumerate();
    for (sub, (nibbles, out)) in subs {
        let s = low[sub / 2] >> (sub % 2 * 4) & 15 | ((high >> (2 * sub) & 3) as u8) << 4;
        levels(nibbles, d * (i32::from(s) - 32) as f32, &IQ4_LEVELS, out);
    }
}

/// `2^(e − 128)·level(q)`: e a byte without sign (E8M0), one less than its bias of 127 as the
/// levels are doubled.
#[inline(always)]
fn mxfp4(block: &[u8; 17], out: &mut [f32; 32]) {
    let [e, nibbles @ ..] = block;
    levels(nibbles, half_power_of_two(*e), &MXFP4_LEVELS, out);
}

/// `2^(e − 128)`, of which the smallest two are subnormal.
#[inline(always)]
fn half_power_of_two(e: u8) -> f32 {
    f32::from_bits(match e {
        0 | 1 => 0x0020_0000 << e,
        _ => (u32::from(e) - 1) << 23,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len() / 2)
            .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap())
            .collect()
    }

    #[test]
    fn every_block_format_agrees_with_the_gguf_package() {
        let golden = testing::golden_json("gguf_blocks.json");
        let cases = golden["cases"].as_array().unwrap();
        assert!(cases.len() >= 12);
        for case in cases {
            let name = case["type"].as_str().unwrap();
            let encoding =
                Encoding::from_ggml_type(case["ggml_type"].as_u64().unwrap() as u32).unwrap();
            assert_eq!(encoding.name(), name);
            let block = (
                case["values_per_block"].as_u64().unwrap() as usize,
                case["bytes_per_block"].as_u64().unwrap() as usize,
            );
            assert_eq!(encoding.block(), block, "{name}");
            let expected: Vec<f32> = case["values"]
                .as_array()
                .unwrap()
                .iter()
                .map(|x| x.as_f64().unwrap() as f32)
                .collect();
            let mut found = vec![0.0; expected.len()];
            dequantize_row(
                encoding,
                &bytes(case["bytes"].as_str().unwrap()),
                &mut found,
            );
            let largest = expected.iter().fold(0f32, |most, x| most.max(x.abs()));
            for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
                assert!(
                    (found - expected).abs() <= 1e-6 * largest,
                    "{name}, number {i}: found {found}, expected {expected}"
                );
            }
        }
    }

    #[test]
    fn every_block_format_has_a_case_in_the_golden_file() {
        let path = testing::workspace().join("testdata/golden/gguf_blocks.json");
        let golden: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let cases = golden["cases"].as_array().unwrap();
        for (encoding, name, _) in Encoding::ALL {
            let is_there = cases.iter().any(|case| case["type"] == name);
            assert!(is_there || encoding == Encoding::F32, "{name}");
        }
    }

    #[test]
    fn the_scale_of_mxfp4_is_a_power_of_two_down_to_the_subnormal_ones() {
        // 1 is level 2 at e = 127, as levels are doubled.
        assert_eq!(half_power_of_two(127) * 2.0, 1.0);
        for e in 0..=255u8 {
            let expected = 2f64.powi(i32::from(e) - 128);
            assert_eq!(f64::from(half_power_of_two(e)), expected, "{e}");
        }
    }

    #[test]
    fn integers_times_scales_are_the_numbers_of_a_block() {
        let golden = testing::golden_json("gguf_blocks.json");
        let mut count = 0;
        for case in golden["cases"].as_array().unwrap() {
            let encoding =
                Encoding::from_ggml_type(case["ggml_type"].as_u64().unwrap() as u32).unwrap();
            let bytes = bytes(case["bytes"].as_str().unwrap());
            let mut expected = vec![0.0; case["values"].as_array().unwrap().len()];
            dequantize_row(encoding, &bytes, &mut expected);
            if !expected.len().is_multiple_of(32) {
                continue;
            }
            let (mut integers, mut scales) =
                (vec![0; expected.len()], vec![0.0; expected.len() / 32]);
            if integer_row(encoding, &bytes, &mut integers, &mut scales) {
                for (i, expected) in expected.iter().enumerate() {
                    assert_eq!(f32::from(integers[i]) * scales[i / 32], *expected);
                }
                count += 1;
            }
        }
        assert_eq!(count, 2);
    }

    #[test]
    fn every_half_is_converted_as_the_half_crate_does() {
        for bits in 0..=u16::MAX {
            let (found, expected) = (
                half_to_f32(bits.to_le_bytes()),
                f16::from_bits(bits).to_f32(),
            );
            let is_same = found.to_bits() == expected.to_bits();
            assert!(is_same || found.is_nan() && expected.is_nan(), "{bits:#x}");
        }
    }

    #[test]
    fn rounding_is_that_of_ggml() {
        // max|x| = 127: d = 1, 0x3c00 as f16; halves go away from zero.
        let mut row = [0f32; 32];
        row[..8].copy_from_slice(&[127.0, -127.0, 2.5, -2.5, 0.5, -0.5, 0.49, 1.4]);
        let mut found = Vec::new();
        quantize_q8_0(&row, &mut found);
        let expected = [0x00, 0x3c, 127, 129, 3, 253, 1, 255, 0, 1];
        assert_eq!((&found[..10], found.len()), (&expected[..], 34));
        // What blocks hold is rounded to the same blocks.
        let (mut back, mut again) = ([0.0; 32], Vec::new());
        dequantize_row(Encoding::Q8_0, &found, &mut back);
        quantize_q8_0(&back, &mut again);
        assert_eq!(again, found);
        // d = 2/127 is 0x2408 as f16.
        let mut found = Vec::new();
        quantize_q8_0(&row.map(|x| x * 2.0 / 127.0), &mut found);
        assert_eq!(found[..4], [0x08, 0x24, 127, 129]);
        // A block of zeros has the scale 0, and one with a number that is not finite is not.
        let mut bytes = Vec::new();
        quantize_q8_0(&[0.0; 32], &mut bytes);
        assert_eq!(bytes, [0; 34]);
        for wrong in [f32::NAN, f32::INFINITY] {
            let (mut row, mut bytes, mut back) = ([1.0; 32], Vec::new(), [0.0; 32]);
            row[3] = wrong;
            quantize_q8_0(&row, &mut bytes);
            dequantize_row(Encoding::Q8_0, &bytes, &mut back);
            assert!(back.iter().all(|x| x.is_nan()));
        }
    }

    #[test]
    fn numbers_of_the_gguf_package_s_blocks_are_rounded_to_near_ones() {
        let golden = testing::golden_json("gguf_blocks.json");
        let cases = golden["cases"].as_array().unwrap();
        let case = cases.iter().find(|case| case["type"] == "Q8_0").unwrap();
        let expected = bytes(case["bytes"].as_str().unwrap());
        let mut values = vec![0.0; 96];
        dequantize_row(Encoding::Q8_0, &expected, &mut values);
        let mut found = Vec::new();
        quantize_q8_0(&values, &mut found);
        let (mut again, largest) = (vec![0.0; 96], |row: &[f32]| {
            row.iter().fold(0f32, |most, x| most.max(x.abs()))
        });
        dequantize_row(Encoding::Q8_0, &found, &mut again);
        // Half a step, and the f16 of the scale (2⁻¹¹) over at most 127 steps.
        for (block, again) in values.chunks(32).zip(again.chunks(32)) {
            let bound = largest(block) * (0.5 / 127.0 + 1.0 / 2048.0);
            for (value, again) in block.iter().zip(again) {
                assert!((value - again).abs() <= bound, "{value}: {again}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "bytes of 64 numbers as Q8_0")]
    fn a_row_with_too_few_bytes_is_the_callers_mistake() {
        dequantize_row(Encoding::Q8_0, &[0; 34], &mut [0.0; 64]);
    }
}

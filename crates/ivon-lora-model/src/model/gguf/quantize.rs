//! f32 → F32, F16, BF16, Q8_0 and Q4_0, with the same results as ggml's `quantize_row_*_ref`.

use half::{bf16, f16};

use crate::model::encoding::Encoding;

/// Appends the encoded bytes of whole rows.
type Encode = fn(&[f32], &mut Vec<u8>);

/// The function that encodes to this encoding; `None` for read-only encodings.
pub(super) fn encodable(encoding: Encoding) -> Option<Encode> {
    Some(match encoding {
        Encoding::F32 => |values, out| out.extend(values.iter().flat_map(|x| x.to_le_bytes())),
        Encoding::F16 => {
            |values, out| out.extend(values.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()))
        }
        Encoding::BF16 => {
            |values, out| out.extend(values.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()))
        }
        Encoding::Q8_0 => |values, out| {
            values
                .as_chunks()
                .0
                .iter()
                .for_each(|block| q8_0(block, out))
        },
        Encoding::Q4_0 => |values, out| {
            values
                .as_chunks()
                .0
                .iter()
                .for_each(|block| q4_0(block, out))
        },
        _ => return None,
    })
}

/// Appends whole rows to `out`; `false`, with nothing appended, for a read-only encoding or an
/// incomplete block.
pub fn quantize(encoding: Encoding, values: &[f32], out: &mut Vec<u8>) -> bool {
    match encodable(encoding).filter(|_| values.len().is_multiple_of(encoding.block().0)) {
        Some(encode) => {
            encode(values, out);
            true
        }
        None => false,
    }
}

/// `1 / d`, and 0 for a block of zeros.
fn inverse(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}

/// `d = max|x| / 127`, `q = round(x / d)`.
fn q8_0(block: &[f32; 32], out: &mut Vec<u8>) {
    let d = block.iter().fold(0f32, |most, x| most.max(x.abs())) / 127.0;
    out.extend(f16::from_f32(d).to_le_bytes());
    out.extend(block.iter().map(|x| (x * inverse(d)).round() as i8 as u8));
}

/// `d = x_max / −8` with the sign of the number of largest magnitude, which thus takes the value
/// that has no counterpart of the other sign.
fn q4_0(block: &[f32; 32], out: &mut Vec<u8>) {
    let largest = block
        .iter()
        .fold(0f32, |most, x| if x.abs() > most.abs() { *x } else { most });
    let d = largest / -8.0;
    let quant = |x: f32| ((x * inverse(d) + 8.5) as u8).min(15);
    out.extend(f16::from_f32(d).to_le_bytes());
    out.extend((0..16).map(|i| quant(block[i]) | quant(block[i + 16]) << 4));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::blocks::dequantize_row;

    /// Smooth numbers of both signs.
    fn values() -> Vec<f32> {
        (0..256)
            .map(|i| (i as f32 * 0.37).sin() * (1.0 + i as f32 / 64.0))
            .collect()
    }

    #[test]
    fn numbers_come_back_within_half_a_step() {
        for (encoding, step) in [
            (Encoding::F32, 0.0),
            (Encoding::F16, 0.002),
            (Encoding::BF16, 0.016),
            (Encoding::Q8_0, 0.021),
            (Encoding::Q4_0, 0.63),
        ] {
            let (values, mut bytes, mut back) = (values(), Vec::new(), vec![0.0; 256]);
            assert!(quantize(encoding, &values, &mut bytes));
            dequantize_row(encoding, &bytes, &mut back);
            // The largest number is 5, so the step is 5/127 in Q8_0 and 5/8 in Q4_0; Q4_0 clips one
            // end by one step.
            for (x, y) in values.iter().zip(&back) {
                assert!((x - y).abs() <= step, "{} {x} {y}", encoding.name());
            }
        }
    }

    #[test]
    fn a_block_of_zeros_stays_zero() {
        for encoding in [Encoding::Q8_0, Encoding::Q4_0] {
            let (mut bytes, mut back) = (Vec::new(), vec![1.0; 32]);
            assert!(quantize(encoding, &[0.0; 32], &mut bytes));
            dequantize_row(encoding, &bytes, &mut back);
            assert!(back.iter().all(|x| *x == 0.0));
        }
    }

    #[test]
    fn what_cannot_be_encoded_says_so() {
        let mut out = Vec::new();
        assert!(
            !quantize(Encoding::Q6K, &[0.0; 256], &mut out)
                && !quantize(Encoding::Q8_0, &[0.0; 33], &mut out)
        );
        assert!(out.is_empty());
    }
}

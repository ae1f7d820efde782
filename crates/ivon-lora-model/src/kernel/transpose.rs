//! Transposition in squares of 8 × 8.

use crate::model::PANEL;

/// out[column · out_stride + row] ← x[row · stride + column] for `[rows, columns]` of x.
pub fn transpose(
    x: &[f32],
    stride: usize,
    [rows, columns]: [usize; 2],
    out: &mut [f32],
    out_stride: usize,
) {
    if rows == 0 || columns == 0 {
        return;
    }
    assert!(
        (rows - 1) * stride + columns <= x.len() && (columns - 1) * out_stride + rows <= out.len(),
        "a transpose within its slices"
    );
    let whole = if squares(x, stride, [rows, columns], out, out_stride) {
        [rows / 8 * 8, columns / 8 * 8]
    } else {
        [0, 0]
    };
    for row in 0..rows {
        for column in (if row < whole[0] { whole[1] } else { 0 })..columns {
            out[column * out_stride + row] = x[row * stride + column];
        }
    }
}

/// out[k · PANEL + row] ← panel[row · PANEL + k] for the sixteen k of a panel's rows `[rows,
/// PANEL]`: sixteen rows become a panel, and panels start `out_stride` apart.
pub fn turn(panel: &[f32], out: &mut [f32], out_stride: usize) {
    let sixteens = panel.chunks(PANEL * PANEL).count();
    assert!(
        sixteens == 0 || (sixteens - 1) * out_stride + PANEL * PANEL <= out.len(),
        "a panel turned within its slice"
    );
    for (index, rows) in panel.chunks(PANEL * PANEL).enumerate() {
        let out = &mut out[index * out_stride..][..PANEL * PANEL];
        if rows.len() < out.len() {
            out.fill(0.0);
        }
        transpose(rows, PANEL, [rows.len() / PANEL, PANEL], out, PANEL);
    }
}

/// Transposes all whole squares of 8 × 8; false if the CPU has no instructions for it.
#[cfg(target_arch = "x86_64")]
fn squares(
    x: &[f32],
    stride: usize,
    [rows, columns]: [usize; 2],
    out: &mut [f32],
    out_stride: usize,
) -> bool {
    if !std::arch::is_x86_feature_detected!("avx") {
        return false;
    }
    for column in (0..columns / 8 * 8).step_by(8) {
        for row in (0..rows / 8 * 8).step_by(8) {
            // SAFETY: AVX is available, and `transpose` has checked that the squares are in the
            // slices.
            unsafe {
                square(
                    x.as_ptr().add(row * stride + column),
                    stride,
                    out.as_mut_ptr().add(column * out_stride + row),
                    out_stride,
                )
            }
        }
    }
    true
}

#[cfg(not(target_arch = "x86_64"))]
fn squares(_: &[f32], _: usize, _: [usize; 2], _: &mut [f32], _: usize) -> bool {
    false
}

/// One square: interleaves pairs of rows, then pairs of pairs, then exchanges halves of registers.
///
/// # Safety
/// Both places have eight rows of eight numbers, `stride` and `out_stride` apart.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx")]
unsafe fn square(x: *const f32, stride: usize, out: *mut f32, out_stride: usize) {
    use std::arch::x86_64::*;
    let rows: [__m256; 8] =
        std::array::from_fn(|row| unsafe { _mm256_loadu_ps(x.add(row * stride)) });
    let mut pairs = rows;
    for i in 0..4 {
        pairs[2 * i] = _mm256_unpacklo_ps(rows[2 * i], rows[2 * i + 1]);
        pairs[2 * i + 1] = _mm256_unpackhi_ps(rows[2 * i], rows[2 * i + 1]);
    }
    let mut fours = pairs;
    for i in [0, 4] {
        fours[i] = _mm256_shuffle_ps::<0x44>(pairs[i], pairs[i + 2]);
        fours[i + 1] = _mm256_shuffle_ps::<0xee>(pairs[i], pairs[i + 2]);
        fours[i + 2] = _mm256_shuffle_ps::<0x44>(pairs[i + 1], pairs[i + 3]);
        fours[i + 3] = _mm256_shuffle_ps::<0xee>(pairs[i + 1], pairs[i + 3]);
    }
    for i in 0..4 {
        unsafe {
            _mm256_storeu_ps(
                out.add(i * out_stride),
                _mm256_permute2f128_ps::<0x20>(fours[i], fours[i + 4]),
            );
            _mm256_storeu_ps(
                out.add((i + 4) * out_stride),
                _mm256_permute2f128_ps::<0x31>(fours[i], fours[i + 4]),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_finds_its_place_and_no_other_is_touched() {
        for shape @ [rows, columns] in [[1, 1], [8, 8], [16, 24], [13, 21], [3, 40]] {
            let (stride, out_stride) = (columns + 3, rows + 2);
            let x: Vec<f32> = (0..rows * stride).map(|i| i as f32).collect();
            let mut out = vec![-1.0; columns * out_stride];
            transpose(&x, stride, shape, &mut out, out_stride);
            for column in 0..columns {
                for row in 0..out_stride {
                    let expected = if row < rows {
                        x[row * stride + column]
                    } else {
                        -1.0
                    };
                    assert_eq!(
                        out[column * out_stride + row],
                        expected,
                        "{shape:?} at {row}, {column}"
                    );
                }
            }
        }
    }
}

//! Packs pieces of a frozen matrix into panels of 8-bit integers.
//!
//! Forward, the integers are those of the matrix's blocks where it has 8-bit integers with a scale
//! for 32 columns (Q8_0, Q4_0); other numbers are rounded to such blocks here. Backward, the depth
//! runs along the rows, each of which has other scales, and these cannot leave a sum of integers: so
//! the integers are rounded a second time, to one scale for 32 rows and 32 columns.

use std::ops::Range;

use pulp::bytemuck;

use super::rows::{largest, scale_of, to_integer};
use super::tile::{BLOCK, PanelBlock, SHIFT};
use crate::kernel::simd::wide;
use crate::kernel::transpose::transpose;
use crate::model::{FrozenMatrix, PANEL, integer_row};

/// Bits of the ratio of two scales behind its point.
const RATIO_BITS: u32 = 15;
/// The largest such ratio, 127 / 128: an integer of eight bits times it has at most the size of 127.
const LARGEST_RATIO: f32 = 32_512.0;

/// Panels, and what they are made of.
#[derive(Default)]
pub struct Scratch {
    /// Panels, each with as many blocks as the piece has.
    pub panels: Vec<PanelBlock>,
    rows: IntegerRows,
}

/// Rows of W in blocks of integers.
#[derive(Default)]
struct IntegerRows {
    /// Four integers in each number, `[rows, blocks, BLOCK]`: the transposition moves numbers.
    integers: Vec<f32>,
    /// `[rows, blocks]`.
    scales: Vec<f32>,
    /// A row that is to be rounded.
    numbers: Vec<f32>,
}

impl Scratch {
    /// Panels of Wᵀ: rows `outputs` of W at its columns `depth`, padded with zeros.
    pub fn pack_turned(
        &mut self,
        matrix: &FrozenMatrix,
        outputs: Range<usize>,
        depth: Range<usize>,
    ) {
        let blocks = depth.len().div_ceil(BLOCK);
        let count = outputs.len().div_ceil(PANEL);
        self.panels.resize(count * blocks, PanelBlock::ZERO);
        let panels = self.panels.chunks_exact_mut(blocks);
        for (panel, first) in panels.zip(outputs.clone().step_by(PANEL)) {
            let rows = first..outputs.end.min(first + PANEL);
            self.rows.read(matrix, rows, PANEL, &depth);
            self.rows.turn(panel);
        }
    }

    /// Panels of W: rows `depth` of W at its columns `inputs`, padded with zeros.
    pub fn pack(&mut self, matrix: &FrozenMatrix, depth: Range<usize>, inputs: Range<usize>) {
        let blocks = depth.len().div_ceil(BLOCK);
        let count = 2 * inputs.len().div_ceil(2 * PANEL);
        self.panels.resize(count * blocks, PanelBlock::ZERO);
        for (block, first) in depth.clone().step_by(BLOCK).enumerate() {
            let rows = first..depth.end.min(first + BLOCK);
            let next = rows.end..depth.end.min(rows.end + BLOCK);
            next.for_each(|row| prefetch(matrix, row, &inputs));
            self.rows.read(matrix, rows, BLOCK, &inputs);
            for pair in 0..count / 2 {
                let two = &mut self.panels[2 * pair * blocks..][..2 * blocks];
                let (one, other) = two.split_at_mut(blocks);
                self.rows.join(pair, [&mut one[block], &mut other[block]]);
            }
        }
    }
}

/// Asks for a part of an encoded row, which is too short for the CPU to see it coming.
fn prefetch(matrix: &FrozenMatrix, row: usize, columns: &Range<usize>) {
    #[cfg(target_arch = "x86_64")]
    if let Some((_, bytes)) = matrix.encoded(row, columns) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        for line in bytes.chunks(64) {
            // SAFETY: an address within a slice.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
        }
    }
}

impl IntegerRows {
    /// Reads `rows` of W at its columns `columns`, and zeros for those that are missing to `count`.
    fn read(
        &mut self,
        matrix: &FrozenMatrix,
        rows: Range<usize>,
        count: usize,
        columns: &Range<usize>,
    ) {
        let blocks = columns.len().div_ceil(BLOCK);
        self.integers.resize(count * blocks * BLOCK / 4, 0.0);
        self.scales.resize(count * blocks, 0.0);
        let integers: &mut [i8] = bytemuck::cast_slice_mut(&mut self.integers);
        let there = rows.len();
        integers[there * blocks * BLOCK..].fill(0);
        self.scales[there * blocks..].fill(0.0);
        let places = integers.chunks_exact_mut(blocks * BLOCK);
        let places = places.zip(self.scales.chunks_exact_mut(blocks));
        for (index, (integers, scales)) in rows.zip(places) {
            if let Some((encoding, bytes)) = matrix.encoded(index, columns)
                && columns.len().is_multiple_of(BLOCK)
            {
                let mut is_exact = false;
                wide(
                    #[inline(always)]
                    || is_exact = integer_row(encoding, bytes, integers, scales),
                );
                if is_exact {
                    continue;
                }
            }
            self.numbers.resize(blocks * BLOCK, 0.0);
            self.numbers[columns.len()..].fill(0.0);
            matrix.part(index, columns.clone(), &mut self.numbers[..columns.len()]);
            round(&self.numbers, integers, scales);
        }
    }

    /// Transposes [`PANEL`] rows, in groups of four integers, to the blocks of a panel.
    fn turn(&self, panel: &mut [PanelBlock]) {
        let (words, blocks) = (BLOCK / 4, panel.len());
        let stride = blocks * words;
        for (block, to) in panel.iter_mut().enumerate() {
            let from = &self.integers[block * words..];
            let out: &mut [[u8; 4]] = to.integers.as_flattened_mut();
            let place: &mut [f32] = bytemuck::cast_slice_mut(&mut *out);
            transpose(from, stride, [PANEL, words], place, PANEL);
            for (row, scale) in to.scales.iter_mut().enumerate() {
                *scale = self.scales[row * blocks + block];
            }
        }
        wide(
            #[inline(always)]
            || {
                for byte in panel.iter_mut().flat_map(|block| &mut block.integers) {
                    for byte in byte.as_flattened_mut() {
                        *byte ^= SHIFT as u8;
                    }
                }
            },
        );
    }

    /// Rounds [`BLOCK`] rows at the columns of a block to a common scale and joins groups of four
    /// rows, in two panels.
    fn join(&self, block: usize, [first, second]: [&mut PanelBlock; 2]) {
        let blocks = self.scales.len() / BLOCK;
        let scales = std::array::from_fn(|row| self.scales[row * blocks + block]);
        let (scale, ratios) = common_scale(&scales);
        (first.scales, second.scales) = ([scale; PANEL], [scale; PANEL]);
        let integers: &[i8] = bytemuck::cast_slice(&self.integers);
        let rows = integers.as_chunks::<BLOCK>().0;
        let groups = first.integers.iter_mut().zip(&mut second.integers);
        let groups = groups.zip(ratios.as_chunks::<4>().0).enumerate();
        for (group, ((first, second), ratios)) in groups {
            let row = |k: usize| &rows[(4 * group + k) * blocks + block];
            join_four([row(0), row(1), row(2), row(3)], *ratios, [first, second]);
        }
    }
}

/// Four rows rounded again, their integers plus [`SHIFT`] side by side.
fn join_four(rows: [&[i8; BLOCK]; 4], ratios: [i16; 4], to: [&mut [[u8; 4]; PANEL]; 2]) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: AVX2 is available.
        return unsafe { join_four_avx2(rows, ratios, to) };
    }
    join_four_portable(rows, ratios, to);
}

/// What [`join_four`] computes, for any CPU.
fn join_four_portable(rows: [&[i8; BLOCK]; 4], ratios: [i16; 4], to: [&mut [[u8; 4]; PANEL]; 2]) {
    let [first, second] = to;
    for (column, to) in first.iter_mut().chain(second).enumerate() {
        for ((to, row), ratio) in to.iter_mut().zip(rows).zip(ratios) {
            *to = (i32::from(again(row[column], ratio)) + SHIFT) as u8;
        }
    }
}

/// [`join_four_portable`], sixteen columns at a time.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn join_four_avx2(rows: [&[i8; BLOCK]; 4], ratios: [i16; 4], to: [&mut [[u8; 4]; PANEL]; 2]) {
    use std::arch::x86_64::*;
    let shift = _mm256_set1_epi16(SHIFT as i16);
    for (half, to) in to.into_iter().enumerate() {
        let mut shifted = [_mm256_setzero_si256(); 4];
        for ((shifted, row), ratio) in shifted.iter_mut().zip(rows).zip(ratios) {
            // SAFETY: a half of 32 bytes.
            let bytes = unsafe { _mm_loadu_si128(row.as_ptr().add(half * PANEL).cast()) };
            let rounded =
                _mm256_mulhrs_epi16(_mm256_cvtepi8_epi16(bytes), _mm256_set1_epi16(ratio));
            *shifted = _mm256_add_epi16(rounded, shift);
        }
        let [a, b, c, d] = shifted;
        let low = _mm256_or_si256(a, _mm256_slli_epi16::<8>(b));
        let high = _mm256_or_si256(c, _mm256_slli_epi16::<8>(d));
        // Columns 0 to 3 and 8 to 11, 4 to 7 and 12 to 15.
        let even = _mm256_unpacklo_epi16(low, high);
        let odd = _mm256_unpackhi_epi16(low, high);
        let place = to.as_mut_ptr().cast::<__m256i>();
        // SAFETY: 64 bytes.
        unsafe {
            _mm256_storeu_si256(place, _mm256_permute2x128_si256::<0x20>(even, odd));
            _mm256_storeu_si256(place.add(1), _mm256_permute2x128_si256::<0x31>(even, odd));
        }
    }
}

/// The scale that replaces those of some rows, and their ratios to it.
fn common_scale(scales: &[f32; BLOCK]) -> (f32, [i16; BLOCK]) {
    let largest = largest(scales);
    if !largest.is_finite() {
        return (f32::NAN, [0; BLOCK]);
    }
    let inverse = if largest == 0.0 {
        0.0
    } else {
        LARGEST_RATIO / largest
    };
    let ratios = scales.map(|scale| (scale * inverse).round_ties_even() as i16);
    let scale = largest * ((1 << RATIO_BITS) as f32 / LARGEST_RATIO);
    (scale, ratios)
}

/// q · ratio to the nearest integer.
fn again(q: i8, ratio: i16) -> i16 {
    let product = i32::from(q) * i32::from(ratio);
    ((product + (1 << (RATIO_BITS - 1))) >> RATIO_BITS) as i16
}

/// Rounds a row of numbers to blocks of integers.
fn round(numbers: &[f32], integers: &mut [i8], scales: &mut [f32]) {
    wide(
        #[inline(always)]
        || {
            let blocks = numbers.as_chunks::<BLOCK>().0.iter();
            let places = integers.as_chunks_mut::<BLOCK>().0.iter_mut();
            for ((block, to), scale) in blocks.zip(places).zip(scales.iter_mut()) {
                let (of_block, inverse) = scale_of(largest(block));
                for (to, x) in to.iter_mut().zip(block) {
                    *to = to_integer(x * inverse);
                }
                *scale = of_block;
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers of a panel, `[depth, PANEL]`.
    fn numbers(panel: &[PanelBlock]) -> Vec<[f32; PANEL]> {
        let row = |block: &PanelBlock, k: usize| {
            std::array::from_fn(|lane| {
                let integer = i32::from(block.integers[k / 4][lane][k % 4]) - SHIFT;
                integer as f32 * block.scales[lane]
            })
        };
        let blocks = panel.iter();
        blocks
            .flat_map(|block| (0..BLOCK).map(move |k| row(block, k)))
            .collect()
    }

    #[test]
    fn panels_hold_the_numbers_of_the_matrix_and_zeros() {
        let values =
            (0..70 * 96).map(|i| ((i * 7919 % 101) as f32 - 50.0) / 50.0 * (i / 96) as f32);
        let values: Vec<f32> = values.collect();
        let matrix = FrozenMatrix::new(70, 96, values.clone());
        let mut scratch = Scratch::default();
        // Left by another product.
        scratch.pack(&matrix, 0..70, 0..96);
        scratch.pack_turned(&matrix, 40..70, 32..96);
        for (panel, first) in scratch.panels.chunks(2).zip([40, 56]) {
            for (column, row) in (32..).zip(numbers(panel)) {
                for (output, found) in (first..).zip(row) {
                    let expected = match output < 70 {
                        true => values[output * 96 + column],
                        false => 0.0,
                    };
                    let most = output as f32 / 254.0 * 1.001;
                    assert!((found - expected).abs() <= most, "{output}, {column}");
                }
            }
        }
        scratch.pack(&matrix, 5..50, 32..96);
        for (panel, first) in scratch.panels.chunks(2).zip((32..).step_by(PANEL)) {
            for (row, found) in (5..).zip(numbers(panel)) {
                for (column, found) in (first..).zip(found) {
                    let expected = match row < 50 {
                        true => values[row * 96 + column],
                        false => 0.0,
                    };
                    // A row's own rounding, and that to the largest scale of 32 rows.
                    let largest = if row < 37 { 36 } else { 49 } as f32;
                    let most = (row.min(49) as f32 + largest * 128.0 / 127.0) / 254.0 * 1.01;
                    assert!((found - expected).abs() <= most, "{row}, {column}");
                }
            }
        }
    }

    #[test]
    fn four_rows_are_joined_with_the_same_bits_on_any_cpu() {
        let row = |k: usize| std::array::from_fn(|i| (i * 37 + k * 89) as u8 as i8);
        let rows: [[i8; BLOCK]; 4] = std::array::from_fn(row);
        let rows = rows.each_ref();
        for ratios in [[32_512, -32_512, 0, 1], [-1, 16_256, 20_000, -9_999]] {
            let mut found = [[[0; 4]; PANEL]; 4];
            let [a, b, c, d] = &mut found;
            join_four(rows, ratios, [a, b]);
            join_four_portable(rows, ratios, [c, d]);
            assert!(found[..2] == found[2..]);
        }
    }

    #[test]
    fn an_integer_that_is_rounded_again_keeps_within_eight_bits() {
        let mut scales = [1.0; BLOCK];
        scales[1] = -0.5;
        scales[2] = 0.0;
        let (scale, ratios) = common_scale(&scales);
        assert_eq!((ratios[0], ratios[1], ratios[2]), (32_512, -16_256, 0));
        for q in [-128, -127, -1, 0, 1, 5, 127] {
            for (row, scale_of_row) in [(0, 1.0), (1, -0.5)] {
                let rounded = again(q, ratios[row]);
                assert!((-127..=127).contains(&rounded));
                let off = f32::from(rounded) * scale - f32::from(q) * scale_of_row;
                assert!(off.abs() <= 0.5001 * scale, "{q}: {off}");
            }
        }
        scales[3] = f32::NAN;
        assert!(common_scale(&scales).0.is_nan());
        assert_eq!(common_scale(&[0.0; BLOCK]), (0.0, [0; BLOCK]));
    }
}

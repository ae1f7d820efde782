//! The innermost product of 8-bit integers: a few rows of x times a few panels of W, block by block
//! of the depth. The sum of a block is an integer and exact; sums of blocks are added in f32, in the
//! order of the blocks.
//!
//! [`portable`] is what all forms compute, bit for bit.

use crate::model::PANEL;

/// The depth of a block: what shares a scale.
pub const BLOCK: usize = 32;
/// Integers that one instruction multiplies and adds in a lane.
const GROUP: usize = 4;
/// Groups of a block.
const GROUPS: usize = BLOCK / GROUP;
/// What is added to the integers of W, so that they have no sign.
pub const SHIFT: i32 = 128;

/// A block of a row of x: scale · integers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub struct RowBlock {
    pub integers: [[i8; GROUP]; GROUPS],
    pub scale: f32,
    /// −[`SHIFT`] · Σ integers: what the shift of W adds to a sum, taken off.
    pub offset: i32,
}

/// A block of a panel: [`PANEL`] columns of the result side by side, groups of the depth together.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, align(64))]
pub struct PanelBlock {
    /// The integers plus [`SHIFT`].
    pub integers: [[[u8; GROUP]; PANEL]; GROUPS],
    /// A scale for each column.
    pub scales: [f32; PANEL],
}

impl PanelBlock {
    /// Nothing but zeros.
    pub const ZERO: Self = Self {
        integers: [[[SHIFT as u8; GROUP]; PANEL]; GROUPS],
        scales: [0.0; PANEL],
    };
}

/// Sums of T rows of x and V panels.
pub type Sums<const T: usize, const V: usize> = [[[f32; PANEL]; V]; T];

/// The instructions of a form of the product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instructions {
    /// Those of any CPU.
    Portable,
    /// Products of 16-bit integers, added in pairs.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// Products of 8-bit integers, added in fours, in vectors of 32 bytes.
    #[cfg(target_arch = "x86_64")]
    AvxVnni,
    /// The same in vectors of 64 bytes.
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
}

impl Instructions {
    /// The instructions that this CPU has, the best last.
    #[cfg(target_arch = "x86_64")]
    pub fn available() -> Vec<Self> {
        use std::arch::is_x86_feature_detected as has;
        let is_avx2 = has!("avx2") && has!("fma");
        let all = [
            (Self::Portable, true),
            (Self::Avx2, is_avx2),
            (Self::AvxVnni, is_avx2 && has!("avxvnni")),
            (Self::Avx512Vnni, has!("avx512f") && has!("avx512vnni")),
        ];
        let available = all.into_iter().filter(|(_, has)| *has);
        available.map(|(instructions, _)| instructions).collect()
    }

    /// The instructions that this CPU has, the best last.
    #[cfg(not(target_arch = "x86_64"))]
    pub fn available() -> Vec<Self> {
        vec![Self::Portable]
    }

    /// The best that this CPU has.
    pub fn best() -> Self {
        static BEST: std::sync::OnceLock<Instructions> = std::sync::OnceLock::new();
        *BEST.get_or_init(|| Self::available().pop().unwrap_or(Self::Portable))
    }

    /// Rows of x and panels of a tile: what the registers hold.
    pub fn tile(self) -> [usize; 2] {
        match self {
            Self::Portable => [1, 1],
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => [4, 1],
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni => [3, 1],
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni => [6, 2],
        }
    }

    /// sums ← sums + x · panels, over as many blocks as each of them has.
    pub fn add<const T: usize, const V: usize>(
        self,
        x: [&[RowBlock]; T],
        panels: [&[PanelBlock]; V],
        sums: &mut Sums<T, V>,
    ) {
        let blocks = x.first().map_or(0, |row| row.len());
        assert!(
            x.iter().all(|row| row.len() == blocks) && panels.iter().all(|p| p.len() == blocks),
            "as many blocks on both sides"
        );
        match self {
            Self::Portable => portable(x, panels, sums),
            // SAFETY: `available` has found the instructions.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { x86::avx2(x, panels, sums) },
            #[cfg(target_arch = "x86_64")]
            Self::AvxVnni => unsafe { x86::avx_vnni(x, panels, sums) },
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni => unsafe { x86::avx512_vnni(x, panels, sums) },
        }
    }
}

/// sum ← sum + scale(x) · (scale(W) · Σ integer(x) · integer(W)), block by block; the last product
/// and the addition are rounded once.
fn portable<const T: usize, const V: usize>(
    x: [&[RowBlock]; T],
    panels: [&[PanelBlock]; V],
    sums: &mut Sums<T, V>,
) {
    for (row, sums) in x.iter().zip(sums) {
        for (panel, sums) in panels.iter().zip(sums) {
            for (x, w) in row.iter().zip(*panel) {
                let mut integers = [x.offset; PANEL];
                for (x, w) in x.integers.iter().zip(&w.integers) {
                    for (integer, w) in integers.iter_mut().zip(w) {
                        let products = x.iter().zip(w);
                        let products = products.map(|(x, w)| i32::from(*x) * i32::from(*w));
                        *integer += products.sum::<i32>();
                    }
                }
                for (lane, sum) in sums.iter_mut().enumerate() {
                    *sum = (integers[lane] as f32 * w.scales[lane]).mul_add(x.scale, *sum);
                }
            }
        }
    }
}

/// The four integers of a group, as they lie in a lane.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn lane(group: [i8; GROUP]) -> i32 {
    i32::from_ne_bytes(group.map(i8::cast_unsigned))
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{GROUPS, PanelBlock, RowBlock, Sums, lane};

    /// [`super::portable`] with sums of all T × V in registers.
    #[target_feature(enable = "avx512f,avx512vnni")]
    pub fn avx512_vnni<const T: usize, const V: usize>(
        x: [&[RowBlock]; T],
        panels: [&[PanelBlock]; V],
        sums: &mut Sums<T, V>,
    ) {
        let mut totals = [[_mm512_setzero_ps(); V]; T];
        for (totals, sums) in totals.iter_mut().zip(sums.iter()) {
            for (total, sum) in totals.iter_mut().zip(sums) {
                // SAFETY: sixteen numbers.
                *total = unsafe { _mm512_loadu_ps(sum.as_ptr()) };
            }
        }
        for block in 0..x[0].len() {
            let mut integers = [[_mm512_setzero_si512(); V]; T];
            for (integers, row) in integers.iter_mut().zip(x) {
                *integers = [_mm512_set1_epi32(row[block].offset); V];
            }
            for group in 0..GROUPS {
                let mut weights = [_mm512_setzero_si512(); V];
                for (weights, panel) in weights.iter_mut().zip(panels) {
                    let place = panel[block].integers[group].as_ptr();
                    // SAFETY: 64 bytes.
                    *weights = unsafe { _mm512_loadu_si512(place.cast()) };
                }
                for (integers, row) in integers.iter_mut().zip(x) {
                    let x = _mm512_set1_epi32(lane(row[block].integers[group]));
                    for (integer, weights) in integers.iter_mut().zip(weights) {
                        *integer = _mm512_dpbusd_epi32(*integer, weights, x);
                    }
                }
            }
            let mut scales = [_mm512_setzero_ps(); V];
            for (scale, panel) in scales.iter_mut().zip(panels) {
                // SAFETY: sixteen numbers.
                *scale = unsafe { _mm512_loadu_ps(panel[block].scales.as_ptr()) };
            }
            for ((totals, integers), row) in totals.iter_mut().zip(integers).zip(x) {
                let x = _mm512_set1_ps(row[block].scale);
                for ((total, integer), scale) in totals.iter_mut().zip(integers).zip(scales) {
                    let product = _mm512_mul_ps(_mm512_cvtepi32_ps(integer), scale);
                    *total = _mm512_fmadd_ps(product, x, *total);
                }
            }
        }
        for (totals, sums) in totals.iter().zip(sums) {
            for (total, sum) in totals.iter().zip(sums) {
                // SAFETY: sixteen numbers.
                unsafe { _mm512_storeu_ps(sum.as_mut_ptr(), *total) };
            }
        }
    }

    /// [`super::portable`], a panel in two halves of eight columns.
    #[target_feature(enable = "avx2,fma,avxvnni")]
    pub fn avx_vnni<const T: usize, const V: usize>(
        x: [&[RowBlock]; T],
        panels: [&[PanelBlock]; V],
        sums: &mut Sums<T, V>,
    ) {
        for (v, panel) in panels.iter().enumerate() {
            let mut totals = [[_mm256_setzero_ps(); 2]; T];
            for (totals, sums) in totals.iter_mut().zip(sums.iter()) {
                // SAFETY: eight numbers of sixteen, twice.
                *totals = unsafe {
                    let place = sums[v].as_ptr();
                    [_mm256_loadu_ps(place), _mm256_loadu_ps(place.add(8))]
                };
            }
            for (block, w) in panel.iter().enumerate() {
                let mut integers = [[_mm256_setzero_si256(); 2]; T];
                for (integers, row) in integers.iter_mut().zip(x) {
                    *integers = [_mm256_set1_epi32(row[block].offset); 2];
                }
                for group in 0..GROUPS {
                    let place = w.integers[group].as_ptr().cast::<__m256i>();
                    // SAFETY: 64 bytes.
                    let weights =
                        unsafe { [_mm256_loadu_si256(place), _mm256_loadu_si256(place.add(1))] };
                    for (integers, row) in integers.iter_mut().zip(x) {
                        let x = _mm256_set1_epi32(lane(row[block].integers[group]));
                        for (integer, weights) in integers.iter_mut().zip(weights) {
                            *integer = _mm256_dpbusd_avx_epi32(*integer, weights, x);
                        }
                    }
                }
                let scales = w.scales.as_ptr();
                // SAFETY: eight numbers of sixteen, twice.
                let scales = unsafe { [_mm256_loadu_ps(scales), _mm256_loadu_ps(scales.add(8))] };
                for ((totals, integers), row) in totals.iter_mut().zip(integers).zip(x) {
                    let x = _mm256_set1_ps(row[block].scale);
                    for ((total, integer), scale) in totals.iter_mut().zip(integers).zip(scales) {
                        let product = _mm256_mul_ps(_mm256_cvtepi32_ps(integer), scale);
                        *total = _mm256_fmadd_ps(product, x, *total);
                    }
                }
            }
            for (totals, sums) in totals.iter().zip(sums.iter_mut()) {
                let place = sums[v].as_mut_ptr();
                // SAFETY: eight numbers of sixteen, twice.
                unsafe {
                    _mm256_storeu_ps(place, totals[0]);
                    _mm256_storeu_ps(place.add(8), totals[1]);
                }
            }
        }
    }

    /// [`super::portable`], eight columns at a time. Bytes are widened to 16 bits, the even and the
    /// odd ones apart, because the sum of two products of bytes may be too large for 16.
    #[target_feature(enable = "avx2,fma")]
    pub fn avx2<const T: usize, const V: usize>(
        x: [&[RowBlock]; T],
        panels: [&[PanelBlock]; V],
        sums: &mut Sums<T, V>,
    ) {
        let low = _mm256_set1_epi16(255);
        for (v, half) in (0..V).flat_map(|v| [(v, 0), (v, 8)]) {
            let mut totals = [_mm256_setzero_ps(); T];
            for (total, sums) in totals.iter_mut().zip(sums.iter()) {
                // SAFETY: eight numbers of sixteen.
                *total = unsafe { _mm256_loadu_ps(sums[v].as_ptr().add(half)) };
            }
            for (block, w) in panels[v].iter().enumerate() {
                let mut integers = [_mm256_setzero_si256(); T];
                for (integer, row) in integers.iter_mut().zip(x) {
                    *integer = _mm256_set1_epi32(row[block].offset);
                }
                for group in 0..GROUPS {
                    // SAFETY: 32 bytes of 64.
                    let weights = unsafe {
                        let place = w.integers[group].as_ptr().add(half);
                        _mm256_loadu_si256(place.cast())
                    };
                    let even = _mm256_and_si256(weights, low);
                    let odd = _mm256_srli_epi16::<8>(weights);
                    for (integer, row) in integers.iter_mut().zip(x) {
                        let x = _mm256_set1_epi32(lane(row[block].integers[group]));
                        let x_even = _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(x));
                        let x_odd = _mm256_srai_epi16::<8>(x);
                        let even = _mm256_madd_epi16(even, x_even);
                        let odd = _mm256_madd_epi16(odd, x_odd);
                        *integer = _mm256_add_epi32(*integer, _mm256_add_epi32(even, odd));
                    }
                }
                // SAFETY: eight numbers of sixteen.
                let scales = unsafe { _mm256_loadu_ps(w.scales.as_ptr().add(half)) };
                for ((total, integer), row) in totals.iter_mut().zip(integers).zip(x) {
                    let product = _mm256_mul_ps(_mm256_cvtepi32_ps(integer), scales);
                    *total = _mm256_fmadd_ps(product, _mm256_set1_ps(row[block].scale), *total);
                }
            }
            for (total, sums) in totals.iter().zip(sums.iter_mut()) {
                // SAFETY: eight numbers of sixteen.
                unsafe { _mm256_storeu_ps(sums[v].as_mut_ptr().add(half), *total) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks of integers of all sizes, the extreme ones among them.
    struct Random(u64);

    impl Random {
        fn byte(&mut self) -> u8 {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            match self.0 >> 61 {
                0 => 0,
                1 => 255,
                _ => (self.0 >> 40) as u8,
            }
        }

        fn scale(&mut self) -> f32 {
            0.001 * (1.0 + f32::from(self.byte()))
        }

        fn row(&mut self, blocks: usize) -> Vec<RowBlock> {
            let block = |_| {
                let mut block = RowBlock::default();
                for integer in block.integers.as_flattened_mut() {
                    *integer = self.byte().cast_signed().max(-127);
                    block.offset -= SHIFT * i32::from(*integer);
                }
                RowBlock {
                    scale: self.scale(),
                    ..block
                }
            };
            (0..blocks).map(block).collect()
        }

        fn panel(&mut self, blocks: usize) -> Vec<PanelBlock> {
            let block = |_| {
                let mut block = PanelBlock::ZERO;
                let integers = block.integers.as_flattened_mut().as_flattened_mut();
                integers
                    .iter_mut()
                    .for_each(|integer| *integer = self.byte());
                block.scales = block.scales.map(|_| self.scale());
                block
            };
            (0..blocks).map(block).collect()
        }
    }

    fn check<const T: usize, const V: usize>(random: &mut Random, blocks: usize) {
        let x: [_; T] = std::array::from_fn(|_| random.row(blocks));
        let panels: [_; V] = std::array::from_fn(|_| random.panel(blocks));
        let (x, panels) = (
            x.each_ref().map(|x| &x[..]),
            panels.each_ref().map(|p| &p[..]),
        );
        let start: Sums<T, V> = [[[0; PANEL]; V]; T].map(|s| s.map(|s| s.map(|_| random.scale())));
        let mut expected = start;
        Instructions::Portable.add(x, panels, &mut expected);
        for instructions in Instructions::available() {
            let mut found = start;
            instructions.add(x, panels, &mut found);
            assert!(
                found == expected,
                "{instructions:?}, {T} × {V}, {blocks} blocks"
            );
        }
        // The definition, in f64.
        for (row, sums) in x
            .iter()
            .zip(expected)
            .zip(start)
            .map(|((x, e), s)| (x, (e, s)))
        {
            for (v, panel) in panels.iter().enumerate() {
                for lane in 0..PANEL {
                    let mut sum = f64::from(sums.1[v][lane]);
                    for (x, w) in row.iter().zip(*panel) {
                        let mut products = 0;
                        for (i, &q) in x.integers.as_flattened().iter().enumerate() {
                            let w = w.integers[i / GROUP][lane][i % GROUP];
                            products += i32::from(q) * (i32::from(w) - SHIFT);
                        }
                        let scale = f64::from(x.scale) * f64::from(w.scales[lane]);
                        sum += f64::from(products) * scale;
                    }
                    let off = (f64::from(sums.0[v][lane]) - sum).abs();
                    assert!(off < 1e-2, "off by {off} of {sum}");
                }
            }
        }
    }

    #[test]
    fn all_instructions_compute_the_same_bits() {
        let mut random = Random(7);
        for blocks in [0, 1, 2, 5, 24] {
            check::<1, 1>(&mut random, blocks);
            check::<2, 2>(&mut random, blocks);
            check::<3, 1>(&mut random, blocks);
            check::<4, 1>(&mut random, blocks);
            check::<5, 2>(&mut random, blocks);
            check::<6, 2>(&mut random, blocks);
        }
    }
}

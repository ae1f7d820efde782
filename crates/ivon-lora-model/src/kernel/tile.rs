//! The innermost product of tokens and panels: tiles of the result stay in registers over the
//! depth.

use pulp::{Arch, Simd, WithSimd};

use crate::model::PANEL;

/// The columns of a block are a multiple of this: the columns of a tile, or at least of a panel.
pub fn block_unit() -> usize {
    (2 * Arch::new().dispatch(Lanes)).max(PANEL)
}

/// The number of f32 in a vector register; at least 4, as for panels.
struct Lanes;

impl WithSimd for Lanes {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> usize {
        S::F32_LANES.max(4)
    }
}

/// The product of all panels of a block with some tokens, over one piece of depth.
pub struct Step<'a> {
    /// The values of the first token for this piece; tokens are `x_stride` apart.
    pub x: &'a [f32],
    pub x_stride: usize,
    pub tokens: usize,
    pub depth: usize,
    /// The block's first panel, from this piece on; panels are `stride` apart.
    pub panels: &'a [f32],
    pub stride: usize,
    pub columns: usize,
    /// The results of the first token for this block; tokens are `out_stride` apart. Whoever makes
    /// a step checks that the block's last token and column are in the result.
    pub out: *mut f32,
    pub out_stride: usize,
    /// The values to which the results are added, with the same layout.
    pub onto: Option<*const f32>,
}

impl WithSimd for Step<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // Tiles as large as fit in the registers: 12 × 2 of 32 registers with AVX-512, 6 × 2 of 16
        // with AVX2, and of 32 with NEON.
        match S::F32_LANES {
            16 => self.run::<S, 12, 2>(simd),
            8 | 4 => self.run::<S, 6, 2>(simd),
            _ => self.run::<S, 2, 8>(simd),
        }
    }
}

impl Step<'_> {
    #[inline(always)]
    fn run<S: Simd, const ROWS: usize, const VECTORS: usize>(&self, simd: S) {
        let width = VECTORS * S::F32_LANES;
        let columns = self.columns.next_multiple_of(PANEL);
        assert!((self.tokens - 1) * self.x_stride + self.depth <= self.x.len());
        assert!((columns / PANEL - 1) * self.stride + self.depth * PANEL <= self.panels.len());
        let mut column = 0;
        while column < self.columns {
            if column + width <= columns {
                self.strip::<S, ROWS, VECTORS>(simd, column);
                column += width;
            } else {
                // With tiles of two panels, the last panel may be single.
                self.strip::<S, ROWS, 1>(simd, column);
                column += S::F32_LANES;
            }
        }
    }

    /// All tokens for the columns of one tile.
    #[inline(always)]
    fn strip<S: Simd, const ROWS: usize, const VECTORS: usize>(&self, simd: S, column: usize) {
        let mut token = 0;
        while token + ROWS <= self.tokens {
            self.tile::<S, ROWS, VECTORS>(simd, token, column);
            token += ROWS;
        }
        // The remaining tokens go in one tile, or in two if tiles are high: single rows would wait
        // for each addition.
        if token + 6 <= self.tokens {
            self.tile::<S, 6, VECTORS>(simd, token, column);
            token += 6;
        }
        match self.tokens - token {
            0 => {}
            1 => self.tile::<S, 1, VECTORS>(simd, token, column),
            2 => self.tile::<S, 2, VECTORS>(simd, token, column),
            3 => self.tile::<S, 3, VECTORS>(simd, token, column),
            4 => self.tile::<S, 4, VECTORS>(simd, token, column),
            _ => self.tile::<S, 5, VECTORS>(simd, token, column),
        }
    }

    /// A tile of ROWS tokens and VECTORS registers of columns.
    #[inline(always)]
    fn tile<S: Simd, const ROWS: usize, const VECTORS: usize>(
        &self,
        simd: S,
        token: usize,
        column: usize,
    ) {
        let sums = self.sums::<S, ROWS, VECTORS>(simd, token, column);
        let width = VECTORS * S::F32_LANES;
        // SAFETY: the block's last token and column are in the result (see `Step::out`), which has
        // the shape of `onto`.
        let at = token * self.out_stride + column;
        let (out, onto) = unsafe { (self.out.add(at), self.onto.map(|onto| onto.add(at))) };
        if column + width <= self.columns {
            for (row, sums) in sums.into_iter().enumerate() {
                for (vector, sum) in sums.into_iter().enumerate() {
                    let at = row * self.out_stride + vector * S::F32_LANES;
                    // SAFETY: as above.
                    unsafe {
                        let sum = match onto {
                            Some(onto) => {
                                simd.add_f32s(onto.add(at).cast::<S::f32s>().read_unaligned(), sum)
                            }
                            None => sum,
                        };
                        out.add(at).cast::<S::f32s>().write_unaligned(sum);
                    }
                }
            }
            return;
        }
        for (row, sums) in sums.into_iter().enumerate() {
            let sums: &[f32] = pulp::bytemuck::cast_slice(&sums);
            for (index, &sum) in sums.iter().enumerate().take(self.columns - column) {
                let at = row * self.out_stride + index;
                // SAFETY: as above; the columns end at `self.columns`.
                unsafe { *out.add(at) = onto.map_or(0.0, |onto| *onto.add(at)) + sum };
            }
        }
    }

    /// Σ over the depth of x · panel. Returned by value, so that the sums stay in registers:
    /// through a reference every addition would go to memory.
    #[inline(always)]
    fn sums<S: Simd, const ROWS: usize, const VECTORS: usize>(
        &self,
        simd: S,
        token: usize,
        column: usize,
    ) -> [[S::f32s; VECTORS]; ROWS] {
        let mut sums = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
        // `wrapping_add` on addresses: with overflow checks, as in tests, `add` would be checked in
        // this innermost loop.
        let rows: [usize; ROWS] = std::array::from_fn(|row| row * self.x_stride);
        let mut x = self.x.as_ptr().wrapping_add(token * self.x_stride);
        let mut panel = self
            .panels
            .as_ptr()
            .wrapping_add(column / PANEL * self.stride + column % PANEL);
        // A register is at most half a panel, or a whole one.
        let apart = if S::F32_LANES < PANEL {
            S::F32_LANES
        } else {
            self.stride
        };
        for _ in 0..self.depth {
            // SAFETY: `run` has checked that the tokens are in x, and the block's panels with
            // `depth` rows in `panels`.
            let weights: [S::f32s; VECTORS] = std::array::from_fn(|vector| unsafe {
                panel
                    .wrapping_add(vector * apart)
                    .cast::<S::f32s>()
                    .read_unaligned()
            });
            for (offset, sums) in rows.iter().zip(&mut sums) {
                let x = simd.splat_f32s(unsafe { *x.wrapping_add(*offset) });
                for (sum, weight) in sums.iter_mut().zip(weights) {
                    *sum = simd.mul_add_e_f32s(x, weight, *sum);
                }
            }
            x = x.wrapping_add(1);
            panel = panel.wrapping_add(PANEL);
        }
        sums
    }
}

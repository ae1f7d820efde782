//! The two triangular solves of a chunk, in blocks: products between blocks, rows inside of them.

use crate::kernel::product::{Factor, Target, Threads, View, product};
use crate::kernel::simd::wide;

/// Rows of a block.
const BLOCK: usize = 16;

/// U ← U − Z Δ and Δ ← β U, row by row.
pub fn substitute(overlap: &[f32], beta: View<'_>, [u, delta]: [&mut [f32]; 2]) {
    let (tokens, width) = (beta.rows, u.len() / beta.rows);
    for start in (0..tokens).step_by(BLOCK) {
        let end = (start + BLOCK).min(tokens);
        if start > 0 {
            let left = View {
                values: &overlap[start * tokens..],
                rows: end - start,
                columns: start,
                stride: tokens,
            };
            let right = View::new(&delta[..start * width], start, width);
            let target = Target::onto(&mut u[start * width..], width);
            product(
                target,
                -1.0,
                Factor::Plain(left),
                Factor::Plain(right),
                Threads::One,
            );
        }
        wide(
            #[inline(always)]
            || {
                for token in start..end {
                    let u = &mut u[token * width..][..width];
                    let (known, rest) = delta.split_at_mut(token * width);
                    for earlier in start..token {
                        let known = &known[earlier * width..][..width];
                        subtract(u, overlap[token * tokens + earlier], known);
                    }
                    let beta = beta.row(token)[0];
                    for (delta, u) in rest[..width].iter_mut().zip(u) {
                        *delta = beta * *u;
                    }
                }
            },
        );
    }
}

/// R ← R − Zᵀ dV and dV ← β R, from the last row up.
pub fn substitute_back(overlap: &[f32], beta: View<'_>, [r, dv]: [&mut [f32]; 2]) {
    let (tokens, width) = (beta.rows, r.len() / beta.rows);
    for start in (0..tokens).step_by(BLOCK).rev() {
        let end = (start + BLOCK).min(tokens);
        if end < tokens {
            let left = View {
                values: &overlap[end * tokens + start..],
                rows: tokens - end,
                columns: end - start,
                stride: tokens,
            };
            let right = View::new(&dv[end * width..], tokens - end, width);
            let target = Target::onto(&mut r[start * width..], width);
            product(
                target,
                -1.0,
                Factor::Transposed(left),
                Factor::Plain(right),
                Threads::One,
            );
        }
        wide(
            #[inline(always)]
            || {
                for token in (start..end).rev() {
                    let r = &mut r[token * width..][..width];
                    let (rest, known) = dv.split_at_mut((token + 1) * width);
                    for later in token + 1..end {
                        let known = &known[(later - token - 1) * width..][..width];
                        subtract(r, overlap[later * tokens + token], known);
                    }
                    let beta = beta.row(token)[0];
                    for (dv, r) in rest[token * width..].iter_mut().zip(r) {
                        *dv = beta * *r;
                    }
                }
            },
        );
    }
}

/// x ← x − factor · y.
#[inline(always)]
fn subtract(x: &mut [f32], factor: f32, y: &[f32]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x -= factor * y);
}

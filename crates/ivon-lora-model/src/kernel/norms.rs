//! Norms of heads: rows of unit length, and the gated norm behind the delta rule. Their backward
//! passes compute the row factors again; the RMS norm is among the rows.

use rayon::prelude::*;

use super::product::View;
use super::rows::{dot, exp};
use super::simd::wide;

/// Rows of a task.
const ROWS: usize = 16;
/// ε of [`l2_norm`].
const EPSILON: f32 = 1e-6;

/// y `[rows, columns]` ← scale · x / √(Σx² + 10⁻⁶) for each head of `width` columns.
pub fn l2_norm(x: View<'_>, width: usize, scale: f32, y: &mut [f32]) {
    assert!(
        y.len() == x.rows * x.columns && x.columns.is_multiple_of(width),
        "{} × {} numbers in heads of {width} into {}",
        x.rows,
        x.columns,
        y.len()
    );
    let tasks = y.par_chunks_mut(ROWS * x.columns).enumerate();
    tasks.for_each(|(task, y)| {
        wide(
            #[inline(always)]
            || {
                for (row, y) in y.chunks_exact_mut(x.columns).enumerate() {
                    let x = x.row(task * ROWS + row).chunks_exact(width);
                    for (y, x) in y.chunks_exact_mut(width).zip(x) {
                        let factor = scale / (dot(x, x) + EPSILON).sqrt();
                        for (y, x) in y.iter_mut().zip(x) {
                            *y = x * factor;
                        }
                    }
                }
            },
        );
    });
}

/// The gradient of [`l2_norm`], into rows that start `stride` apart: with s = 1/√(Σx² + ε),
/// dx ← scale · (s · dy − s³ · x · Σ(x · dy)).
pub fn l2_norm_backward(
    dy: &[f32],
    x: View<'_>,
    [width, stride]: [usize; 2],
    scale: f32,
    dx: &mut [f32],
) {
    assert!(
        dy.len() == x.rows * x.columns && x.rows == dx.len().div_ceil(stride),
        "{} gradients of {} × {} numbers into {} in rows {stride} apart",
        dy.len(),
        x.rows,
        x.columns,
        dx.len()
    );
    let tasks = dy.par_chunks(ROWS * x.columns);
    let tasks = tasks.zip(dx.par_chunks_mut(ROWS * stride)).enumerate();
    tasks.for_each(|(task, (dy, dx))| {
        wide(
            #[inline(always)]
            || {
                let rows = dy.chunks_exact(x.columns).zip(dx.chunks_mut(stride));
                for (row, (dy, dx)) in rows.enumerate() {
                    let heads = x.row(task * ROWS + row).chunks_exact(width);
                    let heads = heads.zip(dy.chunks_exact(width));
                    let dx = dx[..x.columns].chunks_exact_mut(width);
                    for ((x, dy), dx) in heads.zip(dx) {
                        let inverse = 1.0 / (dot(x, x) + EPSILON).sqrt();
                        let along = dot(x, dy) * inverse * inverse;
                        for ((dx, x), dy) in dx.iter_mut().zip(x).zip(dy) {
                            *dx = scale * inverse * (dy - along * x);
                        }
                    }
                }
            },
        );
    });
}

/// out ← w · o / √(mean(o²) + ε) · silu(z) for each head of the length of w; `o` and `z` are rows
/// of heads, and silu(z) = z / (1 + e⁻ᶻ).
pub fn gated_norm([o, z]: [&[f32]; 2], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    let width = weight.len();
    let heads = o
        .par_chunks(ROWS * width)
        .zip(z.par_chunks(ROWS * width))
        .zip(out.par_chunks_mut(ROWS * width));
    heads.for_each(|((o, z), out)| {
        wide(
            #[inline(always)]
            || {
                let heads = o.chunks_exact(width).zip(z.chunks_exact(width));
                for ((o, z), out) in heads.zip(out.chunks_exact_mut(width)) {
                    let inverse = 1.0 / (dot(o, o) / width as f32 + epsilon).sqrt();
                    for (((out, o), z), w) in out.iter_mut().zip(o).zip(z).zip(weight) {
                        *out = w * (o * inverse) * (z / (1.0 + exp(-z)));
                    }
                }
            },
        );
    });
}

/// The gradient of [`gated_norm`], in place: o ← do, z ← dz, from `d` = d out.
///
/// With n = o · s, s = 1/√(mean(o²) + ε), σ = σ(z): dz = d·w·n·σ·(1 + z·(1−σ)), dn = d·w·z·σ, and
/// do = s · (dn − n · mean(dn · n)).
pub fn gated_norm_backward(d: &[f32], [o, z]: [&mut [f32]; 2], weight: &[f32], epsilon: f32) {
    let width = weight.len();
    let heads = d
        .par_chunks(ROWS * width)
        .zip(o.par_chunks_mut(ROWS * width))
        .zip(z.par_chunks_mut(ROWS * width));
    heads.for_each_init(Vec::new, |dn, ((d, o), z)| {
        dn.resize(width, 0.0);
        wide(
            #[inline(always)]
            || {
                let heads = d.chunks_exact(width).zip(o.chunks_exact_mut(width));
                for ((d, o), z) in heads.zip(z.chunks_exact_mut(width)) {
                    gated_head_backward(d, [o, z], weight, epsilon, dn);
                }
            },
        );
    });
}

/// [`gated_norm_backward`] of one head.
#[inline(always)]
fn gated_head_backward(
    d: &[f32],
    [o, z]: [&mut [f32]; 2],
    weight: &[f32],
    epsilon: f32,
    dn: &mut [f32],
) {
    let width = weight.len() as f32;
    let inverse = 1.0 / (dot(o, o) / width + epsilon).sqrt();
    let gates = dn.iter_mut().zip(z).zip(o.iter()).zip(d).zip(weight);
    for ((((dn, z), o), d), w) in gates {
        let sigma = 1.0 / (1.0 + exp(-*z));
        let d = d * w;
        *dn = d * *z * sigma;
        *z = d * (o * inverse) * sigma * (1.0 + *z * (1.0 - sigma));
    }
    let along = dot(dn, o) / width * inverse * inverse;
    for (o, dn) in o.iter_mut().zip(dn) {
        *o = inverse * (*dn - along * *o);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count)
            .map(|i| ((i * 7919 + seed * 104_729) % 211) as f32 / 52.5 - 2.0)
            .collect()
    }

    fn widened(x: &[f32]) -> Vec<f64> {
        x.iter().map(|&x| x.into()).collect()
    }

    /// Central differences of Σ d·f(x) in f64.
    fn quotients(x: &[f64], d: &[f32], f: impl Fn(&[f64]) -> Vec<f64>) -> Vec<f64> {
        let along = |index: usize, by: f64| {
            let mut x = x.to_vec();
            x[index] += by;
            let y = f(&x).into_iter().zip(d);
            y.map(|(y, d)| y * f64::from(*d)).sum::<f64>()
        };
        let quotient = |index| (along(index, 1e-6) - along(index, -1e-6)) / 2e-6;
        (0..x.len()).map(quotient).collect()
    }

    fn close(found: &[f32], truth: &[f64], tolerance: f64) {
        assert_eq!(found.len(), truth.len());
        for (index, (found, truth)) in found.iter().zip(truth).enumerate() {
            let error = (f64::from(*found) - truth).abs();
            assert!(error < tolerance, "{index}: {found} {truth}");
        }
    }

    #[test]
    fn heads_of_unit_length_and_their_gradient() {
        let (rows, width, heads, stride) = (19, 20, 2, 47);
        let columns = width * heads;
        let formula = |x: &[f64]| -> Vec<f64> {
            let head = |head: &[f64]| {
                let square: f64 = head.iter().map(|x| x * x).sum();
                let scale = 0.5 / (square + 1e-6).sqrt();
                head.iter().map(|x| scale * x).collect::<Vec<_>>()
            };
            x.chunks(width).flat_map(head).collect()
        };
        let mut all = numbers(rows * stride, 1);
        // A head of zeros, as behind a convolution whose inputs are zeros.
        all[4 * stride + 5..][..width].fill(0.0);
        let x = View {
            values: &all[5..],
            rows,
            columns,
            stride,
        };
        let packed: Vec<f64> = (0..rows).flat_map(|row| widened(x.row(row))).collect();
        let mut y = vec![f32::NAN; rows * columns];
        l2_norm(x, width, 0.5, &mut y);
        close(&y, &formula(&packed), 1e-6);
        let dy = numbers(rows * columns, 2);
        let mut dx = vec![7.0; rows * stride - 5];
        l2_norm_backward(&dy, x, [width, stride], 0.5, &mut dx);
        let truth = quotients(&packed, &dy, formula);
        for row in 0..rows {
            let truth = &truth[row * columns..][..columns];
            for (found, truth) in dx[row * stride..].iter().zip(truth) {
                let error = (f64::from(*found) - truth).abs();
                assert!(
                    error < 2e-5 * truth.abs().max(1e-1),
                    "{row}: {found} {truth}"
                );
            }
            let others = &dx[(row * stride + columns)..((row + 1) * stride).min(dx.len())];
            assert!(others.iter().all(|&other| other == 7.0));
        }
    }

    #[test]
    fn the_gated_norm_and_its_gradient() {
        let (heads, width) = (35, 20);
        let weight = numbers(width, 3);
        let (o, z) = (numbers(heads * width, 1), numbers(heads * width, 2));
        let formula = |o: &[f64], z: &[f64]| -> Vec<f64> {
            let mut out = Vec::new();
            for (o, z) in o.chunks(width).zip(z.chunks(width)) {
                let square: f64 = o.iter().map(|o| o * o).sum();
                let inverse = 1.0 / (square / width as f64 + 1e-5).sqrt();
                for ((o, z), w) in o.iter().zip(z).zip(&weight) {
                    out.push(f64::from(*w) * o * inverse * z / (1.0 + (-z).exp()));
                }
            }
            out
        };
        let mut out = vec![f32::NAN; o.len()];
        gated_norm([&o, &z], &weight, 1e-5, &mut out);
        close(&out, &formula(&widened(&o), &widened(&z)), 2e-6);
        let d = numbers(o.len(), 4);
        let (mut d_o, mut dz) = (o.clone(), z.clone());
        gated_norm_backward(&d, [&mut d_o, &mut dz], &weight, 1e-5);
        let (o, z) = (widened(&o), widened(&z));
        close(&d_o, &quotients(&o, &d, |o| formula(o, &z)), 2e-5);
        close(&dz, &quotients(&z, &d, |z| formula(&o, z)), 2e-5);
    }
}

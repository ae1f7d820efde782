//! Elementwise kernels on rows: norms, rotary embedding, the gated activation, softmax.
//!
//! Each function is written once, as a plain loop; [`wide`] compiles it for the widest SIMD
//! instructions of the CPU. Sums use sixteen lanes so that they vectorise in one fixed order.

use rayon::prelude::*;

use super::simd::wide;

/// Lanes of a sum.
const LANES: usize = 16;
/// Rows of a task.
const ROWS: usize = 16;
/// Numbers that are added up in f32.
const SUMMED: usize = 4096;

/// Σ a·b.
#[inline(always)]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let tail: f32 = a_chunks
        .remainder()
        .iter()
        .zip(b_chunks.remainder())
        .map(|(a, b)| a * b)
        .sum();
    for (a, b) in a_chunks.zip(b_chunks) {
        for lane in 0..LANES {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    tail + lanes.iter().sum::<f32>()
}

/// eˣ to about 2 ulp, for x ≤ 88; below −87 it is 0.
///
/// 2ⁿ·eʳ with n = round(x / ln 2) and a polynomial of degree 6 in r, without tables and branches,
/// so that it vectorises.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2²³: adding and taking it away rounds to a whole number
    let clamped = x.clamp(-87.3, 88.3);
    let shifted = clamped.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-0.693_145_75, clamped); // ln 2 in two parts keeps r exact
    let r = n.mul_add(-1.428_606_8e-6, r);
    let mut p = 1.388_887_6e-3;
    for coefficient in [8.333_345e-3, 4.166_665e-2, 0.166_666_67, 0.5, 1.0, 1.0] {
        p = r.mul_add(p, coefficient);
    }
    // The lowest bits of `shifted` are those of n. Casting n would do the same, but the saturating
    // cast vectorises badly.
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    if x < -87.3 { 0.0 } else { p * power }
}

/// y ← x · w / √(mean(x²) + ε), row by row; writes the factor 1/√… of each row to `inverse` `[n]`.
pub fn rms_norm(x: &[f32], weight: &[f32], epsilon: f32, y: &mut [f32], inverse: &mut [f32]) {
    let width = weight.len();
    let rows = x
        .par_chunks(ROWS * width)
        .zip(y.par_chunks_mut(ROWS * width))
        .zip(inverse.par_chunks_mut(ROWS));
    rows.for_each(|((x, y), inverse)| {
        wide(
            #[inline(always)]
            || {
                for ((x, y), inverse) in x
                    .chunks_exact(width)
                    .zip(y.chunks_exact_mut(width))
                    .zip(inverse.iter_mut())
                {
                    *inverse = 1.0 / (dot(x, x) / width as f32 + epsilon).sqrt();
                    for ((y, x), w) in y.iter_mut().zip(x).zip(weight) {
                        *y = x * *inverse * w;
                    }
                }
            },
        );
    });
}

/// y ← x · inverse · w: the same norm, from the row factors of the forward pass.
pub fn rms_norm_again(x: &[f32], weight: &[f32], inverse: &[f32], y: &mut [f32]) {
    let width = weight.len();
    let rows = x
        .par_chunks(ROWS * width)
        .zip(y.par_chunks_mut(ROWS * width))
        .zip(inverse.par_chunks(ROWS));
    rows.for_each(|((x, y), inverse)| {
        wide(
            #[inline(always)]
            || {
                for ((x, y), inverse) in x
                    .chunks_exact(width)
                    .zip(y.chunks_exact_mut(width))
                    .zip(inverse)
                {
                    for ((y, x), w) in y.iter_mut().zip(x).zip(weight) {
                        *y = x * *inverse * w;
                    }
                }
            },
        );
    });
}

/// The gradient of [`rms_norm`]: with s = inverse, dx (+)= s·(dy·w) − x·s³/H·Σ(dy·w·x).
pub fn rms_norm_backward(
    dy: &[f32],
    x: &[f32],
    weight: &[f32],
    inverse: &[f32],
    dx: &mut [f32],
    add: bool,
) {
    let width = weight.len();
    let rows = dy
        .par_chunks(ROWS * width)
        .zip(x.par_chunks(ROWS * width))
        .zip(inverse.par_chunks(ROWS))
        .zip(dx.par_chunks_mut(ROWS * width));
    rows.for_each(|(((dy, x), inverse), dx)| {
        wide(
            #[inline(always)]
            || {
                let rows = dy
                    .chunks_exact(width)
                    .zip(x.chunks_exact(width))
                    .zip(inverse)
                    .zip(dx.chunks_exact_mut(width));
                for (((dy, x), &inverse), dx) in rows {
                    let along =
                        weighted_dot(dy, weight, x) * inverse * inverse * inverse / width as f32;
                    for (((dx, dy), x), w) in dx.iter_mut().zip(dy).zip(x).zip(weight) {
                        let gradient = inverse * dy * w - along * x;
                        *dx = if add { *dx + gradient } else { gradient };
                    }
                }
            },
        );
    });
}

/// Σ dy·w·x.
#[inline(always)]
fn weighted_dot(dy: &[f32], weight: &[f32], x: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    for ((dy, x), w) in dy
        .chunks(LANES)
        .zip(x.chunks(LANES))
        .zip(weight.chunks(LANES))
    {
        for (lane, ((dy, x), w)) in lanes.iter_mut().zip(dy.iter().zip(x).zip(w)) {
            *lane += dy * w * x;
        }
    }
    lanes.iter().sum()
}

/// Rotates each head of each row by the angles of its position, in place; rows have length `width`,
/// heads `head_dim`, of which the first `rotary` columns are rotated, and the cosines and sines are
/// `[positions, rotary / 2]`.
///
/// Element i of the first half and of the second half of these columns form the pair that is rotated
/// (Hugging Face's layout). `back` is the inverse rotation, which is also the gradient.
pub fn rotate(
    x: &mut [f32],
    [width, head_dim, rotary]: [usize; 3],
    positions: &[u32],
    [cosine, sine]: [&[f32]; 2],
    back: bool,
) {
    let half = rotary / 2;
    let sign = if back { -1.0 } else { 1.0 };
    x.par_chunks_mut(ROWS * width)
        .zip(positions.par_chunks(ROWS))
        .for_each(|(x, positions)| {
            wide(
                #[inline(always)]
                || {
                    for (x, &position) in x.chunks_exact_mut(width).zip(positions) {
                        let angles = position as usize * half..(position as usize + 1) * half;
                        let (cosine, sine) = (&cosine[angles.clone()], &sine[angles]);
                        for head in x.chunks_exact_mut(head_dim) {
                            rotate_head(&mut head[..rotary], cosine, sine, sign);
                        }
                    }
                },
            );
        });
}

#[inline(always)]
fn rotate_head(head: &mut [f32], cosine: &[f32], sine: &[f32], sign: f32) {
    let (first, second) = head.split_at_mut(cosine.len());
    for (((a, b), c), s) in first.iter_mut().zip(second).zip(cosine).zip(sine) {
        let s = s * sign;
        (*a, *b) = (*a * c - *b * s, *b * c + *a * s);
    }
}

/// out ← silu(gate) · up, with silu(x) = x / (1 + e⁻ˣ).
pub fn gated(gate: &[f32], up: &[f32], out: &mut [f32]) {
    gate.par_chunks(8192)
        .zip(up.par_chunks(8192))
        .zip(out.par_chunks_mut(8192))
        .for_each(|((gate, up), out)| {
            wide(
                #[inline(always)]
                || {
                    for ((out, g), u) in out.iter_mut().zip(gate).zip(up) {
                        *out = g / (1.0 + exp(-g)) * u;
                    }
                },
            );
        });
}

/// The gradient of [`gated`], in place: gate ← d gate, up ← d up, from `d` = d out.
///
/// With σ = 1/(1+e⁻ᵍ): d up = d·g·σ, d gate = d·u·σ·(1 + g·(1−σ)).
pub fn gated_backward(d: &[f32], gate: &mut [f32], up: &mut [f32]) {
    d.par_chunks(8192)
        .zip(gate.par_chunks_mut(8192))
        .zip(up.par_chunks_mut(8192))
        .for_each(|((d, gate), up)| {
            wide(
                #[inline(always)]
                || {
                    for ((d, g), u) in d.iter().zip(gate.iter_mut()).zip(up.iter_mut()) {
                        let sigma = 1.0 / (1.0 + exp(-*g));
                        let d_up = d * *g * sigma;
                        *g = d * *u * sigma * (1.0 + *g * (1.0 - sigma));
                        *u = d_up;
                    }
                },
            );
        });
}

/// Softmax of `scores[from..to]`, in place; the other elements become 0.
#[inline(always)]
pub fn softmax_row(scores: &mut [f32], from: usize, to: usize) {
    scores[..from].fill(0.0);
    scores[to..].fill(0.0);
    let row = &mut scores[from..to];
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in row.chunks(LANES) {
        for (lane, &score) in lanes.iter_mut().zip(chunk) {
            *lane = if score > *lane { score } else { *lane };
        }
    }
    let largest = lanes.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sums = [0.0f32; LANES];
    for chunk in row.chunks_mut(LANES) {
        for (sum, score) in sums.iter_mut().zip(chunk) {
            *score = exp(*score - largest);
            *sum += *score;
        }
    }
    let scale = 1.0 / sums.iter().sum::<f32>();
    for score in row {
        *score *= scale;
    }
}

/// ln Σ eˣ, −∞ for no numbers.
pub fn log_sum_exp(x: &[f32]) -> f64 {
    let (mut largest, mut total) = (f32::NEG_INFINITY, 0.0f64);
    wide(
        #[inline(always)]
        || {
            let mut lanes = [f32::NEG_INFINITY; LANES];
            for chunk in x.chunks(LANES) {
                for (lane, &x) in lanes.iter_mut().zip(chunk) {
                    *lane = if x > *lane { x } else { *lane };
                }
            }
            largest = lanes.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            // Sums of f32 stay short, so that a large vocabulary does not cost digits.
            for part in x.chunks(SUMMED) {
                let mut sums = [0.0f32; LANES];
                for chunk in part.chunks(LANES) {
                    for (sum, x) in sums.iter_mut().zip(chunk) {
                        *sum += exp(x - largest);
                    }
                }
                total += f64::from(sums.iter().sum::<f32>());
            }
        },
    );
    match x.is_empty() {
        true => f64::NEG_INFINITY,
        false => f64::from(largest) + total.ln(),
    }
}

/// x ← factor · x.
pub fn scale(x: &mut [f32], factor: f32) {
    if factor != 1.0 {
        x.par_chunks_mut(8192)
            .for_each(|x| x.iter_mut().for_each(|x| *x *= factor));
    }
}

/// x ← factor · x + y.
pub fn scale_and_add(x: &mut [f32], factor: f32, y: &[f32]) {
    x.par_chunks_mut(8192)
        .zip(y.par_chunks(8192))
        .for_each(|(x, y)| {
            for (x, y) in x.iter_mut().zip(y) {
                *x = factor * *x + y;
            }
        });
}

/// x ← x + y.
pub fn add(x: &mut [f32], y: &[f32]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

/// Adds `bias` to every row.
pub fn add_bias(x: &mut [f32], bias: &[f32]) {
    for row in x.chunks_exact_mut(bias.len()) {
        for (x, b) in row.iter_mut().zip(bias) {
            *x += b;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_a_few_units_in_the_last_place() {
        let worst = (-8700..8800)
            .map(|i| i as f32 / 100.0)
            .map(|x| (f64::from(exp(x)) / f64::from(x).exp() - 1.0).abs())
            .fold(0.0, f64::max);
        assert!(worst < 3e-7, "{worst}");
        assert_eq!(exp(-1000.0), 0.0);
        assert_eq!(exp(0.0), 1.0);
    }

    /// Central differences of Σ d·f(x) in f32, coarse but enough to detect a wrong formula.
    fn differences(x: &[f32], d: &[f32], f: impl Fn(&[f32]) -> Vec<f32>) -> Vec<f32> {
        let along = |x: &[f32]| {
            f(x).iter()
                .zip(d)
                .map(|(y, d)| f64::from(*y) * f64::from(*d))
                .sum::<f64>()
        };
        let step = 1e-2;
        let moved = |i: usize, by: f32| {
            let mut x = x.to_vec();
            x[i] += by;
            along(&x)
        };
        (0..x.len())
            .map(|i| ((moved(i, step) - moved(i, -step)) / (2.0 * f64::from(step))) as f32)
            .collect()
    }

    fn close(a: &[f32], b: &[f32]) {
        assert!(
            a.iter().zip(b).all(|(a, b)| (a - b).abs() < 2e-3),
            "{a:?}\n{b:?}"
        );
    }

    const X: [f32; 8] = [0.3, -1.2, 0.8, 2.0, -0.5, 0.1, 1.5, -0.7];
    const D: [f32; 8] = [1.0, -0.5, 0.3, 0.7, 0.2, -1.1, 0.4, 0.6];

    #[test]
    fn the_gradient_of_the_norm_is_its_difference_quotient() {
        let weight = [1.1, 0.9, 1.3, 0.7];
        let forward = |x: &[f32]| {
            let mut y = vec![0.0; 8];
            rms_norm(x, &weight, 1e-5, &mut y, &mut [0.0; 2]);
            y
        };
        let (mut inverse, mut dx) = ([0.0; 2], [0.0; 8]);
        rms_norm(&X, &weight, 1e-5, &mut [0.0; 8], &mut inverse);
        rms_norm_backward(&D, &X, &weight, &inverse, &mut dx, false);
        close(&dx, &differences(&X, &D, forward));
    }

    #[test]
    fn the_gradient_of_the_gate_is_its_difference_quotient() {
        let other: Vec<f32> = X.iter().rev().copied().collect();
        let forward = |gate: &[f32], up: &[f32]| {
            let mut out = vec![0.0; 8];
            gated(gate, up, &mut out);
            out
        };
        let (mut gate, mut up) = (X.to_vec(), other.clone());
        gated_backward(&D, &mut gate, &mut up);
        close(&gate, &differences(&X, &D, |x| forward(x, &other)));
        close(&up, &differences(&other, &D, |x| forward(&X, x)));
    }

    #[test]
    fn a_rotation_is_undone_by_its_gradient() {
        let angles: Vec<f32> = (0..6).map(|i| i as f32 * 0.4).collect();
        let (cosine, sine): (Vec<f32>, Vec<f32>) =
            angles.iter().map(|a| (a.cos(), a.sin())).unzip();
        let mut x = X.to_vec();
        rotate(&mut x, [4, 4, 4], &[2, 1], [&cosine, &sine], false);
        // Head 0 at position 2: the pair (0.3, 0.8) is rotated by the angle 1.6.
        assert!((x[0] - (0.3 * 1.6f32.cos() - 0.8 * 1.6f32.sin())).abs() < 1e-6);
        rotate(&mut x, [4, 4, 4], &[2, 1], [&cosine, &sine], true);
        assert!(x.iter().zip(X).all(|(a, b)| (a - b).abs() < 1e-6));
    }

    #[test]
    fn a_partial_rotation_is_the_rotation_of_a_narrower_head_and_leaves_the_rest() {
        let angles: Vec<f32> = (0..6).map(|i| i as f32 * 0.4).collect();
        let (cosine, sine): (Vec<f32>, Vec<f32>) =
            angles.iter().map(|a| (a.cos(), a.sin())).unzip();
        // Two heads of six columns, of which four are rotated.
        let rest = [7.0, 8.0];
        let spread = |x: &[f32]| -> Vec<f32> {
            x.chunks(4)
                .flat_map(|head| [head, &rest].concat())
                .collect()
        };
        for back in [false, true] {
            let (mut narrow, mut x) = (X.to_vec(), spread(&X));
            rotate(&mut narrow, [8, 4, 4], &[2], [&cosine, &sine], back);
            rotate(&mut x, [12, 6, 4], &[2], [&cosine, &sine], back);
            assert_eq!(x, spread(&narrow));
        }
    }

    #[test]
    fn the_logarithm_of_a_sum_of_exponentials_is_its_definition() {
        for count in [1, 15, 4096, 50_000] {
            let x: Vec<f32> = (0..count)
                .map(|i| (i * 7919 % 613) as f32 / 30.0 - 200.0)
                .collect();
            let sum: f64 = x.iter().map(|x| (f64::from(*x) + 200.0).exp()).sum();
            let off = log_sum_exp(&x) - (sum.ln() - 200.0);
            assert!(off.abs() < 1e-6, "{count}: {off}");
        }
        assert_eq!(log_sum_exp(&[]), f64::NEG_INFINITY);
    }

    #[test]
    fn a_softmax_of_a_part_leaves_zeros_around_it() {
        let mut scores = [9.0, 1.0, 2.0, 3.0, 9.0];
        softmax_row(&mut scores, 1, 4);
        assert_eq!((scores[0], scores[4]), (0.0, 0.0));
        let total = 1f32.exp() + 2f32.exp() + 3f32.exp();
        assert!((scores[2] - 2f32.exp() / total).abs() < 1e-6);
    }
}

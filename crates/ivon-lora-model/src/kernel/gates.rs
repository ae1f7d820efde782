//! Gates and caps, element by element: the gated activation of GELU, sigmoid gates, soft caps, and
//! the rates of the delta rule. The gate of silu is among the rows.

use rayon::prelude::*;

use super::product::View;
use super::rows::exp;
use super::simd::wide;

/// Numbers of a task.
const NUMBERS: usize = 8192;
/// Rows of a task.
const ROWS: usize = 16;

/// 2 √(2/π), see [`gelu_sigmoid`].
const GELU: f32 = 1.595_769_2;
/// The weight of the cube in GELU.
const CUBE: f32 = 0.044_715;

/// σ(x) = 1 / (1 + e⁻ˣ) and 1 − σ(x) = e⁻ˣ σ(x), both with all their digits.
#[inline(always)]
fn sigmoid(x: f32) -> [f32; 2] {
    let inverse = exp(-x);
    let sigma = 1.0 / (1.0 + inverse);
    [sigma, inverse * sigma]
}

/// σ and 1 − σ of GELU's argument: gelu(x) = x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³))) =
/// x · σ(2 √(2/π) · (x + 0.044715 x³)), which does not cancel for negative x.
#[inline(always)]
fn gelu_sigmoid(x: f32) -> [f32; 2] {
    sigmoid(GELU * x * (CUBE * x).mul_add(x, 1.0))
}

/// GELU's derivative: σ + x · σ · (1 − σ) · 2 √(2/π) · (1 + 3 · 0.044715 x²).
#[inline(always)]
fn gelu_slope(x: f32, [sigma, rest]: [f32; 2]) -> f32 {
    sigma + x * sigma * rest * GELU * (3.0 * CUBE * x).mul_add(x, 1.0)
}

/// out ← gelu(gate) · up, with GELU in its tanh form (`gelu_pytorch_tanh`).
pub fn gelu_gated(gate: &[f32], up: &[f32], out: &mut [f32]) {
    gate.par_chunks(NUMBERS)
        .zip(up.par_chunks(NUMBERS))
        .zip(out.par_chunks_mut(NUMBERS))
        .for_each(|((gate, up), out)| {
            wide(
                #[inline(always)]
                || {
                    for ((out, &g), u) in out.iter_mut().zip(gate).zip(up) {
                        let [sigma, _] = gelu_sigmoid(g);
                        *out = g * sigma * u;
                    }
                },
            );
        });
}

/// The gradient of [`gelu_gated`], in place: gate ← d gate, up ← d up, from `d` = d out.
pub fn gelu_gated_backward(d: &[f32], gate: &mut [f32], up: &mut [f32]) {
    d.par_chunks(NUMBERS)
        .zip(gate.par_chunks_mut(NUMBERS))
        .zip(up.par_chunks_mut(NUMBERS))
        .for_each(|((d, gate), up)| {
            wide(
                #[inline(always)]
                || {
                    for ((d, g), u) in d.iter().zip(gate.iter_mut()).zip(up.iter_mut()) {
                        let sigma = gelu_sigmoid(*g);
                        let d_up = d * *g * sigma[0];
                        *g = d * *u * gelu_slope(*g, sigma);
                        *u = d_up;
                    }
                },
            );
        });
}

/// out ← y · σ(gate); `gate` may be columns of a wider matrix, `y` and `out` have its shape.
pub fn sigmoid_gated(y: &[f32], gate: View<'_>, out: &mut [f32]) {
    assert!(
        y.len() == gate.rows * gate.columns && out.len() == y.len(),
        "{} numbers behind {} × {} gates",
        y.len(),
        gate.rows,
        gate.columns
    );
    let task = ROWS * gate.columns;
    out.par_chunks_mut(task)
        .zip(y.par_chunks(task))
        .enumerate()
        .for_each(|(task, (out, y))| {
            let rows = out.chunks_exact_mut(gate.columns);
            let mut rows = rows.zip(y.chunks_exact(gate.columns)).enumerate();
            wide(
                #[inline(always)]
                || {
                    for (row, (out, y)) in &mut rows {
                        let gate = gate.row(task * ROWS + row);
                        for ((out, y), &g) in out.iter_mut().zip(y).zip(gate) {
                            let [sigma, _] = sigmoid(g);
                            *out = y * sigma;
                        }
                    }
                },
            );
        });
}

/// The gradient of [`sigmoid_gated`], in place: d = d out ← d y, and the gates `[rows, columns]`
/// in rows that start `stride` apart ← d gate = d · y · σ · (1 − σ).
pub fn sigmoid_gated_backward(
    d: &mut [f32],
    y: &[f32],
    gate: &mut [f32],
    [columns, stride]: [usize; 2],
) {
    assert!(
        y.len() == d.len() && d.len() / columns == gate.len().div_ceil(stride),
        "{} numbers behind {} gates in rows of {columns}, {stride} apart",
        d.len(),
        gate.len()
    );
    d.par_chunks_mut(ROWS * columns)
        .zip(y.par_chunks(ROWS * columns))
        .zip(gate.par_chunks_mut(ROWS * stride))
        .for_each(|((d, y), gate)| {
            let rows = d.chunks_exact_mut(columns).zip(y.chunks_exact(columns));
            let mut rows = rows.zip(gate.chunks_mut(stride));
            wide(
                #[inline(always)]
                || {
                    for ((d, y), gate) in &mut rows {
                        for ((d, y), g) in d.iter_mut().zip(y).zip(&mut gate[..columns]) {
                            let [sigma, rest] = sigmoid(*g);
                            *g = *d * y * sigma * rest;
                            *d *= sigma;
                        }
                    }
                },
            );
        });
}

/// x ← cap · tanh(x / cap).
///
/// Inlined where the caller has called [`wide`].
#[inline(always)]
pub fn softcap_row(x: &mut [f32], cap: f32) {
    let inverse = 1.0 / cap;
    for x in x {
        *x = cap * tanh(*x * inverse);
    }
}

/// The gradient of [`softcap_row`], in place, from its result z: d ← d · (1 − (z / cap)²).
#[inline(always)]
pub fn softcap_row_backward(d: &mut [f32], z: &[f32], cap: f32) {
    let inverse = 1.0 / cap;
    for (d, z) in d.iter_mut().zip(z) {
        let tanh = z * inverse;
        *d *= (1.0 - tanh) * (1.0 + tanh);
    }
}

/// [`softcap_row`] on many numbers.
pub fn softcap(x: &mut [f32], cap: f32) {
    x.par_chunks_mut(NUMBERS).for_each(|x| {
        wide(
            #[inline(always)]
            || softcap_row(x, cap),
        );
    });
}

/// tanh to about 3 ulp: a polynomial below 0.625, 1 − 2/(e²ˣ + 1) above. Without branches, so that
/// it vectorises.
#[inline(always)]
fn tanh(x: f32) -> f32 {
    let square = x * x;
    let mut p = -5.704_988_7e-3;
    for coefficient in [2.063_908_8e-2, -5.373_971_5e-2, 0.133_314_42, -0.333_332_8] {
        p = square.mul_add(p, coefficient);
    }
    let small = (x * square).mul_add(p, x);
    let size = x.abs();
    let large = (1.0 - 2.0 / (exp(2.0 * size) + 1.0)).copysign(x);
    if size < 0.625 { small } else { large }
}

/// The rates of the delta rule's heads, rows `[n, heads]`: β = σ(b), and the logarithm of the
/// decay, g = −e^{A_log} · softplus(a + dt_bias), with A_log and dt_bias `[heads]`.
pub fn delta_rates([b, a]: [&[f32]; 2], [a_log, dt_bias]: [&[f32]; 2], [beta, g]: [&mut [f32]; 2]) {
    let heads = a_log.len();
    for (beta, b) in beta.iter_mut().zip(b) {
        *beta = 1.0 / (1.0 + (-b).exp());
    }
    for (g, a) in g.chunks_exact_mut(heads).zip(a.chunks_exact(heads)) {
        for (head, (g, a)) in g.iter_mut().zip(a).enumerate() {
            *g = -a_log[head].exp() * softplus(a + dt_bias[head]);
        }
    }
}

/// The gradient of [`delta_rates`], in place: dβ ← db = dβ · β · (1 − β), and dg ← da =
/// −dg · e^{A_log} · σ(a + dt_bias).
pub fn delta_rates_backward(
    [b, a]: [&[f32]; 2],
    [a_log, dt_bias]: [&[f32]; 2],
    [d_beta, dg]: [&mut [f32]; 2],
) {
    let heads = a_log.len();
    let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
    for (d, b) in d_beta.iter_mut().zip(b) {
        *d *= sigmoid(*b) * sigmoid(-b);
    }
    for (d, a) in dg.chunks_exact_mut(heads).zip(a.chunks_exact(heads)) {
        for (head, (d, a)) in d.iter_mut().zip(a).enumerate() {
            *d *= -a_log[head].exp() * sigmoid(a + dt_bias[head]);
        }
    }
}

/// ln(1 + eˣ).
fn softplus(x: f32) -> f32 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// −20 to 20 in steps of 1/64 and a few small numbers.
    fn points() -> Vec<f32> {
        let small = [1e-6, -1e-6, 1e-3, -1e-3];
        (-1280..=1280)
            .map(|i| i as f32 / 64.0)
            .chain(small)
            .collect()
    }

    /// Relative to the truth, but to `floor` where it is smaller.
    fn close(name: &str, x: f32, found: f32, truth: f64, floor: f64) {
        let error = (f64::from(found) - truth).abs();
        let allowed = 1e-6 * truth.abs().max(floor);
        assert!(error <= allowed, "{name}({x}) is {truth}, found {found}");
    }

    fn gelu(x: f64) -> f64 {
        let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
        x / (1.0 + (-2.0 * inner).exp())
    }

    fn quotient(f: impl Fn(f64) -> f64, x: f64) -> f64 {
        (f(x + 1e-5) - f(x - 1e-5)) / 2e-5
    }

    #[test]
    fn gelu_is_the_tanh_form_and_its_gradient_the_difference_quotient() {
        let x = points();
        let up = vec![1.5; x.len()];
        let mut out = vec![0.0; x.len()];
        gelu_gated(&x, &up, &mut out);
        let (mut gate, mut d_up) = (x.clone(), up.clone());
        gelu_gated_backward(&vec![0.5; x.len()], &mut gate, &mut d_up);
        for (index, &x) in x.iter().enumerate() {
            let truth = gelu(x.into());
            let form = f64::from(x) / 2.0
                * (1.0
                    + ((2.0 / std::f64::consts::PI).sqrt()
                        * (f64::from(x) + 0.044715 * f64::from(x).powi(3)))
                    .tanh());
            assert!((truth - form).abs() < 1e-12);
            close("gelu", x, out[index], 1.5 * truth, 1e-2);
            close("d up", x, d_up[index], 0.5 * truth, 1e-2);
            close(
                "d gate",
                x,
                gate[index],
                0.75 * quotient(gelu, x.into()),
                0.5,
            );
        }
    }

    #[test]
    fn a_sigmoid_gate_reads_every_second_half_of_a_wider_matrix() {
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let x = points();
        // Rows [other | gate] of width 5 each.
        let (columns, rows) = (5, x.len() / 5);
        let x = &x[..rows * columns];
        let mut wide_rows = Vec::new();
        for row in x.chunks(columns) {
            wide_rows.extend([f32::NAN; 5]);
            wide_rows.extend(row);
        }
        let y: Vec<f32> = x.iter().map(|x| 2.0 - x).collect();
        let gate = View {
            values: &wide_rows[columns..],
            rows,
            columns,
            stride: 2 * columns,
        };
        let mut out = vec![0.0; y.len()];
        sigmoid_gated(&y, gate, &mut out);
        let (mut d, mut gates) = (vec![0.5; y.len()], wide_rows[columns..].to_vec());
        sigmoid_gated_backward(&mut d, &y, &mut gates, [columns, 2 * columns]);
        for (index, (&x, &y)) in x.iter().zip(&y).enumerate() {
            let sigma = sigmoid(x.into());
            close("gated", x, out[index], f64::from(y) * sigma, 1e-9);
            close("d y", x, d[index], 0.5 * sigma, 1e-9);
            let truth = 0.5 * f64::from(y) * sigma * sigmoid(-f64::from(x));
            let found = gates[index / columns * 2 * columns + index % columns];
            close("d gate", x, found, truth, 1e-6);
        }
        let others = gates.chunks(2 * columns).map(|row| &row[columns..]);
        assert!(others.flatten().all(|other| other.is_nan()));
    }

    #[test]
    fn a_softcap_is_its_formula() {
        for cap in [1.0, 30.0] {
            let x = points();
            let mut z = x.clone();
            softcap(&mut z, cap);
            let mut d = vec![0.5; x.len()];
            softcap_row_backward(&mut d, &z, cap);
            for (index, &x) in x.iter().enumerate() {
                let truth = (f64::from(x) / f64::from(cap)).tanh();
                close("softcap", x, z[index], f64::from(cap) * truth, 0.0);
                close("d", x, d[index], 0.5 * (1.0 - truth * truth), 1.0);
            }
        }
    }

    #[test]
    fn the_rates_of_the_delta_rule_are_their_formulas() {
        let x = points();
        let (a_log, dt_bias) = ([0.3f32], [-0.7f32]);
        let (mut beta, mut g) = (x.clone(), x.clone());
        let rates = [&a_log[..], &dt_bias];
        delta_rates([&x, &x], rates, [&mut beta, &mut g]);
        let (mut db, mut da) = (vec![0.5; x.len()], vec![0.5; x.len()]);
        delta_rates_backward([&x, &x], rates, [&mut db, &mut da]);
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let decay = |x: f64| -f64::from(0.3f32).exp() * (x + f64::from(-0.7f32)).exp().ln_1p();
        for (index, &x) in x.iter().enumerate() {
            close("beta", x, beta[index], sigmoid(x.into()), 0.0);
            close("g", x, g[index], decay(x.into()), 0.0);
            let slope = sigmoid(x.into()) * sigmoid(-f64::from(x));
            close("db", x, db[index], 0.5 * slope, 0.0);
            close("da", x, da[index], 0.5 * quotient(decay, x.into()), 1e-3);
        }
    }
}

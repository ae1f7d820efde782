//! Standard normals from a stream, the same to the last bit on every machine: only operations that IEEE 754 defines exactly
//! (no `ln`, whose last digit the platform's library decides).

use rand_core::Rng;

use crate::random::uniform;

/// Fills `out` with independent standard normals by Marsaglia's polar method.
pub(super) fn fill_normals(stream: &mut impl Rng, out: &mut [f32]) {
    for pair in out.chunks_mut(2) {
        let (first, second) = normal_pair(stream);
        pair[0] = first as f32;
        if let [_, other] = pair {
            *other = second as f32;
        }
    }
}

fn normal_pair(stream: &mut impl Rng) -> (f64, f64) {
    loop {
        let (x, y) = (2.0 * uniform(stream) - 1.0, 2.0 * uniform(stream) - 1.0);
        let square = x * x + y * y;
        if square > 0.0 && square < 1.0 {
            let factor = (-2.0 * logarithm(square) / square).sqrt();
            return (x * factor, y * factor);
        }
    }
}

/// ln x for a normal positive x: x = m · 2ᵉ with m in [√½, √2), ln m = 2 artanh((m − 1)/(m + 1)) as a series.
fn logarithm(x: f64) -> f64 {
    let bits = x.to_bits();
    let mut exponent = (bits >> 52) as i64 - 1023;
    let mut mantissa = f64::from_bits(bits & ((1 << 52) - 1) | 1023 << 52);
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa /= 2.0;
        exponent += 1;
    }
    let ratio = (mantissa - 1.0) / (mantissa + 1.0);
    let square = ratio * ratio;
    // |ratio| ≤ 0.172: the first term left out is below 1e-17 of the sum.
    let series = (0..11).rev().fold(0.0, |sum, term| sum * square + 1.0 / f64::from(2 * term + 1));
    2.0 * ratio * series + exponent as f64 * std::f64::consts::LN_2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, stream};

    #[test]
    fn the_logarithm_agrees_with_the_platform_s() {
        for x in [1e-300, 1e-9, 0.1, 0.5, 0.707, 0.7072, 0.9, 0.999_999, 1.0] {
            let expected: f64 = f64::ln(x);
            assert!((logarithm(x) - expected).abs() <= 4e-16 * expected.abs().max(0.5), "{x}");
        }
    }

    #[test]
    fn moments_are_those_of_a_standard_normal() {
        let mut numbers = vec![0f32; 200_001];
        fill_normals(&mut stream(1, Purpose::Posterior, 0, 0, "x"), &mut numbers);
        let moment = |power: i32| numbers.iter().map(|&z| f64::from(z).powi(power)).sum::<f64>() / numbers.len() as f64;
        // Standard errors: 0.0022, 0.0032, 0.0087, 0.022.
        for (power, expected, error) in [(1, 0.0, 0.009), (2, 1.0, 0.013), (3, 0.0, 0.035), (4, 3.0, 0.09)] {
            assert!((moment(power) - expected).abs() < error, "{power}: {}", moment(power));
        }
        let beyond = numbers.iter().filter(|z| z.abs() > 1.959_964).count() as f64 / numbers.len() as f64;
        assert!((beyond - 0.05).abs() < 0.002, "{beyond}");
    }
}

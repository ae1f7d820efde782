//! Numbers of rows and of errors → exact statements about a rate: tails of the binomial
//! distribution, the p-values made of them, and intervals.

use libm::lgamma;

use crate::metrics::bisection;

/// Terms of a sum smaller than its total by this factor do not change it.
const NEGLIGIBLE: f64 = 1e-18;
/// Halvings of [0, 1] for an end of an interval, down to a width of 1e-18.
const HALVINGS: usize = 60;

/// P(K ≤ `at_most`) for K ~ Binomial(`count`, `rate`).
///
/// As the p-value of "the rate of errors is above `rate`" after `at_most` errors in `count` rows it
/// is valid for every `count`: under any true rate of at least `rate`, P(p ≤ u) ≤ u (Angelopoulos et
/// al. 2021, arXiv 2110.01052; Bates et al. 2021, arXiv 2101.02703). `rate` is
/// in [0, 1]; without rows the value is 1.
///
/// The sum starts at its largest term, which is computed in logarithms, so that nothing underflows
/// before the result does.
pub fn binomial_tail(count: usize, rate: f64, at_most: usize) -> f64 {
    if at_most >= count || rate <= 0.0 {
        return 1.0;
    }
    if rate >= 1.0 {
        return 0.0;
    }
    let (rows, odds) = (count as f64, rate / (1.0 - rate));
    let is_below_the_mean = at_most as f64 <= rows * rate;
    if is_below_the_mean {
        let ratio = |i: f64| i / ((rows - i + 1.0) * odds);
        let downwards = (1..=at_most).rev().map(|i| ratio(i as f64));
        (ln_term(count, rate, at_most) + ln_sum(downwards)).exp()
    } else {
        let ratio = |i: f64| (rows - i) / (i + 1.0) * odds;
        let upwards = (at_most + 1..count).map(|i| ratio(i as f64));
        1.0 - (ln_term(count, rate, at_most + 1) + ln_sum(upwards)).exp()
    }
    .clamp(0.0, 1.0)
}

/// ln of C(n, k) r^k (1 − r)^(n − k).
fn ln_term(count: usize, rate: f64, at: usize) -> f64 {
    let ln_factorial = |n: usize| lgamma(n as f64 + 1.0);
    let ways = ln_factorial(count) - ln_factorial(at) - ln_factorial(count - at);
    ways + at as f64 * rate.ln() + (count - at) as f64 * (-rate).ln_1p()
}

/// ln(1 + r₁ + r₁r₂ + …) of the falling ratios of one term to the one before it.
fn ln_sum(ratios: impl Iterator<Item = f64>) -> f64 {
    let (mut total, mut term) = (1.0, 1.0);
    for ratio in ratios {
        term *= ratio;
        total += term;
        if term < NEGLIGIBLE * total {
            break;
        }
    }
    f64::ln(total)
}

/// The Kullback–Leibler divergence of Bernoulli(a) from Bernoulli(b), nats:
/// h₁(a, b) = a ln(a/b) + (1 − a) ln((1 − a)/(1 − b)), for b in (0, 1).
pub fn bernoulli_divergence(a: f64, b: f64) -> f64 {
    let part = |p: f64, q: f64| if p > 0.0 { p * (p / q).ln() } else { 0.0 };
    part(a, b) + part(1.0 - a, 1.0 - b)
}

/// The Hoeffding–Bentkus p-value of "the mean of a cost in [0, 1] is above `limit`" after `count`
/// rows with this `total`:
///
/// p = min(exp(−n h₁(R̂ ∧ α, α)), e · P(Bin(n, α) ≤ ⌈n R̂⌉))
///
/// (the Hoeffding–Bentkus p-value of Angelopoulos et al. 2021, arXiv 2110.01052, after the bound of
/// Bates et al. 2021, arXiv 2101.02703, section 3.1.) The total is rounded up: rounded down it would lose an error. `limit`
/// is in (0, 1).
pub fn hoeffding_bentkus(count: usize, limit: f64, total: f64) -> f64 {
    if count == 0 {
        return 1.0;
    }
    let rows = count as f64;
    let mean = (total / rows).clamp(0.0, 1.0);
    let hoeffding = (-rows * bernoulli_divergence(mean.min(limit), limit)).exp();
    let bentkus = std::f64::consts::E * binomial_tail(count, limit, total.max(0.0).ceil() as usize);
    hoeffding.min(bentkus).min(1.0)
}

/// The fewest rows that can show a rate of at most `limit` at this level, none of them an error:
/// ⌈ln δ / ln(1 − ε)⌉, for both in (0, 1).
pub fn fewest_rows(limit: f64, level: f64) -> usize {
    // A quotient that is a whole number may come out a rounding error above it.
    let exact = level.ln() / (-limit).ln_1p();
    (exact - 1e-9).ceil().max(1.0) as usize
}

/// The exact two-sided interval of a rate (Clopper and Pearson 1934) from `errors` in `count` rows.
/// Without rows it is [0, 1].
pub fn exact_interval(count: usize, errors: usize, confidence: f64) -> [f64; 2] {
    let side = 0.5 * (1.0 - confidence);
    let low = match errors {
        0 => 0.0,
        _ => bisection([0.0, 1.0], HALVINGS, |rate| {
            1.0 - binomial_tail(count, rate, errors - 1) >= side
        }),
    };
    let high = match errors >= count {
        true => 1.0,
        false => bisection([0.0, 1.0], HALVINGS, |rate| {
            binomial_tail(count, rate, errors) <= side
        }),
    };
    [low, high]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// P(K = k) by multiplication of the ways, for small n.
    fn probability(count: usize, rate: f64, at: usize) -> f64 {
        let ways = (0..at).fold(1.0, |ways, i| ways * (count - i) as f64 / (i + 1) as f64);
        ways * rate.powi(at as i32) * (1.0 - rate).powi((count - at) as i32)
    }

    #[test]
    fn the_tail_is_the_sum_of_its_terms() {
        for count in 0..=12 {
            for rate in [0.0, 0.01, 0.1, 0.35, 0.5, 0.9, 1.0] {
                for at_most in 0..=count {
                    let sum: f64 = (0..=at_most).map(|k| probability(count, rate, k)).sum();
                    let found = binomial_tail(count, rate, at_most);
                    assert!((found - sum).abs() < 1e-12, "{count} {rate} {at_most}");
                }
            }
        }
        // No error in n rows: (1 − ε)^n, far below what a float holds unlogged.
        let tail = binomial_tail(10_000, 0.05, 0);
        assert!((tail.ln() / (10_000.0 * 0.95f64.ln()) - 1.0).abs() < 1e-10);
        // Python: sum(comb(1000, i) * F(1, 20)**i * F(19, 20)**(1000 - i) for i in range(k + 1)),
        // F = fractions.Fraction.
        for (at_most, expected) in [
            (40, 0.080_636_573_256_691_16),
            (60, 0.932_937_481_366_692_1),
        ] {
            let found = binomial_tail(1000, 0.05, at_most);
            assert!((found / expected - 1.0).abs() < 1e-11, "{found}");
        }
    }

    #[test]
    fn the_exact_p_value_is_super_uniform_by_enumeration_under_every_rate_it_denies() {
        for count in 1..=12 {
            for limit in [0.05, 0.1, 0.3, 0.5] {
                let values: Vec<f64> = (0..=count)
                    .map(|k| binomial_tail(count, limit, k))
                    .collect();
                for rate in [limit, limit + 0.02, limit + 0.2, 0.9] {
                    let chance = |u: f64| {
                        let small = (0..=count).filter(|&k| values[k] <= u);
                        small.map(|k| probability(count, rate, k)).sum::<f64>()
                    };
                    let levels = values
                        .iter()
                        .copied()
                        .chain((1..100).map(|u| u as f64 / 100.0));
                    for u in levels {
                        assert!(
                            chance(u) <= u + 1e-12,
                            "n {count}, ε {limit}, r {rate}, u {u}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn hoeffding_bentkus_is_super_uniform_by_enumeration_of_costs_of_0_half_and_1() {
        for count in 1..=12 {
            for limit in [0.1, 0.3, 0.5] {
                // Shares of the costs ½ and 1 with the mean `limit`.
                for one in [0.0, limit / 2.0, limit] {
                    let half = 2.0 * (limit - one);
                    let none = 1.0 - half - one;
                    if none < 0.0 {
                        continue;
                    }
                    let mut found = Vec::new();
                    for ones in 0..=count {
                        for halves in 0..=count - ones {
                            let chance = probability(count, one, ones)
                                * probability(count - ones, half / (1.0 - one), halves);
                            let total = ones as f64 + 0.5 * halves as f64;
                            found.push((hoeffding_bentkus(count, limit, total), chance));
                        }
                    }
                    assert!((found.iter().map(|f| f.1).sum::<f64>() - 1.0).abs() < 1e-9);
                    for &(u, _) in &found {
                        let below = found.iter().filter(|f| f.0 <= u);
                        let chance: f64 = below.map(|f| f.1).sum();
                        assert!(chance <= u + 1e-12, "n {count}, α {limit}, u {u}");
                    }
                }
            }
        }
    }

    #[test]
    fn no_error_is_lost_when_a_mean_is_multiplied_by_its_rows_again() {
        // 0.29 · 100 = 28.999… in floats: cut to a whole number it would be 28.
        assert_eq!((100.0 * 0.29f64) as usize, 28);
        let whole = std::f64::consts::E * binomial_tail(100, 0.4, 29);
        let found = hoeffding_bentkus(100, 0.4, 100.0 * 0.29);
        let hoeffding = (-100.0 * bernoulli_divergence(0.29, 0.4)).exp();
        assert!((found - whole.min(hoeffding)).abs() < 1e-12);
        assert!(found > std::f64::consts::E * binomial_tail(100, 0.4, 28));
    }

    #[test]
    fn the_fewest_rows_just_reach_the_level_and_one_less_does_not() {
        for limit in [0.01, 0.05, 0.1, 0.5] {
            for level in [0.01, 0.05, 0.1, 0.25] {
                let rows = fewest_rows(limit, level);
                assert!(binomial_tail(rows, limit, 0) <= level * (1.0 + 1e-9));
                assert!(binomial_tail(rows - 1, limit, 0) > level, "{limit} {level}");
            }
        }
        assert_eq!((fewest_rows(0.05, 0.1), fewest_rows(0.5, 0.25)), (45, 2));
    }

    #[test]
    fn the_interval_is_that_of_clopper_and_pearson() {
        // No error in 100 rows: 1 − 0.025^(1/100) = 0.0362.
        let [low, high] = exact_interval(100, 0, 0.95);
        assert!(low == 0.0 && (high - (1.0 - 0.025f64.powf(0.01))).abs() < 1e-12);
        let [low, high] = exact_interval(100, 10, 0.95);
        assert!(
            (low - 0.0490).abs() < 1e-4 && (high - 0.1762).abs() < 1e-4,
            "{low} {high}"
        );
        assert_eq!(exact_interval(0, 0, 0.95), [0.0, 1.0]);
        assert_eq!(exact_interval(5, 5, 0.9)[1], 1.0);
    }
}

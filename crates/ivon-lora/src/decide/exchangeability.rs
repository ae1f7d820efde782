//! The certainties of new cases → whether they may come from where those of calibrate come from. If
//! not, nothing is promised any more.

use crate::metrics::log_sum_exp;

/// The fewest cases of either side that the two-sample test is used for.
pub const FEWEST_CASES: usize = 20;

/// The two-sample Kolmogorov–Smirnov test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KolmogorovSmirnov {
    /// D, the largest distance between the two empirical distribution functions, in [0, 1].
    pub distance: f64,
    /// The probability of a distance this large under exchangeability, by the asymptotic
    /// distribution with Stephens's correction for finite samples (1970); conservative under ties.
    pub p_value: f64,
}

impl KolmogorovSmirnov {
    /// The test of two samples; none if either has fewer than [`FEWEST_CASES`].
    pub fn of(one: &[f64], other: &[f64]) -> Option<Self> {
        if one.len().min(other.len()) < FEWEST_CASES {
            return None;
        }
        let sorted = |values: &[f64]| {
            let mut values = values.to_vec();
            values.sort_by(f64::total_cmp);
            values
        };
        let distance = largest_distance(&sorted(one), &sorted(other));
        let (n, m) = (one.len() as f64, other.len() as f64);
        let root = (n * m / (n + m)).sqrt();
        Some(Self {
            distance,
            p_value: kolmogorov_tail((root + 0.12 + 0.11 / root) * distance),
        })
    }
}

/// sup |F − G| of two sorted samples; values that tie are passed together.
fn largest_distance(one: &[f64], other: &[f64]) -> f64 {
    let (mut i, mut j, mut largest) = (0, 0, 0.0f64);
    while i < one.len() && j < other.len() {
        let value = one[i].min(other[j]);
        let past = |values: &[f64], from: usize| {
            let ties = values[from..].iter().take_while(|&&next| next <= value);
            from + ties.count()
        };
        (i, j) = (past(one, i), past(other, j));
        let shares = i as f64 / one.len() as f64 - j as f64 / other.len() as f64;
        largest = largest.max(shares.abs());
    }
    largest
}

/// P(K > x) of Kolmogorov's distribution: 2 Σ (−1)^(k − 1) exp(−2 k² x²).
fn kolmogorov_tail(x: f64) -> f64 {
    // Below it the series converges slowly, to a probability that is 1 to six places.
    if x < 0.25 {
        return 1.0;
    }
    let term = |k: i32| f64::from(2 * (k % 2) - 1) * (-2.0 * f64::from(k * k) * x * x).exp();
    (2.0 * (1..=20).map(term).sum::<f64>()).clamp(0.0, 1.0)
}

/// The exponents of the bets on small and on large p-values.
const EXPONENTS: [f64; 9] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];
/// The number of parts of the histogram.
const PARTS: usize = 10;

/// A conformal martingale over cases in the order of their arrival: capital that is bet against
/// exchangeability, 1 at the start (Vovk, Nouretdinov and Gammerman 2003, "Testing exchangeability
/// on-line"; Vovk, Gammerman and Shafer 2005, chapter 7).
///
/// Each case has a conformal p-value among all earlier ones: the smoothed share of those at most as
/// certain. Under exchangeability they are independent and uniform, so that a bet by any density of
/// [0, 1] multiplies capital by 1 on average. Half of the stake is spread over the densities
/// ε p^(ε − 1) and ε (1 − p)^(ε − 1), for cases that are less or more certain than before; the other
/// half follows the histogram of the p-values so far, for any other change (a plug-in martingale;
/// Fedorova et al. 2012, arXiv 1204.3251). By Ville's inequality the sum ever reaches c with
/// probability at most 1/c.
#[derive(Clone, Debug)]
pub struct ConformalMartingale {
    /// Certainties of all cases so far, ascending.
    seen: Vec<f64>,
    /// The logarithms of the capital of each side and exponent.
    ln_capital: [[f64; EXPONENTS.len()]; 2],
    /// How many p-values fell into each of the equal parts of [0, 1], and half of one each before.
    histogram: [f64; PARTS],
    /// The logarithm of the capital of the bets by it.
    ln_plug_in: f64,
}

impl ConformalMartingale {
    /// A martingale after the cases of calibrate.
    pub fn after(calibrate: &[f64]) -> Self {
        let mut seen = calibrate.to_vec();
        seen.sort_by(f64::total_cmp);
        Self {
            seen,
            ln_capital: [[0.0; EXPONENTS.len()]; 2],
            histogram: [0.5; PARTS],
            ln_plug_in: 0.0,
        }
    }

    /// Takes the next case, with a uniform number in [0, 1) of its own; returns ln of the capital.
    pub fn take(&mut self, certainty: f64, uniform: f64) -> f64 {
        let below = self.seen.partition_point(|&other| other < certainty);
        let up_to = self.seen.partition_point(|&other| other <= certainty);
        let ties = (up_to - below + 1) as f64;
        // 1 − u is in (0, 1]: a p-value of 0 would be an infinite bet.
        let p = (below as f64 + (1.0 - uniform) * ties) / (self.seen.len() as f64 + 1.0);
        self.seen.insert(up_to, certainty);
        for (side, p) in [p, 1.0 - p].into_iter().enumerate() {
            let ln_p = p.max(f64::MIN_POSITIVE).ln();
            for (capital, exponent) in self.ln_capital[side].iter_mut().zip(EXPONENTS) {
                *capital += exponent.ln() + (exponent - 1.0) * ln_p;
            }
        }
        let part = ((p * PARTS as f64) as usize).min(PARTS - 1);
        let all: f64 = self.histogram.iter().sum();
        self.ln_plug_in += (self.histogram[part] / all * PARTS as f64).ln();
        self.histogram[part] += 1.0;
        self.ln_capital()
    }

    /// ln of the capital: of half of the stake by powers, and half by the histogram.
    pub fn ln_capital(&self) -> f64 {
        let powers = log_sum_exp(self.ln_capital.iter().flatten().copied());
        let mean_of_powers = powers - ((2 * EXPONENTS.len()) as f64).ln();
        log_sum_exp([mean_of_powers, self.ln_plug_in].into_iter()) - std::f64::consts::LN_2
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, stream, uniform};

    fn sample(set: u64, count: usize, shift: f64) -> Vec<f64> {
        let mut numbers = stream(8, Purpose::Bootstrap, set, count as u64, "exchangeability");
        (0..count)
            .map(|_| uniform(&mut numbers).powf(1.0 + shift))
            .collect()
    }

    #[test]
    fn the_distance_of_two_small_samples_and_the_tail_of_kolmogorov() {
        assert_eq!(
            largest_distance(&[1.0, 2.0, 3.0, 4.0], &[3.0, 4.0, 5.0, 6.0]),
            0.5
        );
        assert_eq!(
            largest_distance(&[1.0, 1.0, 2.0], &[1.0, 2.0, 2.0]),
            1.0 / 3.0
        );
        // The usual critical values: 1.3581 at 5 %, 1.6276 at 1 %.
        assert!((kolmogorov_tail(1.3581) - 0.05).abs() < 1e-4);
        assert!((kolmogorov_tail(1.6276) - 0.01).abs() < 1e-4);
        assert_eq!(KolmogorovSmirnov::of(&[0.0; 19], &[0.0; 100]), None);
    }

    #[test]
    fn exchangeable_batches_are_seldom_called_other_and_shifted_ones_are() {
        let p_values = |shift: f64| {
            (0..1000).map(move |set| {
                let (one, other) = (sample(2 * set, 300, 0.0), sample(2 * set + 1, 100, shift));
                KolmogorovSmirnov::of(&one, &other).unwrap().p_value
            })
        };
        for level in [0.01, 0.05, 0.2] {
            let alarms = p_values(0.0).filter(|&p| p <= level).count() as f64;
            let slack = 3.1 * (1000.0 * level * (1.0 - level)).sqrt();
            assert!(alarms <= 1000.0 * level + slack, "{alarms} at {level}");
        }
        assert!(p_values(1.0).filter(|&p| p <= 0.01).count() > 950);
    }

    #[test]
    fn the_martingale_seldom_reaches_a_hundred_and_grows_under_a_shift() {
        let largest = |set: u64, shift: f64| {
            let mut martingale = ConformalMartingale::after(&sample(2 * set, 200, 0.0));
            let mut numbers = stream(9, Purpose::Bootstrap, set, 0, "exchangeability");
            let taken = sample(2 * set + 1, 200, shift);
            let capital = taken
                .iter()
                .map(|&at| martingale.take(at, uniform(&mut numbers)));
            capital.fold(0.0, f64::max)
        };
        // Ville: at most 1 in 20 ever reaches 20; 3.1 standard deviations of 1,000 sets.
        let reached = (0..1000)
            .filter(|&set| largest(set, 0.0) >= 20f64.ln())
            .count();
        assert!(reached as f64 <= 50.0 + 3.1 * 6.9, "{reached}");
        // Either way: cases that are less certain, and more.
        for shift in [1.5, -0.7] {
            let reached = (0..50)
                .filter(|&set| largest(set, shift) >= 100f64.ln())
                .count();
            assert!(reached >= 45, "{reached} at {shift}");
        }
    }

    #[test]
    fn p_values_are_uniform_under_ties() {
        // All cases are alike: the first bet is on p = 1 − u.
        let mut martingale = ConformalMartingale::after(&[0.5; 9]);
        let found = martingale.take(0.5, 0.75);
        let p = 0.25f64;
        let bets = EXPONENTS.map(|e| e * p.powf(e - 1.0) + e * (1.0 - p).powf(e - 1.0));
        let mean = bets.iter().sum::<f64>() / 18.0;
        // The first bet by the empty histogram is 1.
        assert!((found - (0.5 * mean + 0.5).ln()).abs() < 1e-12);
    }
}

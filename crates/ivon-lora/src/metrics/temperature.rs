//! Temperature scaling (Guo et al., arXiv 1706.04599): one number T by which logits are divided, so
//! that confidence fits a held-out set.
//!
//! Log-probabilities z serve as logits, since softmax(z/T) does not depend on a constant added to all
//! choices of a row.
//!
//! The likelihood alone drives T to 0 if no answer is wrong, and far from 1 on a few rows. So T has a
//! prior: ln T is normal around 0 with the standard deviation [`PRIOR_SD`]. T is the mode of the
//! posterior, with the lowest
//!
//! ```text
//! J(T) = −Σ ln softmax(z/T)[label] + ½ (ln T / 0.5)²
//! ```
//!
//! With a thousand rows the prior does not matter; twenty rows cannot outweigh it.

use serde::{Deserialize, Serialize};

use super::bisection::bisection;
use super::choice::{Ground, TooLittle};
use super::predictions::{LogProbabilities, Predictions, log_softmax};

/// The range of T: beyond it, predictions are all but certain, or all but uniform.
const TEMPERATURES: [f64; 2] = [0.05, 20.0];
/// The prior's standard deviation of ln T: two thirds of all temperatures are expected from 0.61 to
/// 1.65.
const PRIOR_SD: f64 = 0.5;
/// Steps of the grid over ln T, 6 wide, on which the minimum is located: in ln T the likelihood may
/// have several.
const STEPS: usize = 240;
/// Halvings of two such steps, down to a width of 1e-11.
const HALVINGS: usize = 32;
/// 2 (J − lowest J) at the ends of a 95 % interval: the quantile of χ² with one degree of freedom.
const DROP: f64 = 3.841;

/// The log-probabilities at temperature T, `[N][C]`: ln softmax(z/T). The answers stay the same.
pub fn at_temperature(log_probabilities: &[Vec<f64>], temperature: f64) -> LogProbabilities {
    log_probabilities
        .iter()
        .map(|row| log_softmax(row, temperature))
        .collect()
}

/// A temperature with its interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Temperature {
    /// T, by which log-probabilities are divided.
    pub value: f64,
    /// Its 95 % interval: every T whose J is higher by at most 1.92 nats.
    pub interval: [f64; 2],
}

/// Why a set of rows gives no temperature.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum NoTemperature {
    /// Too few rows, or too few right or wrong answers.
    #[error(transparent)]
    TooLittle(#[from] TooLittle),
    /// It is at an end of the range: the rows ask for certainty, or say nothing.
    #[error(
        "the temperature that fits is {temperature:.2}, at the end of the range from {} to {}",
        TEMPERATURES[0], TEMPERATURES[1]
    )]
    AtTheEnd {
        /// The end of the range.
        temperature: f64,
    },
}

/// The temperature of these predictions under the prior, with its interval.
///
/// # Errors
/// [`NoTemperature`] if the rows do not determine one.
pub fn fit_temperature(predictions: &Predictions) -> Result<Temperature, NoTemperature> {
    Ground::of(predictions).check()?;
    let [low, high] = TEMPERATURES.map(f64::ln);
    let step = (high - low) / STEPS as f64;
    let at = |index: usize| low + step * index as f64;
    let loss = PenalisedLoss(predictions);
    let values: Vec<f64> = (0..=STEPS).map(|index| loss.value(at(index))).collect();
    let better = |best: usize, next: usize| match values[next] < values[best] {
        true => next,
        false => best,
    };
    let lowest = (0..=STEPS).fold(0, better);
    if lowest == 0 || lowest == STEPS {
        return Err(NoTemperature::AtTheEnd {
            temperature: at(lowest).exp(),
        });
    }
    let is_rising = |logarithm: f64| loss.slope(logarithm) > 0.0;
    let best = bisection([at(lowest - 1), at(lowest + 1)], HALVINGS, is_rising);
    let ceiling = loss.value(best) + 0.5 * DROP;
    let is_above = |logarithm: f64| loss.value(logarithm) > ceiling;
    let below = (0..lowest).rev().find(|&index| values[index] > ceiling);
    let above = (lowest + 1..=STEPS).find(|&index| values[index] > ceiling);
    let first = below.map_or(low, |index| {
        bisection([at(index), best], HALVINGS, |logarithm| {
            !is_above(logarithm)
        })
    });
    let last = above.map_or(high, |index| {
        bisection([best, at(index)], HALVINGS, is_above)
    });
    Ok(Temperature {
        value: best.exp(),
        interval: [first.exp(), last.exp()],
    })
}

/// J of a labelled set, as a function of ln T.
struct PenalisedLoss<'a>(&'a Predictions);

impl PenalisedLoss<'_> {
    /// J at this ln T, nats.
    fn value(&self, logarithm: f64) -> f64 {
        let temperature = logarithm.exp();
        let rows = self.0.log_probabilities().iter().zip(self.0.labels());
        let loss: f64 = rows
            .map(|(row, &label)| -log_softmax(row, temperature)[label])
            .sum();
        loss + 0.5 * (logarithm / PRIOR_SD).powi(2)
    }

    /// dJ/d ln T: with β = 1/T and p = softmax(β z) it is −β Σ (Σ p z − z\[label\]) + ln T / s².
    fn slope(&self, logarithm: f64) -> f64 {
        let temperature = logarithm.exp();
        let of = |(row, &label): (&Vec<f64>, &usize)| {
            let scaled = log_softmax(row, temperature);
            scaled
                .iter()
                .zip(row)
                .map(|(log, z)| log.exp() * z)
                .sum::<f64>()
                - row[label]
        };
        let sum: f64 = self
            .0
            .log_probabilities()
            .iter()
            .zip(self.0.labels())
            .map(of)
            .sum();
        -sum / temperature + logarithm / PRIOR_SD.powi(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `right` of `count` examples have the label 0, to which all give the logit `z` above the
    /// other.
    fn alike(z: f64, right: usize, count: usize) -> Predictions {
        let rows = vec![log_softmax(&[z, 0.0], 1.0); count];
        Predictions::new(
            rows,
            (0..count)
                .map(|index| usize::from(index >= right))
                .collect(),
        )
        .unwrap()
    }

    /// Five logits of three choices, ten times each, with labels of which two in five are wrong.
    fn mixed() -> Predictions {
        let logits = [
            [2.0, 0.3, -1.0],
            [0.1, 0.2, 0.9],
            [-3.0, 4.0, 0.0],
            [1.0, 1.1, 0.9],
            [5.0, 0.0, 1.0],
        ];
        repeated(
            &logits.map(|row| log_softmax(&row, 1.0)),
            &[0, 1, 1, 2, 0],
            10,
        )
    }

    fn repeated(rows: &[Vec<f64>], labels: &[usize], times: usize) -> Predictions {
        let count = rows.len() * times;
        let rows = rows.iter().cycle().take(count).cloned().collect();
        Predictions::new(rows, labels.iter().cycle().take(count).copied().collect()).unwrap()
    }

    /// J as its formula has it, with nothing of this file.
    fn by_hand(predictions: &Predictions, temperature: f64) -> f64 {
        let rows = predictions
            .log_probabilities()
            .iter()
            .zip(predictions.labels());
        let loss = |(row, label): (&Vec<f64>, &usize)| {
            let total: f64 = row.iter().map(|z| (z / temperature).exp()).sum();
            total.ln() - row[*label] / temperature
        };
        rows.map(loss).sum::<f64>() + 2.0 * temperature.ln().powi(2)
    }

    #[test]
    fn many_rows_make_confidence_the_share_of_right_answers() {
        // σ(z/T) = 0.75 where z/T = ln 3; 4,000 rows leave little to the prior.
        for z in [0.4, 2.0, 6.0] {
            let predictions = alike(z, 75, 100);
            let many = repeated(predictions.log_probabilities(), predictions.labels(), 40);
            let found = fit_temperature(&many).unwrap();
            assert!(
                (found.value / (z / 3f64.ln()) - 1.0).abs() < 0.01,
                "{found:?}"
            );
            assert!(found.interval[1] / found.interval[0] < 1.25);
        }
    }

    #[test]
    fn where_all_rows_are_alike_the_mode_solves_one_equation() {
        // 0 = dJ/dT · T: −β z (n σ(β z) − right) + 4 ln T, with β = 1/T.
        for (z, right, count) in [(3.0, 25, 30), (6.0, 20, 25), (0.5, 190, 200)] {
            let found = fit_temperature(&alike(z, right, count)).unwrap().value;
            let scaled: f64 = z / found;
            let sigmoid = 1.0 / (1.0 + (-scaled).exp());
            let rest = -scaled * (count as f64 * sigmoid - right as f64) + 4.0 * found.ln();
            assert!(rest.abs() < 1e-6, "{z}: {rest}");
        }
    }

    #[test]
    fn no_other_temperature_is_better_and_the_interval_ends_where_it_is_worse_by_half_of_3_84() {
        for predictions in [mixed(), alike(4.0, 17, 22)] {
            let found = fit_temperature(&predictions).unwrap();
            let best = by_hand(&predictions, found.value);
            for step in -300..=300 {
                let other = (f64::from(step) * 0.01).exp();
                assert!(best <= by_hand(&predictions, other) + 1e-9, "{other}");
                let is_inside = (found.interval[0]..=found.interval[1]).contains(&other);
                assert_eq!(
                    is_inside,
                    by_hand(&predictions, other) - best <= 1.9205,
                    "{other} {found:?}"
                );
            }
        }
    }

    #[test]
    fn the_prior_holds_back_what_a_few_rows_would_overdo() {
        // 21 of 26 are right at a logit of 0.5: the likelihood alone takes T = 0.5 / ln(21/5) =
        // 0.348.
        let found = fit_temperature(&alike(0.5, 21, 26)).unwrap();
        assert!(found.value > 0.4 && found.value < 0.7, "{found:?}");
        assert!(
            found.interval[0] < 0.348 && found.interval[1] > 0.9,
            "{found:?}"
        );
    }

    #[test]
    fn rows_without_enough_mistakes_carry_no_temperature() {
        let message = |predictions| fit_temperature(&predictions).unwrap_err().to_string();
        assert!(
            message(alike(3.0, 20, 20))
                .starts_with("20 rows with 0 wrong answers cannot carry a choice")
        );
        assert!(message(alike(3.0, 5, 10)).starts_with("10 rows with 5 wrong answers"));
    }

    #[test]
    fn a_temperature_at_the_end_of_its_range_is_refused() {
        // All but uniform logits of which nearly all are right: certainty would fit best.
        let message = fit_temperature(&alike(0.01, 2000, 2005))
            .unwrap_err()
            .to_string();
        assert_eq!(
            message,
            "the temperature that fits is 0.05, at the end of the range from 0.05 to 20"
        );
        let wrong = fit_temperature(&alike(3.0, 400, 1000)).unwrap_err();
        assert!(
            matches!(wrong, NoTemperature::AtTheEnd { temperature } if temperature > 19.0),
            "{wrong}"
        );
    }
}

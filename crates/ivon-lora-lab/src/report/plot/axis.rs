//! A range of values → an axis with round ends and a few round ticks.

/// An axis from `low` to `high`, which are finite and differ.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    label: String,
    low: f64,
    high: f64,
    is_logarithmic: bool,
    ticks: Vec<(f64, String)>,
}

/// The desired number of ticks; there may be a few more or less, so that they are round.
const TICKS: f64 = 5.0;

impl Axis {
    /// From and to round numbers, around all finite values.
    pub fn around(label: &str, values: impl IntoIterator<Item = f64>) -> Self {
        let [low, high] = extent(values, |_| true).unwrap_or([0.0, 1.0]);
        // A single value is put in the middle of a range.
        let [low, high] = if high > low {
            [low, high]
        } else {
            [
                low - 0.5 * low.abs().max(1e-3),
                high + 0.5 * high.abs().max(1e-3),
            ]
        };
        let step = round_step((high - low) / TICKS);
        Self::stepped(
            label,
            (low / step + 1e-6).floor() * step,
            (high / step - 1e-6).ceil() * step,
            step,
            plain,
        )
    }

    /// From one number to another, which need not be round.
    pub fn between(label: &str, low: f64, high: f64) -> Self {
        let [low, high] = if high > low {
            [low, high]
        } else {
            [low, low + 1.0]
        };
        Self::stepped(label, low, high, round_step((high - low) / TICKS), plain)
    }

    /// As [`around`](Self::around), beginning at 0; for values that are at least 0.
    pub fn from_zero(label: &str, values: impl IntoIterator<Item = f64>) -> Self {
        let high = extent(values, |value| value > 0.0).map_or(1.0, |[_, high]| high);
        let step = round_step(high / TICKS);
        Self::stepped(label, 0.0, (high / step - 1e-6).ceil() * step, step, plain)
    }

    /// Shares between two ends, written in percent.
    pub fn percent(label: &str, low: f64, high: f64) -> Self {
        let [low, high] = if high > low { [low, high] } else { [0.0, 1.0] };
        Self::stepped(
            label,
            low,
            high,
            round_step((high - low) / TICKS),
            |value, step| format!("{} %", plain(100.0 * value, 100.0 * step)),
        )
    }

    /// Shares from and to round numbers, around all finite values, written in percent.
    pub fn percent_around(label: &str, values: impl IntoIterator<Item = f64>) -> Self {
        let Self { low, high, .. } = Self::around(label, values);
        Self::percent(label, low.max(0.0), high.min(1.0).max(low.max(0.0) + 1e-3))
    }

    /// A logarithmic axis around all values above 0, with ticks at powers of ten, and at 2 and 5 times
    /// these if there is room; linear if the values differ by less than a factor of 2.5.
    pub fn logarithmic(label: &str, values: impl IntoIterator<Item = f64>) -> Self {
        let [low, high] = extent(values, |value| value > 0.0).unwrap_or([0.1, 1.0]);
        // Such a narrow range would have hardly any ticks.
        if high > low && high / low < 2.5 {
            return Self::around(label, [low, high]);
        }
        let all = logarithmic_ticks(low, high);
        let below = all
            .iter()
            .copied()
            .filter(|tick| *tick <= low * (1.0 + 1e-9));
        let below = below.fold(all[0], f64::max);
        let above = all
            .iter()
            .copied()
            .filter(|tick| *tick >= high * (1.0 - 1e-9));
        let above = above.fold(f64::INFINITY, f64::min);
        let above = if above.is_finite() && above > below {
            above
        } else {
            below * 10.0
        };
        let ticks = all
            .into_iter()
            .filter(|tick| (below..=above).contains(tick));
        Self {
            label: label.into(),
            low: below,
            high: above,
            is_logarithmic: true,
            ticks: ticks.map(|tick| (tick, scientific(tick))).collect(),
        }
    }

    fn stepped(
        label: &str,
        low: f64,
        high: f64,
        step: f64,
        written: impl Fn(f64, f64) -> String,
    ) -> Self {
        let (first, last) = (
            (low / step - 1e-6).ceil() as i64,
            (high / step + 1e-6).floor() as i64,
        );
        let ticks = (first..=last.min(first + 50))
            .map(|tick| tick as f64 * step)
            .map(|tick| (tick, written(tick, step)))
            .collect();
        Self {
            label: label.into(),
            low,
            high,
            is_logarithmic: false,
            ticks,
        }
    }

    /// Its name and unit.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Its ticks with their words.
    pub fn ticks(&self) -> &[(f64, String)] {
        &self.ticks
    }

    /// The place of a value: 0 at the low end, 1 at the high one; a value beyond an end, or NaN, has a
    /// place beyond it, or NaN.
    pub fn place(&self, value: f64) -> f64 {
        if self.is_logarithmic {
            return (value / self.low).ln() / (self.high / self.low).ln();
        }
        (value - self.low) / (self.high - self.low)
    }
}

/// Powers of ten around a range; if it is narrow, with 2 and 5 times these.
fn logarithmic_ticks(low: f64, high: f64) -> Vec<f64> {
    let steps: &[f64] = if high / low < 100.0 {
        &[1.0, 2.0, 5.0]
    } else {
        &[1.0]
    };
    let first = low.log10().floor() as i32;
    let last = (high.log10().ceil() as i32).max(first + 1);
    let ticks = |power| steps.iter().map(move |step| step * 10f64.powi(power));
    (first..=last).flat_map(ticks).collect()
}

/// The smallest and the largest of the finite values that are wanted.
fn extent(values: impl IntoIterator<Item = f64>, wanted: impl Fn(f64) -> bool) -> Option<[f64; 2]> {
    let values = values
        .into_iter()
        .filter(|value| value.is_finite() && wanted(*value));
    values.fold(None, |found: Option<[f64; 2]>, value| {
        Some(found.map_or([value; 2], |[low, high]| [low.min(value), high.max(value)]))
    })
}

/// The round number (1, 2 or 5 times a power of ten) nearest to a step.
fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let factor = match step / power {
        ratio if ratio < 1.5 => 1.0,
        ratio if ratio < 3.5 => 2.0,
        ratio if ratio < 7.5 => 5.0,
        _ => 10.0,
    };
    factor * power
}

/// A number with as many decimals as the step has; very large and very small ones with a power of ten.
fn plain(value: f64, step: f64) -> String {
    if step < 1e-4 || value.abs() >= 1e6 {
        return if value == 0.0 {
            "0".into()
        } else {
            scientific(value)
        };
    }
    let decimals = (-(step.log10() + 1e-9).floor()).clamp(0.0, 6.0) as usize;
    format!("{:.decimals$}", value + 0.0)
}

/// `0.02`, `5`, `2e-5`.
fn scientific(value: f64) -> String {
    if (1e-3..1e4).contains(&value.abs()) {
        return format!("{}", (value * 1e6).round() / 1e6);
    }
    let text = format!("{value:.1e}");
    text.replace(".0e", "e")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(axis: &Axis) -> Vec<&str> {
        axis.ticks()
            .iter()
            .map(|(_, words)| words.as_str())
            .collect()
    }

    #[test]
    fn ends_and_ticks_are_round() {
        let axis = Axis::around("NLL", [0.41, 0.79]);
        assert_eq!(words(&axis), ["0.4", "0.5", "0.6", "0.7", "0.8"]);
        assert!((axis.place(0.6) - 0.5).abs() < 1e-12);
        assert_eq!(
            words(&Axis::from_zero("step", [1.0, 400.0])),
            ["0", "100", "200", "300", "400"]
        );
        assert_eq!(
            words(&Axis::percent("accuracy", 0.5, 1.0)),
            ["50 %", "60 %", "70 %", "80 %", "90 %", "100 %"]
        );
        assert_eq!(
            words(&Axis::percent("ECE", 0.0, 0.02)),
            ["0.0 %", "0.5 %", "1.0 %", "1.5 %", "2.0 %"]
        );
        assert_eq!(
            words(&Axis::around("lr", [0.0, 1e-4])),
            ["0", "2e-5", "4e-5", "6e-5", "8e-5", "1e-4"]
        );
    }

    #[test]
    fn a_logarithmic_axis_has_powers_of_ten() {
        let axis = Axis::logarithmic("σ", [3e-5, 0.02, 0.0, f64::NAN]);
        assert_eq!(words(&axis), ["1e-5", "1e-4", "0.001", "0.01", "0.1"]);
        assert!((axis.place(1e-3) - 0.5).abs() < 1e-12);
        assert_eq!(
            words(&Axis::logarithmic("s", [0.3, 0.9])),
            ["0.2", "0.5", "1"]
        );
        assert_eq!(
            words(&Axis::logarithmic("s", [1.0, 1.0])),
            ["1", "2", "5", "10"]
        );
        assert_eq!(
            words(&Axis::logarithmic("s", [0.03, 0.05])),
            ["0.030", "0.035", "0.040", "0.045", "0.050"]
        );
    }

    #[test]
    fn what_cannot_be_drawn_still_gives_an_axis() {
        for values in [
            vec![],
            vec![f64::NAN],
            vec![0.0],
            vec![7.0, 7.0],
            vec![f64::INFINITY],
        ] {
            for axis in [
                Axis::around("", values.clone()),
                Axis::from_zero("", values.clone()),
                Axis::logarithmic("", values.clone()),
            ] {
                assert!(
                    axis.place(axis.ticks()[0].0).is_finite() && axis.ticks().len() > 1,
                    "{values:?} {axis:?}"
                );
            }
        }
    }
}

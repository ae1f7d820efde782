//! Numbers with so few digits that they take little room in a file.

/// A number with so many significant digits.
pub(super) fn with_digits(value: f64, digits: usize) -> f64 {
    format!("{value:.*e}", digits - 1).parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_those_that_count() {
        let of = |value: f64| with_digits(value, 3);
        assert_eq!(
            [of(1.0 / 3.0), of(-12345.0), of(0.0)],
            [0.333, -12300.0, 0.0]
        );
        assert!(of(f64::NAN).is_nan() && of(1.0 / 3e20) == 3.33e-21);
    }
}

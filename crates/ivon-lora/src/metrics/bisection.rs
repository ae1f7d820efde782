//! The place in an interval where something becomes true.

/// Where `is_past` becomes true, between `low` (false) and `high` (true), after this many halvings.
pub(crate) fn bisection(
    [mut low, mut high]: [f64; 2],
    halvings: usize,
    is_past: impl Fn(f64) -> bool,
) -> f64 {
    for _ in 0..halvings {
        let middle = 0.5 * (low + high);
        if is_past(middle) {
            high = middle
        } else {
            low = middle
        }
    }
    0.5 * (low + high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_of_two_is_where_squares_exceed_it() {
        let found = bisection([1.0, 2.0], 40, |x| x * x > 2.0);
        assert!((found - std::f64::consts::SQRT_2).abs() < 1e-12);
    }
}

//! What a rule promises, and what is said where none can be promised.

use std::fmt;

use serde::{Deserialize, Serialize};

/// In which sense a risk stays within its limit. Both are about rows drawn as those of calibrate
/// were.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Promise {
    /// With at least this probability over sets of calibration rows, the rule's risk on new rows is
    /// within the limit: a set that misleads has the rest of the probability.
    WithProbability(f64),
    /// The risk is within the limit on average over sets of calibration rows; the rule of this one
    /// set may exceed it.
    InExpectation,
}

impl Promise {
    /// δ, by which the promise may fail.
    pub fn level(self) -> Option<f64> {
        match self {
            Self::WithProbability(confidence) => Some(1.0 - confidence),
            Self::InExpectation => None,
        }
    }
}

impl fmt::Display for Promise {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WithProbability(confidence) => {
                write!(out, "with probability {confidence} over calibration sets")
            }
            Self::InExpectation => write!(out, "in expectation over calibration sets"),
        }
    }
}

/// No rule can promise what was asked with these rows: an answer, not an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shortfall {
    /// Number of rows that there are.
    pub rows: usize,
    /// About how many would be needed, if the rates stay as these rows show them; none if no
    /// threshold has a rate below its limit, so that more rows would not help.
    pub needed: Option<usize>,
}

impl fmt::Display for Shortfall {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "no rule can promise this with {} rows; ", self.rows)?;
        match self.needed {
            Some(needed) => write!(out, "about {needed} would be needed"),
            None => write!(out, "at no threshold do they show a risk below the limit"),
        }
    }
}

/// A rule, or why there is none.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome<R> {
    /// A rule with its promise.
    Rule(R),
    /// The rows are too few, or their scores too poor.
    Impossible(Shortfall),
}

impl<R> Outcome<R> {
    /// The same with another rule in its place.
    pub fn map<S>(self, rule: impl FnOnce(R) -> S) -> Outcome<S> {
        match self {
            Self::Rule(found) => Outcome::Rule(rule(found)),
            Self::Impossible(shortfall) => Outcome::Impossible(shortfall),
        }
    }

    /// The rule, if there is one.
    pub fn rule(self) -> Option<R> {
        match self {
            Self::Rule(rule) => Some(rule),
            Self::Impossible(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_promise_is_made_is_said() {
        let promised = Promise::WithProbability(0.9);
        assert_eq!(
            promised.to_string(),
            "with probability 0.9 over calibration sets"
        );
        assert!((promised.level().unwrap() - 0.1).abs() < 1e-15);
        assert_eq!(Promise::InExpectation.level(), None);
        let shortfall = Shortfall {
            rows: 30,
            needed: Some(45),
        };
        assert_eq!(
            shortfall.to_string(),
            "no rule can promise this with 30 rows; about 45 would be needed"
        );
    }
}

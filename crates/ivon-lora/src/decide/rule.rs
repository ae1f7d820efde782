//! A rule of either form, what it says about a row, and its promise in a sentence.

use serde::{Deserialize, Serialize};

use super::error::check_share;
use super::{
    Case, CostMatrix, Cutoff, DecideError, Evidence, Limit, Promise, SetRule, ThresholdRule,
};

/// A rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// It answers or defers.
    Threshold(ThresholdRule),
    /// It gives a set of answers.
    Sets(SetRule),
}

/// What a rule says about a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// This answer.
    Answer(usize),
    /// Someone else shall answer.
    Defer,
    /// One of these answers, which may be none.
    Set(Vec<usize>),
}

impl Rule {
    /// In which sense the rule keeps its limits.
    pub fn promise(&self) -> Promise {
        match self {
            Self::Threshold(rule) => rule.promise,
            Self::Sets(rule) => rule.promise,
        }
    }

    /// What the rule says about a row; `uniform` is in [0, 1) and belongs to the row.
    pub fn verdict(
        &self,
        evidence: &Evidence<'_>,
        costs: Option<&CostMatrix>,
        uniform: f64,
    ) -> Verdict {
        match self {
            Self::Threshold(rule) => {
                let case: Case = evidence.case(rule.score, costs);
                match rule.answers(&case) {
                    true => Verdict::Answer(case.answer),
                    false => Verdict::Defer,
                }
            }
            Self::Sets(rule) => Verdict::Set(rule.set(&evidence.probabilities(), uniform)),
        }
    }

    /// Checks the numbers of a rule that was read from a file.
    ///
    /// # Errors
    /// If one is out of range.
    pub fn check(&self) -> Result<(), DecideError> {
        if let Promise::WithProbability(confidence) = self.promise() {
            check_share("the confidence", confidence)?;
        }
        let values: Vec<f64> = match self {
            Self::Threshold(rule) => {
                let above = |cutoff: &Cutoff| match *cutoff {
                    Cutoff::Above(value) => Some(value),
                    _ => None,
                };
                rule.cutoffs.iter().filter_map(above).collect()
            }
            Self::Sets(rule) => {
                check_share("the coverage", rule.coverage)?;
                rule.quantiles.iter().copied().flatten().collect()
            }
        };
        match values.into_iter().find(|value| !value.is_finite()) {
            Some(found) => Err(DecideError::OutOfRange {
                what: "a threshold",
                found,
                expected: "a finite number",
            }),
            None => Ok(()),
        }
    }

    /// What it does, in a sentence: `answer where the confidence is above 0.93, else defer`; `classes`
    /// are the answer words.
    pub fn action(&self, classes: &[String]) -> String {
        match self {
            Self::Threshold(rule) => threshold_action(rule, classes),
            Self::Sets(rule) => set_action(rule, classes),
        }
    }

    /// What is promised, in a sentence; `classes` are the answer words.
    pub fn sentence(&self, classes: &[String]) -> String {
        let what = match self {
            Self::Threshold(rule) => {
                let of = |limit: &Limit| limit_sentence(*limit, rule.cutoffs.len() > 1, classes);
                rule.limits
                    .iter()
                    .map(of)
                    .collect::<Vec<_>>()
                    .join(", and ")
            }
            Self::Sets(rule) => {
                let rows = match rule.quantiles.len() {
                    1 => "of all cases",
                    _ => "of the cases of each class",
                };
                format!(
                    "{rows}, at least {} have the right answer in their set",
                    percent(rule.coverage)
                )
            }
        };
        format!("{what}, {}", self.promise())
    }
}

fn threshold_action(rule: &ThresholdRule, classes: &[String]) -> String {
    let (name, side) = match rule.score.rises_with_certainty() {
        true => (rule.score.name(), "above"),
        false => (rule.score.name(), "below"),
    };
    let of = |cutoff: &Cutoff| match *cutoff {
        Cutoff::Nothing => "never".to_string(),
        Cutoff::Everything => "always".to_string(),
        Cutoff::Above(value) => {
            format!("where the {name} is {side} {:.4}", rule.score.signed(value))
        }
    };
    let action = match &rule.cutoffs[..] {
        [only] => of(only),
        each => by_class(classes, each, of),
    };
    format!("answer {action}, else defer")
}

fn set_action(rule: &SetRule, classes: &[String]) -> String {
    let of = |quantile: &Option<f64>| match quantile {
        Some(quantile) => format!("at most {quantile:.4}"),
        None => "anything".into(),
    };
    let quantiles = match &rule.quantiles[..] {
        [only] => of(only),
        each => format!("of {}", by_class(classes, each, of)),
    };
    let what = rule.nonconformity.name();
    let is = if rule.quantiles.len() == 1 {
        "is"
    } else {
        "is,"
    };
    format!("the set of the answers whose nonconformity ({what}) {is} {quantiles}")
}

/// The words of each class, with its name.
fn by_class<T>(classes: &[String], each: &[T], words: impl Fn(&T) -> String) -> String {
    let each = classes.iter().zip(each);
    let each = each.map(|(class, value)| format!("`{class}` {}", words(value)));
    each.collect::<Vec<_>>().join(", ")
}

/// `of the cases that are answered, at most 5 % are wrong`.
fn limit_sentence(limit: Limit, by_class: bool, classes: &[String]) -> String {
    let answered = match by_class {
        true => "of the cases that are answered with a class, for each class",
        false => "of the cases that are answered",
    };
    match limit {
        Limit::Error(at_most) => format!("{answered}, at most {} are wrong", percent(at_most)),
        Limit::Cost(at_most) => format!("{answered}, the mean cost is at most {at_most}"),
        Limit::CostPerCase(at_most) => {
            format!(
                "the mean cost of a case is at most {at_most}, where a deferred one costs nothing"
            )
        }
        Limit::Recall { class, at_least } => {
            let name = classes
                .get(class)
                .map_or_else(|| class.to_string(), |name| format!("`{name}`"));
            let share = percent(at_least);
            format!(
                "of the cases of class {name}, at least {share} are answered rightly or deferred"
            )
        }
    }
}

/// `2.5 %`.
fn percent(share: f64) -> String {
    format!("{} %", (share * 1e6).round() / 1e4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::{DecisionScore, Nonconformity};

    fn threshold(limits: Vec<Limit>) -> Rule {
        Rule::Threshold(ThresholdRule {
            score: DecisionScore::Confidence,
            cutoffs: vec![Cutoff::Above(0.8)],
            limits,
            promise: Promise::WithProbability(0.9),
            rows: 100,
            answered: 60,
        })
    }

    fn sets(quantiles: Vec<Option<f64>>) -> Rule {
        Rule::Sets(SetRule {
            nonconformity: Nonconformity::Lac,
            quantiles,
            coverage: 0.9,
            promise: Promise::InExpectation,
            rows: 100,
        })
    }

    #[test]
    fn each_form_has_its_verdict() {
        let verdict = |rule: &Rule, p: f64| {
            let logs = [p.ln(), (1.0 - p).ln()];
            let evidence = Evidence {
                log_probabilities: &logs,
                mutual_information: 0.0,
            };
            rule.verdict(&evidence, None, 0.5)
        };
        let rule = threshold(vec![Limit::Error(0.05)]);
        assert_eq!(verdict(&rule, 0.9), Verdict::Answer(0));
        assert_eq!(verdict(&rule, 0.05), Verdict::Answer(1));
        assert_eq!(verdict(&rule, 0.7), Verdict::Defer);
        let rule = sets(vec![Some(0.6)]);
        assert_eq!(verdict(&rule, 0.9), Verdict::Set(vec![0]));
        assert_eq!(verdict(&rule, 0.55), Verdict::Set(vec![0, 1]));
    }

    #[test]
    fn the_action_says_what_is_done_with_which_cases() {
        let classes = ["no", "yes"].map(String::from);
        let action = |rule: Rule| rule.action(&classes);
        assert_eq!(
            action(threshold(Vec::new())),
            "answer where the confidence is above 0.8000, else defer"
        );
        let by_class = Rule::Threshold(ThresholdRule {
            score: DecisionScore::Entropy,
            cutoffs: vec![Cutoff::Everything, Cutoff::Above(-0.5)],
            limits: Vec::new(),
            promise: Promise::WithProbability(0.9),
            rows: 100,
            answered: 60,
        });
        assert_eq!(
            action(by_class),
            "answer `no` always, `yes` where the entropy is below 0.5000, else defer"
        );
        assert_eq!(
            action(sets(vec![Some(0.5)])),
            "the set of the answers whose nonconformity (lac) is at most 0.5000"
        );
        assert_eq!(
            action(sets(vec![Some(0.5), None])),
            "the set of the answers whose nonconformity (lac) is, of `no` at most 0.5000, `yes` anything"
        );
    }

    #[test]
    fn the_sentence_says_what_is_promised_of_which_cases_and_in_which_sense() {
        let classes = ["ham".to_string(), "spam".to_string()];
        let recall = Limit::Recall {
            class: 1,
            at_least: 0.975,
        };
        assert_eq!(
            threshold(vec![Limit::Error(0.05), recall]).sentence(&classes),
            "of the cases that are answered, at most 5 % are wrong, and of the cases of class `spam`, at least 97.5 % are \
             answered rightly or deferred, with probability 0.9 over calibration sets"
        );
        assert_eq!(
            sets(vec![Some(0.5), None]).sentence(&classes),
            "of the cases of each class, at least 90 % have the right answer in their set, in expectation over calibration sets"
        );
    }

    #[test]
    fn a_rule_survives_its_file_and_one_that_cannot_be_is_refused() {
        for rule in [
            threshold(vec![Limit::Error(0.05)]),
            sets(vec![Some(0.1), None]),
        ] {
            let text = serde_json::to_string(&rule).unwrap();
            assert_eq!(serde_json::from_str::<Rule>(&text).unwrap(), rule, "{text}");
            assert!(rule.check().is_ok());
        }
        let error = sets(vec![Some(f64::INFINITY)]).check().unwrap_err();
        assert_eq!(
            error.to_string(),
            "a threshold is inf, expected a finite number"
        );
    }
}

//! A decision rule, what it promises, and how it does on rows that had no part in it.

use serde::Serialize;

use ivon_lora::bundle::{Decision, DecisionPredictions, Division, PredictWith};
use ivon_lora::decide::{
    Case, CostMatrix, LabelledCase, LabelledProbabilities, SetRule, Shortfall, ThresholdRule,
    exact_interval,
};
use ivon_lora::metrics::Table;

/// The confidence of the intervals of what is realised.
const CONFIDENCE: f64 = 0.95;

/// What was found on calibrate, and how it does on the scored rows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DecideReport {
    /// The rule with its promise; none if there is no rule that can promise what was asked.
    pub decision: Option<Decision>,
    /// Why there is none, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shortfall: Option<Shortfall>,
    /// How predictions are made, as one part of calibrate chose.
    pub predictions: DecisionPredictions,
    /// The division of calibrate.
    pub division: Division,
    /// The split of the scored rows.
    pub split: String,
    /// Their number.
    pub n: usize,
    /// What the rule does on them: on all, then on each class where it has a threshold or a quantile
    /// for each.
    pub realised: Vec<Realised>,
}

/// What a rule does on rows that had no part in it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Realised {
    /// Which rows: `all`, or a class.
    pub of: String,
    /// Number of rows; of a class, those that are answered with it, or of sets, those it is right
    /// for.
    pub rows: usize,
    /// Number of rows that are answered, or that have a set.
    pub answered: usize,
    /// Number of these that are wrong, or whose set is without the right answer.
    pub wrong: usize,
    /// The share of wrong among answered; none without answered rows.
    pub error: Option<f64>,
    /// Its exact 95 % interval (Clopper and Pearson).
    pub interval: [f64; 2],
    /// The mean cost of answered rows; none without costs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean_cost: Option<f64>,
    /// The mean number of answers in a set; none for a threshold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean_size: Option<f64>,
}

impl Realised {
    fn new(of: &str, rows: usize, answered: usize, wrong: usize) -> Self {
        Self {
            of: of.into(),
            rows,
            answered,
            wrong,
            error: (answered > 0).then(|| wrong as f64 / answered as f64),
            interval: exact_interval(answered, wrong, CONFIDENCE),
            mean_cost: None,
            mean_size: None,
        }
    }

    /// What a threshold does: on all cases, and on those of each answered class if each has one.
    pub(crate) fn of_threshold(
        rule: &ThresholdRule,
        cases: &[LabelledCase],
        costs: Option<&CostMatrix>,
        classes: &[String],
    ) -> Vec<Self> {
        let count = |of: &str, is_in: &dyn Fn(&Case) -> bool| {
            let rows = || cases.iter().filter(|row| is_in(&row.case));
            let answered = || rows().filter(|row| rule.answers(&row.case));
            let wrong = answered().filter(|row| row.is_wrong()).count();
            let count = answered().count();
            let total: f64 = answered().map(|row| row.cost(costs)).sum();
            Self {
                mean_cost: costs.filter(|_| count > 0).map(|_| total / count as f64),
                ..Self::new(of, rows().count(), count, wrong)
            }
        };
        let all = count("all", &|_| true);
        let each = classes.iter().enumerate();
        let each = each.map(|(class, name)| count(name, &|case| case.answer == class));
        let several = (rule.cutoffs.len() > 1).then_some(each);
        std::iter::once(all)
            .chain(several.into_iter().flatten())
            .collect()
    }

    /// What sets do: on all rows, and on those of each class if each has a quantile.
    pub(crate) fn of_sets(
        rule: &SetRule,
        rows: &[LabelledProbabilities],
        classes: &[String],
    ) -> Vec<Self> {
        let count = |of: &str, is_in: &dyn Fn(usize) -> bool| {
            let (mut count, mut wrong, mut members) = (0, 0, 0);
            for row in rows.iter().filter(|row| is_in(row.label)) {
                let set = rule.set(&row.probabilities, row.uniform);
                count += 1;
                wrong += usize::from(!set.contains(&row.label));
                members += set.len();
            }
            Self {
                mean_size: (count > 0).then(|| members as f64 / count as f64),
                ..Self::new(of, count, count, wrong)
            }
        };
        let all = count("all", &|_| true);
        let each = classes.iter().enumerate();
        let each = each.map(|(class, name)| count(name, &|label| label == class));
        let several = (rule.quantiles.len() > 1).then_some(each);
        std::iter::once(all)
            .chain(several.into_iter().flatten())
            .collect()
    }
}

impl DecideReport {
    /// Rule, promise and what they rest on, a sentence each.
    pub fn sentences(&self) -> Vec<String> {
        let Division {
            rows,
            choosing,
            ruling,
            share,
            seed,
        } = &self.division;
        let basis = format!(
            "rests on {ruling} rows of {rows}; {choosing} others (share {share}, seed {seed}) chose: {}",
            predictions_sentence(&self.predictions)
        );
        match (&self.decision, &self.shortfall) {
            (Some(decision), _) => vec![
                format!("rule: {}", decision.rule.action(&decision.answers)),
                format!("promise: {}", decision.promise),
                basis,
            ],
            (None, Some(shortfall)) => vec![shortfall.to_string(), basis],
            (None, None) => vec![basis],
        }
    }

    /// What the rule does on the scored rows.
    pub fn table(&self) -> Table {
        let has_sets = self.realised.iter().any(|row| row.mean_size.is_some());
        let has_costs = self.realised.iter().any(|row| row.mean_cost.is_some());
        let head: &[&str] = match has_sets {
            true => &[
                "",
                "rows",
                "mean size",
                "without the answer",
                "share",
                "95 % interval",
            ],
            false => &["", "rows", "answered", "wrong", "error", "95 % interval"],
        };
        let row = |row: &Realised| {
            let share = |value: f64| format!("{:.1} %", 100.0 * value);
            let second = match (has_sets, row.mean_size) {
                (true, size) => size.map_or_else(|| "–".into(), |size| format!("{size:.2}")),
                (false, _) => row.answered.to_string(),
            };
            let [low, high] = row.interval.map(share);
            let cost = row
                .mean_cost
                .map_or_else(|| "–".into(), |cost| format!("{cost:.4}"));
            let cells = [
                row.of.clone(),
                row.rows.to_string(),
                second,
                row.wrong.to_string(),
                row.error.map_or_else(|| "–".into(), share),
                format!("{low} to {high}"),
            ];
            cells.into_iter().chain(has_costs.then_some(cost)).collect()
        };
        let head = head.iter().copied().chain(has_costs.then_some("mean cost"));
        Table {
            head: head.map(String::from).collect(),
            rows: self.realised.iter().map(row).collect(),
        }
    }
}

/// `answers from 10 samples at τ = 1, T = 1.20`.
fn predictions_sentence(predictions: &DecisionPredictions) -> String {
    let DecisionPredictions {
        predict_with,
        temperature,
        samples,
        scale,
        ..
    } = predictions;
    let from = match predict_with {
        PredictWith::Mean => "the mean".into(),
        PredictWith::Samples => format!("{samples} samples at τ = {scale}"),
    };
    format!("answers from {from}, T = {temperature:.2}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use ivon_lora::decide::{Cutoff, DecisionScore, Limit, Nonconformity, Promise};

    fn threshold(cutoffs: Vec<Cutoff>) -> ThresholdRule {
        ThresholdRule {
            score: DecisionScore::Entropy,
            cutoffs,
            limits: vec![Limit::Error(0.1)],
            promise: Promise::WithProbability(0.9),
            rows: 100,
            answered: 60,
        }
    }

    #[test]
    fn what_is_realised_is_counted_over_all_rows_and_over_those_of_each_answered_class() {
        let row = |answer, certainty, label| LabelledCase {
            case: Case { answer, certainty },
            label,
        };
        let cases = [
            row(0, -0.1, 0),
            row(0, -0.2, 1),
            row(1, -0.1, 1),
            row(1, -0.6, 0),
        ];
        let classes = ["no", "yes"].map(String::from);
        let rule = threshold(vec![Cutoff::Everything, Cutoff::Above(-0.5)]);
        let found = Realised::of_threshold(&rule, &cases, None, &classes);
        let counts: Vec<_> = found
            .iter()
            .map(|row| (row.rows, row.answered, row.wrong))
            .collect();
        assert_eq!(counts, [(4, 3, 1), (2, 2, 1), (2, 1, 0)]);
        assert_eq!(found[1].error, Some(0.5));
    }

    #[test]
    fn sets_are_counted_with_their_size() {
        let rule = SetRule {
            nonconformity: Nonconformity::Lac,
            quantiles: vec![Some(0.5)],
            coverage: 0.9,
            promise: Promise::InExpectation,
            rows: 10,
        };
        let row = |p: f64, label| LabelledProbabilities {
            probabilities: vec![p, 1.0 - p],
            label,
            uniform: 0.0,
        };
        let found = Realised::of_sets(&rule, &[row(0.9, 0), row(0.5, 1), row(0.8, 1)], &[]);
        assert_eq!((found[0].rows, found[0].wrong), (3, 1));
        assert_eq!(found[0].mean_size, Some(4.0 / 3.0));
    }
}

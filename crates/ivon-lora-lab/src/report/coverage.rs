//! Rules to answer or defer, tried on finished predictions: the rows are split again and again into
//! rows for a rule and rows that it is tried on.
//!
//! The rows that a rule is tried on come from the same finite set, so that their error is that of the
//! rule with the noise of a sample: it may exceed the limit more often than the promise allows the
//! rule's own risk to.

use ivon_lora::decide::{DecideError, DecisionScore, Demand, LabelledCase, Outcome, ScoreCases};
use ivon_lora::metrics::quantile;
use ivon_lora::random::{Purpose, shuffle, stream};

/// The share of a rule's rows that choose: the thresholds that are tried, and what else a rule needs.
const CHOOSING: usize = 4;

/// What is promised, and how often it is tried.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SplitTrials {
    /// The largest error among answered cases, a fraction.
    pub limit: f64,
    /// The probability with which a rule keeps its promise.
    pub confidence: f64,
    /// The number of splits.
    pub splits: u64,
    /// The share of rows for the rule, of which a quarter choose.
    pub share: f64,
}

/// What rules did over all splits, in the order of these.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Coverage {
    /// The share of the other rows that the rule answered; 0 without a rule.
    pub answered: Vec<f64>,
    /// The error among answered rows of each split that answers any.
    pub errors: Vec<f64>,
    /// The number of splits without a rule.
    pub without: usize,
    /// The number of splits whose error is above the limit.
    pub above: usize,
}

impl Coverage {
    /// Splits the rows; `fit` sees the choosing rows of a split, and `case` makes a case of a row with
    /// what was fitted.
    ///
    /// # Errors
    /// If the limit or the confidence is out of range.
    pub fn of<T: Clone, F>(
        rows: &[T],
        score: DecisionScore,
        trials: &SplitTrials,
        fit: impl Fn(&[T]) -> F,
        case: impl Fn(&F, &T) -> LabelledCase,
    ) -> Result<Self, DecideError> {
        let mut found = Self::default();
        let mut rows = rows.to_vec();
        for split in 0..trials.splits {
            let mut numbers = stream(1, Purpose::Decision, split, 0, "splits");
            shuffle(&mut numbers, &mut rows);
            let own = (rows.len() as f64 * trials.share) as usize;
            let (own, held_out) = rows.split_at(own);
            let (choosing, ruling) = own.split_at(own.len() / CHOOSING);
            let fitted = fit(choosing);
            let cases = |rows: &[T]| {
                rows.iter()
                    .map(|row| case(&fitted, row))
                    .collect::<Vec<_>>()
            };
            let evidence = ScoreCases {
                score,
                reference: cases(choosing).iter().map(|row| row.case).collect(),
                tested: cases(ruling),
            };
            let demand = Demand::error(trials.limit, trials.confidence);
            match demand.rule(&[evidence])? {
                Outcome::Rule(rule) => {
                    let tried = cases(held_out);
                    let answered = tried.iter().filter(|row| rule.answers(&row.case));
                    let wrong = answered.clone().filter(|row| row.is_wrong()).count();
                    found.add(answered.count(), wrong, tried.len(), trials.limit);
                }
                _ => {
                    found.without += 1;
                    found.answered.push(0.0);
                }
            }
        }
        Ok(found)
    }

    /// A split whose rule answered some of `rows` rows.
    fn add(&mut self, answered: usize, wrong: usize, rows: usize, limit: f64) {
        self.answered.push(answered as f64 / rows.max(1) as f64);
        if answered > 0 {
            let error = wrong as f64 / answered as f64;
            self.errors.push(error);
            self.above += usize::from(error > limit);
        }
    }

    /// The share of rows that are answered, on average.
    pub fn mean_answered(&self) -> f64 {
        mean(&self.answered)
    }

    /// The error among answered rows, on average; not a number if none is ever answered.
    pub fn mean_error(&self) -> f64 {
        mean(&self.errors)
    }

    /// The middle 90 % of the shares of answered rows.
    pub fn range(&self) -> [f64; 2] {
        let mut answered = self.answered.clone();
        answered.sort_by(f64::total_cmp);
        [0.05, 0.95].map(|share| quantile(&answered, share))
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[cfg(test)]
mod tests {
    use ivon_lora::decide::Case;

    use super::*;

    /// 2,000 rows with certainties (0, 1), of which those above `good` are right, and of the others
    /// every second one.
    fn rows(good: f64) -> Vec<(f64, bool)> {
        let row = |place: u32| {
            let certainty = (f64::from(place) + 0.5) / 2000.0;
            (certainty, certainty > good || place.is_multiple_of(2))
        };
        (0..2000).map(row).collect()
    }

    fn coverage(rows: &[(f64, bool)], limit: f64) -> Coverage {
        let trials = SplitTrials {
            limit,
            confidence: 0.9,
            splits: 50,
            share: 0.5,
        };
        let case = |(): &(), &(certainty, is_right): &(f64, bool)| LabelledCase {
            case: Case {
                answer: 0,
                certainty,
            },
            label: usize::from(!is_right),
        };
        Coverage::of(rows, DecisionScore::Confidence, &trials, |_| (), case).unwrap()
    }

    #[test]
    fn a_better_score_answers_more_rows_at_the_same_promise_which_is_kept() {
        let [good, poor] = [0.3, 0.6].map(|good| coverage(&rows(good), 0.05));
        // Of the answered rows 5 % are wrong where a tenth of them is from below.
        let [of_good, of_poor] = [0.7 / 0.9, 0.4 / 0.9];
        assert!((0.7..of_good + 0.02).contains(&good.mean_answered()));
        assert!((0.38..of_poor + 0.02).contains(&poor.mean_answered()));
        assert!(good.mean_error() < 0.05 && good.above <= 12, "{good:?}");
        assert_eq!(good.without, 0);
        let [low, high] = good.range();
        assert!(low < good.mean_answered() && good.mean_answered() < high);
    }

    #[test]
    fn rows_that_are_wrong_by_chance_have_no_rule() {
        let found = coverage(&rows(1.0), 0.05);
        assert_eq!((found.without, found.mean_answered()), (50, 0.0));
        assert_eq!(found.range(), [0.0, 0.0]);
    }
}

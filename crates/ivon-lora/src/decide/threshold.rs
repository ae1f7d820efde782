//! Labelled cases → a threshold on their certainty below which cases are deferred, such that the
//! risks of the answered ones stay within limits with probability 1 − δ (Learn then Test,
//! Angelopoulos et al. 2021, arXiv 2110.01052).
//!
//! For each threshold λ the null hypothesis is that a risk of the rule "answer above λ" exceeds its
//! limit. Of several limits the largest p-value counts, since a rule must keep them all. Thresholds
//! are tested from the strictest down, and the last one that is rejected before the first failure is
//! the rule: with probability 1 − δ no violating threshold is among the rejected.
//!
//! The thresholds and their order come from cases other than the tested ones, whose certainties
//! are the values that are tried (`reference`). So they are fixed before any label is seen, for
//! every λ the answered rows are independent draws given their number, and the exact p-values hold.
//! A rule answers strictly above a value, never a part of the cases that share one.

use serde::{Deserialize, Serialize};

use super::error::check_share;
use super::{
    Case, CostMatrix, DecideError, DecisionScore, LabelledCase, Outcome, Promise, Shortfall,
    bernoulli_divergence, binomial_tail, fewest_rows, hoeffding_bentkus, rejected,
};

/// A sequence is tested from up to this many places …
const MOST_STARTS: usize = 3;
/// … one for this many times the fewest rows that can show anything. In simulations one start
/// answers most with few rows, and three with many, where a single one is often stopped by an error
/// among the most certain cases.
const ROWS_OF_A_START: usize = 4;

/// A risk and how large it may be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// The share of wrong answers among answered cases: at most this.
    Error(f64),
    /// The mean cost of answered cases, in the unit of the costs: at most this.
    Cost(f64),
    /// The mean cost of all cases, of which a deferred one costs nothing: at most this.
    CostPerCase(f64),
    /// The share of a class's cases that are answered rightly or deferred, so that nobody misses
    /// them: at least `at_least`.
    Recall {
        /// The class, from 0.
        class: usize,
        /// The share.
        at_least: f64,
    },
}

/// What a rule must promise.
#[derive(Clone, Debug, PartialEq)]
pub struct Demand {
    /// The limits, all of which it keeps.
    pub limits: Vec<Limit>,
    /// 1 − δ, the probability over calibration sets with which it keeps them.
    pub confidence: f64,
    /// Number of classes, for a threshold of each answered class of its own, within whose answers
    /// the limits are kept; none for one threshold for all.
    pub by_class: Option<usize>,
    /// What wrong answers cost; 1 each if absent.
    pub costs: Option<CostMatrix>,
}

/// The cases of one score.
#[derive(Clone, Debug)]
pub struct ScoreCases {
    /// The score.
    pub score: DecisionScore,
    /// Cases of other rows, whose certainties are the thresholds that are tried.
    pub reference: Vec<Case>,
    /// The cases whose labels the promise rests on.
    pub tested: Vec<LabelledCase>,
}

/// Which cases are answered.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cutoff {
    /// None.
    Nothing,
    /// Those whose certainty is above this.
    Above(f64),
    /// All.
    Everything,
}

impl Cutoff {
    /// Whether a case of this certainty is answered.
    pub fn answers(self, certainty: f64) -> bool {
        match self {
            Self::Nothing => false,
            Self::Above(value) => certainty > value,
            Self::Everything => true,
        }
    }
}

/// A rule that answers or defers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ThresholdRule {
    /// What the threshold is put on.
    pub score: DecisionScore,
    /// The threshold; of each answered class if there are several.
    pub cutoffs: Vec<Cutoff>,
    /// The limits that it keeps.
    pub limits: Vec<Limit>,
    /// In which sense it keeps them.
    pub promise: Promise,
    /// Number of rows that it rests on.
    pub rows: usize,
    /// How many of them it answers.
    pub answered: usize,
}

impl ThresholdRule {
    /// Whether a case is answered.
    pub fn answers(&self, case: &Case) -> bool {
        let cutoff = match self.cutoffs[..] {
            [only] => Some(only),
            ref each => each.get(case.answer).copied(),
        };
        cutoff.is_some_and(|cutoff| cutoff.answers(case.certainty))
    }
}

impl Demand {
    /// One limit on the error among answered cases, for all classes together.
    pub fn error(at_most: f64, confidence: f64) -> Self {
        Self {
            limits: vec![Limit::Error(at_most)],
            confidence,
            by_class: None,
            costs: None,
        }
    }

    /// The rule that answers most of the tested cases among those that keep the demand, over all
    /// scores and thresholds.
    ///
    /// # Errors
    /// If a number is out of range, or recalls are demanded by answered class.
    pub fn rule(&self, scores: &[ScoreCases]) -> Result<Outcome<ThresholdRule>, DecideError> {
        self.check()?;
        let groups = self.by_class.unwrap_or(1);
        let level = 1.0 - self.confidence;
        let sequences = (groups * scores.len()).max(1);
        let rows = scores.first().map_or(0, |cases| cases.tested.len());
        let fewest = self.fewest(level / sequences as f64);
        let starts = (rows / groups / (ROWS_OF_A_START * fewest)).clamp(1, MOST_STARTS);
        let share = level / (sequences * starts) as f64;
        let chains: Vec<Chain> = scores
            .iter()
            .flat_map(|cases| (0..groups).map(move |group| (cases, group)))
            .map(|(cases, group)| {
                let mut chain = self.chain(cases, self.by_class.map(|_| group), share);
                chain.starts = places(&chain.expected, self.fewest(share), starts);
                chain
            })
            .collect();
        let lasts = last_rejected(&chains, level);
        let answered = |of: &[Option<usize>], chains: &[Chain]| -> usize {
            let pairs = of.iter().zip(chains);
            pairs
                .map(|(last, chain)| last.map_or(0, |last| chain.answered[last]))
                .sum()
        };
        let mut best: Option<ThresholdRule> = None;
        for (place, cases) in scores.iter().enumerate() {
            let range = place * groups..(place + 1) * groups;
            let (lasts, chains) = (&lasts[range.clone()], &chains[range]);
            let count = answered(lasts, chains);
            if count > best.as_ref().map_or(0, |rule| rule.answered) {
                best = Some(self.rule_of(cases, lasts, chains, count));
            }
        }
        Ok(match best {
            Some(rule) => Outcome::Rule(rule),
            None => Outcome::Impossible(Shortfall {
                rows,
                needed: chains.iter().filter_map(|chain| chain.needed).min(),
            }),
        })
    }

    fn rule_of(
        &self,
        cases: &ScoreCases,
        lasts: &[Option<usize>],
        chains: &[Chain],
        answered: usize,
    ) -> ThresholdRule {
        let cutoff = |(last, chain): (&Option<usize>, &Chain)| match last {
            Some(last) => chain.cutoffs[*last],
            None => Cutoff::Nothing,
        };
        ThresholdRule {
            score: cases.score,
            cutoffs: lasts.iter().zip(chains).map(cutoff).collect(),
            limits: self.limits.clone(),
            promise: Promise::WithProbability(self.confidence),
            rows: cases.tested.len(),
            answered,
        }
    }

    /// Checks the numbers.
    fn check(&self) -> Result<(), DecideError> {
        check_share("the confidence", self.confidence)?;
        for limit in &self.limits {
            match *limit {
                Limit::Error(at_most) => check_share("the largest error", at_most)?,
                Limit::Cost(at_most) | Limit::CostPerCase(at_most) => check_share(
                    "the largest mean cost, as a share of the largest cost,",
                    at_most / self.largest_cost(),
                )?,
                Limit::Recall { at_least, .. } => check_share("the smallest recall", at_least)?,
            }
            if self.by_class.is_some() && matches!(limit, Limit::Recall { .. }) {
                return Err(DecideError::Together {
                    one: "a recall",
                    other: "a threshold for each answered class",
                });
            }
        }
        Ok(())
    }

    fn largest_cost(&self) -> f64 {
        self.costs.as_ref().map_or(1.0, CostMatrix::largest)
    }

    /// The fewest answered cases by which every limit can be kept at this level.
    fn fewest(&self, level: f64) -> usize {
        let of = |limit: &Limit| match *limit {
            Limit::Error(at_most) => fewest_rows(at_most, level),
            Limit::Cost(at_most) => fewest_rows(at_most / self.largest_cost(), level),
            Limit::CostPerCase(_) | Limit::Recall { .. } => 1,
        };
        self.limits.iter().map(of).max().unwrap_or(1)
    }
}

/// The thresholds of one score, for one answered class or for all, from the strictest down.
struct Chain {
    cutoffs: Vec<Cutoff>,
    /// The p-value of each.
    p_values: Vec<f64>,
    /// How many of the tested cases each answers.
    answered: Vec<usize>,
    /// How many of the tested cases each is expected to answer, by the reference.
    expected: Vec<f64>,
    /// The places from which it is tested.
    starts: Vec<usize>,
    /// About how many rows would be needed, if any number would do.
    needed: Option<usize>,
}

impl Demand {
    /// The thresholds of a score for the cases of one answered class, or of all; `share` is the
    /// level that each sequence has at least.
    fn chain(&self, cases: &ScoreCases, class: Option<usize>, share: f64) -> Chain {
        let is_in = |case: &Case| class.is_none_or(|class| case.answer == class);
        let reference = cases.reference.iter().filter(|case| is_in(case));
        let mut values: Vec<f64> = reference.map(|case| case.certainty).collect();
        values.sort_by(|a, b| b.total_cmp(a));
        let weight = cases.tested.len() as f64 / cases.reference.len().max(1) as f64;
        let (cutoffs, expected) = cutoffs(&values, weight);
        let tested = cases.tested.iter().filter(|row| is_in(&row.case));
        let mut tested: Vec<&LabelledCase> = tested.collect();
        tested.sort_by(|a, b| b.case.certainty.total_cmp(&a.case.certainty));
        let tallies = self.tallies(&tested, &cutoffs);
        let needed = tallies
            .iter()
            .filter_map(|tally| self.needed(tally, cases.tested.len(), share));
        Chain {
            expected,
            starts: Vec::new(),
            p_values: tallies.iter().map(|tally| self.p_value(tally)).collect(),
            answered: tallies.iter().map(|tally| tally.answered).collect(),
            needed: needed.min(),
            cutoffs,
        }
    }

    /// What each threshold answers, of cases from the most certain down.
    fn tallies(&self, tested: &[&LabelledCase], cutoffs: &[Cutoff]) -> Vec<Tally> {
        let mut tally = Tally::new(&self.limits, tested);
        let mut rest = tested.iter().peekable();
        let mut found = Vec::with_capacity(cutoffs.len());
        for cutoff in cutoffs {
            while let Some(row) = rest.next_if(|row| cutoff.answers(row.case.certainty)) {
                tally.add(row, &self.limits, self.costs.as_ref());
            }
            found.push(tally.clone());
        }
        found
    }

    /// The largest p-value of any limit.
    fn p_value(&self, tally: &Tally) -> f64 {
        let risks = self.limits.iter().zip(&tally.classes);
        let largest = self.largest_cost();
        let of_cost = |rows: usize, at_most: f64| {
            hoeffding_bentkus(rows, at_most / largest, tally.cost / largest)
        };
        let of = |(limit, class): (&Limit, &ClassTally)| match *limit {
            Limit::Error(at_most) => binomial_tail(tally.answered, at_most, tally.wrong),
            Limit::Cost(at_most) => of_cost(tally.answered, at_most),
            Limit::CostPerCase(at_most) => of_cost(tally.rows, at_most),
            Limit::Recall { at_least, .. } => {
                binomial_tail(class.rows, 1.0 - at_least, class.missed)
            }
        };
        risks.map(of).fold(0.0, f64::max)
    }

    /// About how many rows a threshold would need at its present rates, if these are below the
    /// limits: n h₁(r, ε) = ln(1/δ) by Hoeffding's bound, which is exact for r = 0. Rates are
    /// estimated by (k + ½)/(n + 1).
    fn needed(&self, tally: &Tally, rows: usize, level: f64) -> Option<usize> {
        let largest = self.largest_cost();
        let of = |(limit, class): (&Limit, &ClassTally)| {
            let (events, count, limit) = match *limit {
                Limit::Error(at_most) => (tally.wrong as f64, tally.answered, at_most),
                Limit::Cost(at_most) => (tally.cost / largest, tally.answered, at_most / largest),
                Limit::CostPerCase(at_most) => {
                    (tally.cost / largest, tally.rows, at_most / largest)
                }
                Limit::Recall { at_least, .. } => (class.missed as f64, class.rows, 1.0 - at_least),
            };
            let rate = (events + 0.5) / (count as f64 + 1.0);
            let count_needed = -level.ln() / bernoulli_divergence(rate, limit);
            let all = count_needed * rows as f64 / count as f64;
            (rate < limit && all.is_finite()).then_some(all.ceil() as usize)
        };
        let each = self.limits.iter().zip(&tally.classes).map(of);
        each.collect::<Option<Vec<usize>>>()?.into_iter().max()
    }
}

/// The thresholds at these values, from the largest down, then none at all; with how many of the
/// tested cases each is expected to answer if each value stands for `weight` of them.
fn cutoffs(values: &[f64], weight: f64) -> (Vec<Cutoff>, Vec<f64>) {
    let (mut cutoffs, mut expected, mut above) = (Vec::new(), Vec::new(), 0);
    for ties in values.chunk_by(|a, b| a == b) {
        cutoffs.push(Cutoff::Above(ties[0]));
        expected.push(above as f64 * weight);
        above += ties.len();
    }
    cutoffs.push(Cutoff::Everything);
    expected.push(above as f64 * weight);
    (cutoffs, expected)
}

/// The places from which a sequence is tested: the first where at least `fewest` cases are answered
/// for all but a fortieth of samples, and others at equal distances in cases. Fewer than `fewest`
/// cannot pass, and would end the sequence.
fn places(expected: &[f64], fewest: usize, count: usize) -> Vec<usize> {
    // E − 2 √E ≥ m, where the number of answered cases has a standard deviation of at most √E.
    let enough = (1.0 + (1.0 + fewest as f64).sqrt()).powi(2);
    let all = expected.last().copied().unwrap_or(0.0);
    let place = |number: usize| {
        let at = enough + (all - enough).max(0.0) * number as f64 / count as f64;
        let first = expected.iter().position(|&expected| expected >= at);
        first.unwrap_or(expected.len().saturating_sub(1))
    };
    (0..count).map(place).collect()
}

/// The last place of each chain that is rejected from any of its starts.
fn last_rejected(chains: &[Chain], level: f64) -> Vec<Option<usize>> {
    let starts = || {
        let each = chains.iter().enumerate();
        each.flat_map(|(place, chain)| chain.starts.iter().map(move |&start| (place, start)))
    };
    let sequences: Vec<&[f64]> = starts()
        .map(|(place, start)| &chains[place].p_values[start..])
        .collect();
    let mut lasts = vec![None; chains.len()];
    for ((place, start), passed) in starts().zip(rejected(&sequences, level)) {
        if passed > 0 {
            lasts[place] = lasts[place].max(Some(start + passed - 1));
        }
    }
    lasts
}

/// What a threshold answers.
#[derive(Clone, Debug, Default)]
struct Tally {
    /// All cases, answered or not.
    rows: usize,
    answered: usize,
    wrong: usize,
    cost: f64,
    /// For each limit, the cases of its class; empty counts for other limits.
    classes: Vec<ClassTally>,
}

/// The cases of a class.
#[derive(Clone, Copy, Debug, Default)]
struct ClassTally {
    /// All of them, answered or not.
    rows: usize,
    /// Those that are answered with another class.
    missed: usize,
}

/// The class whose recall is limited.
fn recalled(limit: &Limit) -> Option<usize> {
    match *limit {
        Limit::Recall { class, .. } => Some(class),
        _ => None,
    }
}

impl Tally {
    fn new(limits: &[Limit], tested: &[&LabelledCase]) -> Self {
        let count = |limit: &Limit| ClassTally {
            rows: tested
                .iter()
                .filter(|row| Some(row.label) == recalled(limit))
                .count(),
            missed: 0,
        };
        Self {
            rows: tested.len(),
            classes: limits.iter().map(count).collect(),
            ..Self::default()
        }
    }

    fn add(&mut self, row: &LabelledCase, limits: &[Limit], costs: Option<&CostMatrix>) {
        let is_wrong = row.is_wrong();
        self.answered += 1;
        self.wrong += usize::from(is_wrong);
        self.cost += row.cost(costs);
        for (limit, class) in limits.iter().zip(&mut self.classes) {
            class.missed += usize::from(is_wrong && recalled(limit) == Some(row.label));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, stream, uniform};

    fn case(certainty: f64, is_wrong: bool) -> LabelledCase {
        LabelledCase {
            case: Case {
                answer: 0,
                certainty,
            },
            label: usize::from(is_wrong),
        }
    }

    fn cases(reference: &[f64], tested: Vec<LabelledCase>) -> ScoreCases {
        let reference = reference.iter().map(|&certainty| Case {
            answer: 0,
            certainty,
        });
        ScoreCases {
            score: DecisionScore::Confidence,
            reference: reference.collect(),
            tested,
        }
    }

    /// Cases whose certainty s is uniform, and which are wrong with probability (1 − s)² / 2: the
    /// error above λ is (1 − λ)² / 6.
    fn drawn(repetition: u64, reference: usize, tested: usize) -> ScoreCases {
        let mut numbers = stream(1, Purpose::Bootstrap, repetition, 0, "threshold");
        let values: Vec<f64> = (0..reference).map(|_| uniform(&mut numbers)).collect();
        let mut row = |_| {
            let s = uniform(&mut numbers);
            case(s, uniform(&mut numbers) < (1.0 - s).powi(2) / 2.0)
        };
        let rows = (0..tested).map(&mut row).collect();
        cases(&values, rows)
    }

    fn cutoff(outcome: Outcome<ThresholdRule>) -> Cutoff {
        outcome
            .rule()
            .map_or(Cutoff::Nothing, |rule| rule.cutoffs[0])
    }

    #[test]
    fn the_error_exceeds_its_limit_in_at_most_the_promised_share_of_calibration_sets() {
        for (limit, confidence) in [(0.05, 0.9), (0.02, 0.8), (0.1, 0.95)] {
            let (mut violations, mut answered, sets) = (0, 0.0, 5000);
            for set in 0..sets {
                let demand = Demand::error(limit, confidence);
                let outcome = demand.rule(&[drawn(set, 500, 2000)]).unwrap();
                let lambda = match cutoff(outcome) {
                    Cutoff::Above(value) => value,
                    Cutoff::Everything => 0.0,
                    Cutoff::Nothing => continue,
                };
                violations += usize::from((1.0 - lambda).powi(2) / 6.0 > limit);
                answered += (1.0 - lambda) / sets as f64;
            }
            // One in a thousand rules that keep the promise has more violations than this.
            let delta = 1.0 - confidence;
            assert!(
                binomial_tail(sets as usize, delta, violations.saturating_sub(1)) < 0.999,
                "{violations} violations at {limit}, {delta}"
            );
            // The largest λ that keeps the limit answers √(6 ε).
            let best = (6.0 * limit).sqrt().min(1.0);
            assert!(
                answered > 0.4 * best && answered < best,
                "{answered} of {best}"
            );
        }
    }

    #[test]
    fn everything_is_answered_where_no_threshold_violates_and_not_only_the_first() {
        // A published search took the index of the first violation, 0 if there was none.
        let values: Vec<f64> = (0..200).map(|i| i as f64).collect();
        let tested = (0..800).map(|i| case((i % 200) as f64, false)).collect();
        let rule = Demand::error(0.05, 0.9)
            .rule(&[cases(&values, tested)])
            .unwrap();
        let rule = rule.rule().unwrap();
        assert_eq!((rule.cutoffs[0], rule.answered), (Cutoff::Everything, 800));
    }

    #[test]
    fn cases_of_one_certainty_are_answered_together_or_not_at_all() {
        // The surer half is never wrong, the other half always; only two values.
        let tested = (0..1000).map(|i| case(if i % 2 == 0 { 0.9 } else { 0.6 }, i % 2 == 1));
        let values: Vec<f64> = (0..100)
            .map(|i| if i % 2 == 0 { 0.9 } else { 0.6 })
            .collect();
        let cases = cases(&values, tested.collect());
        let rule = Demand::error(0.05, 0.9)
            .rule(&[cases])
            .unwrap()
            .rule()
            .unwrap();
        assert_eq!((rule.cutoffs[0], rule.answered), (Cutoff::Above(0.6), 500));
    }

    #[test]
    fn too_few_rows_are_an_answer_with_about_how_many_would_do() {
        let found = |rows: usize, error: f64| {
            let values: Vec<f64> = (0..rows).map(|i| i as f64).collect();
            let wrong = |i: usize| (i as f64 * error).fract() + error >= 1.0;
            let tested = (0..rows).map(|i| case(i as f64, wrong(i))).collect();
            Demand::error(0.05, 0.9)
                .rule(&[cases(&values, tested)])
                .unwrap()
        };
        let Outcome::Impossible(shortfall) = found(30, 0.0) else {
            panic!("30 rows promise nothing at 5 % and 90 %")
        };
        // 45 if they knew that nothing is ever wrong.
        assert_eq!(shortfall.rows, 30);
        assert!(
            (45..200).contains(&shortfall.needed.unwrap()),
            "{shortfall:?}"
        );
        assert!(found(shortfall.needed.unwrap(), 0.0).rule().is_some());
        let Outcome::Impossible(shortfall) = found(2000, 0.5) else {
            panic!("half of the answers are wrong everywhere")
        };
        assert!(
            shortfall.needed.is_none_or(|needed| needed > 2000),
            "{shortfall:?}"
        );
    }

    #[test]
    fn a_recall_and_an_error_are_kept_together() {
        // Class 1 is a tenth of the cases, and missed in half of those below 0.5.
        let mut numbers = stream(2, Purpose::Bootstrap, 0, 0, "recall");
        let mut row = || {
            let (s, label) = (
                uniform(&mut numbers),
                usize::from(uniform(&mut numbers) < 0.1),
            );
            let is_missed = label == 1 && s < 0.5 && uniform(&mut numbers) < 0.5;
            LabelledCase {
                case: Case {
                    answer: if is_missed { 0 } else { label },
                    certainty: s,
                },
                label,
            }
        };
        let tested: Vec<LabelledCase> = (0..4000).map(|_| row()).collect();
        let values: Vec<f64> = (0..500).map(|i| i as f64 / 500.0).collect();
        let answered = |limits: &[Limit]| {
            let demand = Demand {
                limits: limits.to_vec(),
                ..Demand::error(0.05, 0.9)
            };
            demand
                .rule(&[cases(&values, tested.clone())])
                .unwrap()
                .rule()
                .unwrap()
                .answered
        };
        // Of class 1 a quarter is missed if everything is answered: 2.5 % of all cases.
        let recall = Limit::Recall {
            class: 1,
            at_least: 0.9,
        };
        assert_eq!(answered(&[Limit::Error(0.05)]), 4000);
        let both = answered(&[Limit::Error(0.05), recall]);
        // A tenth of class 1 is missed where cases above 0.3 are answered.
        assert!((2000..2800).contains(&both), "{both}");
    }

    #[test]
    fn of_several_scores_the_one_that_answers_most_is_taken_at_a_corrected_level() {
        let good = drawn(7, 500, 2000);
        let blind = ScoreCases {
            score: DecisionScore::Entropy,
            reference: good
                .reference
                .iter()
                .map(|case| Case {
                    certainty: 0.0,
                    ..*case
                })
                .collect(),
            tested: good
                .tested
                .iter()
                .map(|row| LabelledCase {
                    case: Case {
                        certainty: 0.0,
                        ..row.case
                    },
                    ..*row
                })
                .collect(),
        };
        let demand = Demand::error(0.05, 0.9);
        let alone = demand
            .rule(std::slice::from_ref(&good))
            .unwrap()
            .rule()
            .unwrap();
        let both = demand.rule(&[blind, good]).unwrap().rule().unwrap();
        assert_eq!(both.score, DecisionScore::Confidence);
        assert!(both.answered <= alone.answered && both.answered > 0);
    }

    #[test]
    fn each_answered_class_has_a_threshold_of_its_own() {
        // Answers of class 0 are right; of class 1 half are wrong below 0.6.
        let mut numbers = stream(3, Purpose::Bootstrap, 0, 0, "classes");
        let mut row = |i: usize| {
            let (s, answer) = (uniform(&mut numbers), i % 2);
            let is_wrong = answer == 1 && s < 0.6 && uniform(&mut numbers) < 0.5;
            LabelledCase {
                case: Case {
                    answer,
                    certainty: s,
                },
                label: if is_wrong { 1 - answer } else { answer },
            }
        };
        let reference = (0..1000).map(|i| row(i).case).collect();
        let cases = ScoreCases {
            score: DecisionScore::Confidence,
            reference,
            tested: (0..4000).map(row).collect(),
        };
        let demand = Demand {
            by_class: Some(2),
            ..Demand::error(0.05, 0.9)
        };
        let rule = demand.rule(&[cases]).unwrap().rule().unwrap();
        let Cutoff::Above(value) = rule.cutoffs[1] else {
            panic!("{:?}", rule.cutoffs)
        };
        // Above v, (0.6 − v) / 2 of 1 − v are wrong: 5 % at v = 0.556.
        assert!(
            rule.cutoffs[0] == Cutoff::Everything && (0.55..0.63).contains(&value),
            "{value}"
        );
        let answers = |answer, certainty| rule.answers(&Case { answer, certainty });
        assert!(answers(0, 0.1) && !answers(1, 0.1) && answers(1, 0.9) && !answers(2, 0.9));
    }

    #[test]
    fn costs_are_limited_by_hoeffding_bentkus() {
        let costs = CostMatrix::new(vec![vec![0.0, 1.0], vec![4.0, 0.0]]).unwrap();
        let values: Vec<f64> = (0..500).map(|i| i as f64 / 500.0).collect();
        // Each wrong answer costs 4, as class 1 is right and 0 answered.
        let cases = ScoreCases {
            reference: cases(&values, Vec::new()).reference,
            ..drawn(5, 0, 4000)
        };
        let demand = Demand {
            limits: vec![Limit::Cost(0.2)],
            costs: Some(costs),
            ..Demand::error(0.05, 0.9)
        };
        let rule = demand
            .rule(std::slice::from_ref(&cases))
            .unwrap()
            .rule()
            .unwrap();
        // As an error of 5 %, by a bound that is less sharp than the exact tail.
        let exact = Demand::error(0.05, 0.9)
            .rule(&[cases])
            .unwrap()
            .rule()
            .unwrap();
        assert!(rule.answered <= exact.answered && rule.answered > exact.answered * 3 / 4);
    }

    #[test]
    fn demands_that_cannot_be_are_errors() {
        let error = |demand: Demand| demand.rule(&[]).unwrap_err().to_string();
        assert_eq!(
            error(Demand::error(1.5, 0.9)),
            "the largest error is 1.5, expected a number between 0 and 1"
        );
        assert!(error(Demand::error(0.05, 1.0)).starts_with("the confidence is 1,"));
        let recall = Limit::Recall {
            class: 0,
            at_least: 0.9,
        };
        let demand = Demand {
            limits: vec![recall],
            by_class: Some(2),
            ..Demand::error(0.05, 0.9)
        };
        assert_eq!(
            error(demand),
            "a recall cannot be promised together with a threshold for each answered class"
        );
    }
}

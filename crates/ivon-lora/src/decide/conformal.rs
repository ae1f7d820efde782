//! Probabilities and labels → sets of answers that hold the right one with a promised probability
//! (conformal prediction, Vovk et al. 2005).
//!
//! Each row has a nonconformity for each of its answers, larger for a less likely one. The set of a
//! new row are the answers whose nonconformity is at most a quantile of those of the calibration
//! rows' labels.

use serde::{Deserialize, Serialize};

use super::error::check_share;
use super::{DecideError, Outcome, Promise, Shortfall, binomial_tail};

/// How unlikely an answer is, given the probabilities p of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Nonconformity {
    /// 1 − p(y): the smallest sets on average (LAC; Sadinle et al. 2019, arXiv 1609.00451). A set
    /// may be empty.
    Lac,
    /// The probability of the answers that are more likely than y, and of y itself: larger sets for
    /// harder rows, never an empty one (APS without randomisation; Romano et al. 2020, arXiv
    /// 2006.02544, with u = 1).
    Adaptive,
    /// The same with a uniform share u of y's own probability: coverage that is not above its
    /// target. A set may be empty (APS; Romano et al. 2020, arXiv 2006.02544).
    AdaptiveRandomised,
}

impl Nonconformity {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Lac, Self::Adaptive, Self::AdaptiveRandomised];

    /// Its name, as in `--sets`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lac => "lac",
            Self::Adaptive => "adaptive",
            Self::AdaptiveRandomised => "adaptive-randomised",
        }
    }

    /// The nonconformity of answer `y` of a row with these probabilities; `uniform` is in [0, 1) and
    /// belongs to the row.
    pub fn of(self, probabilities: &[f64], y: usize, uniform: f64) -> f64 {
        let own = probabilities[y];
        let likelier = || probabilities.iter().filter(|&&p| p > own).sum::<f64>();
        match self {
            Self::Lac => 1.0 - own,
            Self::Adaptive => likelier() + own,
            Self::AdaptiveRandomised => likelier() + uniform * own,
        }
    }
}

/// A row whose right answer is known.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelledProbabilities {
    /// Probabilities of its answers.
    pub probabilities: Vec<f64>,
    /// The right one, from 0.
    pub label: usize,
    /// Its own number in [0, 1), which says nothing about the label.
    pub uniform: f64,
}

/// What sets must promise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SetDemand {
    /// How unlikely answers are measured.
    pub nonconformity: Nonconformity,
    /// The share of rows whose set holds the right answer, 1 − α.
    pub coverage: f64,
    /// In which sense.
    pub promise: Promise,
    /// Number of classes, for a coverage of each class of its own (class-conditional, Mondrian
    /// conformal prediction; Vovk 2012, arXiv 1209.2673); none for that of all rows
    /// together.
    pub by_class: Option<usize>,
}

/// A rule that gives each row a set of answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SetRule {
    /// How unlikely answers are measured.
    pub nonconformity: Nonconformity,
    /// The largest nonconformity of a member, or that of each class; none where every answer is a
    /// member, since the rows of the class are too few to leave any out.
    pub quantiles: Vec<Option<f64>>,
    /// The share of rows whose set holds the right answer.
    pub coverage: f64,
    /// In which sense.
    pub promise: Promise,
    /// Number of rows that it rests on.
    pub rows: usize,
}

impl SetRule {
    /// The members of a row's set, in the order of the answers.
    pub fn set(&self, probabilities: &[f64], uniform: f64) -> Vec<usize> {
        let quantile = |y: usize| match self.quantiles[..] {
            [only] => only,
            ref each => each.get(y).copied().flatten(),
        };
        let is_in = |&y: &usize| {
            let found = self.nonconformity.of(probabilities, y, uniform);
            quantile(y).is_none_or(|largest| found <= largest)
        };
        (0..probabilities.len()).filter(is_in).collect()
    }
}

impl SetDemand {
    /// The rule of these rows; impossible if every set would hold every answer.
    ///
    /// # Errors
    /// If a share is out of range.
    pub fn rule(&self, rows: &[LabelledProbabilities]) -> Result<Outcome<SetRule>, DecideError> {
        check_share("the coverage", self.coverage)?;
        if let Promise::WithProbability(confidence) = self.promise {
            check_share("the confidence", confidence)?;
        }
        let quantile = |class: Option<usize>| {
            let rows = rows
                .iter()
                .filter(|row| class.is_none_or(|class| row.label == class));
            let own = |row: &LabelledProbabilities| {
                self.nonconformity
                    .of(&row.probabilities, row.label, row.uniform)
            };
            self.quantile(rows.map(own).collect())
        };
        let quantiles: Vec<Option<f64>> = match self.by_class {
            None => vec![quantile(None)],
            Some(classes) => (0..classes).map(|class| quantile(Some(class))).collect(),
        };
        if quantiles.iter().all(Option::is_none) {
            return Ok(Outcome::Impossible(Shortfall {
                rows: rows.len(),
                needed: Some(self.fewest() * self.by_class.unwrap_or(1)),
            }));
        }
        Ok(Outcome::Rule(SetRule {
            nonconformity: self.nonconformity,
            quantiles,
            coverage: self.coverage,
            promise: self.promise,
            rows: rows.len(),
        }))
    }

    /// The smallest of these nonconformities that keeps the promise as a largest one.
    fn quantile(&self, mut values: Vec<f64>) -> Option<f64> {
        values.sort_by(f64::total_cmp);
        let rank = self.rank(values.len())?;
        values.get(rank - 1).copied()
    }

    /// Which of n nonconformities, from 1 for the smallest, the quantile is; none if all n are too
    /// few.
    ///
    /// In expectation ⌈(n + 1)(1 − α)⌉. With probability 1 − δ the smallest k with
    /// P(Bin(n, α) ≤ n − k) ≤ δ: the k-th value covers less than 1 − α only if k values or more are
    /// below the true quantile (Vovk 2012, arXiv 1209.2673, on training-conditional validity).
    fn rank(&self, count: usize) -> Option<usize> {
        let rank = match self.promise {
            // 0.9 · 10 may come out a rounding error above 9.
            Promise::InExpectation => ((count as f64 + 1.0) * self.coverage - 1e-9).ceil() as usize,
            Promise::WithProbability(confidence) => {
                let level = self.level(confidence);
                let keeps =
                    |k: usize| binomial_tail(count, 1.0 - self.coverage, count - k) <= level;
                // The tail falls in k.
                let (mut low, mut high) = (0, count + 1);
                while high - low > 1 {
                    let middle = (low + high) / 2;
                    if keeps(middle) {
                        high = middle
                    } else {
                        low = middle
                    }
                }
                high
            }
        };
        (rank <= count).then_some(rank.max(1))
    }

    /// δ of one quantile: divided among the classes, all of which are covered together.
    fn level(&self, confidence: f64) -> f64 {
        (1.0 - confidence) / self.by_class.unwrap_or(1) as f64
    }

    /// The fewest rows that leave any answer out.
    fn fewest(&self) -> usize {
        match self.promise {
            // n ≥ (n + 1)(1 − α).
            Promise::InExpectation => (self.coverage / (1.0 - self.coverage) - 1e-9)
                .ceil()
                .max(1.0) as usize,
            Promise::WithProbability(confidence) => {
                super::fewest_rows(1.0 - self.coverage, self.level(confidence))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, stream, uniform};

    fn demand(nonconformity: Nonconformity, promise: Promise) -> SetDemand {
        SetDemand {
            nonconformity,
            coverage: 0.9,
            promise,
            by_class: None,
        }
    }

    #[test]
    fn nonconformities_of_one_row() {
        let row = [0.5, 0.2, 0.3];
        let of = |how: Nonconformity| [0, 1, 2].map(|y| how.of(&row, y, 0.5));
        assert_eq!(of(Nonconformity::Lac), [0.5, 0.8, 0.7]);
        assert_eq!(of(Nonconformity::Adaptive), [0.5, 1.0, 0.8]);
        assert_eq!(of(Nonconformity::AdaptiveRandomised), [0.25, 0.9, 0.65]);
    }

    #[test]
    fn the_quantile_is_the_rank_of_n_plus_one_rows() {
        let rule = |rows: usize| {
            let rows: Vec<_> = (1..=rows)
                .map(|i| LabelledProbabilities {
                    probabilities: vec![1.0 - i as f64 / 100.0, i as f64 / 100.0],
                    label: 0,
                    uniform: 0.0,
                })
                .collect();
            demand(Nonconformity::Lac, Promise::InExpectation)
                .rule(&rows)
                .unwrap()
        };
        // ⌈20 · 0.9⌉ = 18 of 19.
        let found = rule(19).rule().unwrap();
        assert!((found.quantiles[0].unwrap() - 0.18).abs() < 1e-12);
        assert_eq!(found.set(&[0.83, 0.17], 0.0), [0]);
        assert_eq!(found.set(&[0.5, 0.5], 0.0), [0; 0]);
        // 9 of 9 is the largest; of 8 none would do.
        assert!((rule(9).rule().unwrap().quantiles[0].unwrap() - 0.09).abs() < 1e-12);
        let shortfall = Shortfall {
            rows: 8,
            needed: Some(9),
        };
        assert_eq!(rule(8), Outcome::Impossible(shortfall));
    }

    /// A row of three classes: a hard or an easy one, with probabilities that are exactly right.
    fn row(numbers: &mut impl FnMut() -> f64) -> LabelledProbabilities {
        let top = 0.4 + 0.6 * numbers();
        let second = (1.0 - top) * (0.5 + 0.5 * numbers());
        let mut probabilities = vec![top, second, 1.0 - top - second];
        let turn = (3.0 * numbers()) as usize;
        probabilities.rotate_right(turn);
        let at = numbers();
        let label = match at {
            at if at < probabilities[0] => 0,
            at if at < probabilities[0] + probabilities[1] => 1,
            _ => 2,
        };
        LabelledProbabilities {
            probabilities,
            label,
            uniform: numbers(),
        }
    }

    /// The coverage of a rule by the probabilities of many rows, which are the truth.
    fn coverage(rule: &SetRule, rows: &[LabelledProbabilities]) -> f64 {
        let of = |row: &LabelledProbabilities| {
            let set = rule.set(&row.probabilities, row.uniform);
            set.iter().map(|&y| row.probabilities[y]).sum::<f64>()
        };
        rows.iter().map(of).sum::<f64>() / rows.len() as f64
    }

    fn rows(set: u64, count: usize) -> Vec<LabelledProbabilities> {
        let mut stream = stream(6, Purpose::Bootstrap, set, 0, "conformal");
        let mut numbers = || uniform(&mut stream);
        (0..count).map(|_| row(&mut numbers)).collect()
    }

    #[test]
    fn sets_cover_their_share_on_average_and_randomised_ones_not_more() {
        let fresh = rows(u64::MAX, 2000);
        for how in Nonconformity::ALL {
            let sets = 300;
            let of = |set: u64| {
                let rule = demand(how, Promise::InExpectation)
                    .rule(&rows(set, 199))
                    .unwrap();
                coverage(&rule.rule().unwrap(), &fresh)
            };
            let mean = (0..sets).map(of).sum::<f64>() / sets as f64;
            // Standard errors: 0.02 / √300 of the sets, and that of the 2,000 rows.
            assert!(mean > 0.9 - 0.008, "{how:?}: {mean}");
            if how != Nonconformity::Adaptive {
                assert!(mean < 0.9 + 0.012, "{how:?}: {mean}");
            }
        }
    }

    #[test]
    fn sets_with_a_confidence_cover_less_than_their_share_in_few_calibration_sets() {
        // The coverage of the k-th of n uniform nonconformities u is itself u.
        let demand = demand(Nonconformity::Lac, Promise::WithProbability(0.9));
        let (mut violations, sets) = (0, 5000);
        for set in 0..sets {
            let mut numbers = stream(7, Purpose::Bootstrap, set, 0, "conformal");
            let rows = (0..500).map(|_| {
                let own = 1.0 - uniform(&mut numbers);
                LabelledProbabilities {
                    probabilities: vec![own, 1.0 - own],
                    label: 0,
                    uniform: 0.0,
                }
            });
            let rule = demand
                .rule(&rows.collect::<Vec<_>>())
                .unwrap()
                .rule()
                .unwrap();
            violations += usize::from(rule.quantiles[0].unwrap() < 0.9);
        }
        assert!(
            binomial_tail(5000, 0.1, violations - 1) < 0.999,
            "{violations}"
        );
        assert!(violations > 300, "{violations}");
    }

    #[test]
    fn a_confidence_is_for_all_classes_together() {
        let alone = SetDemand {
            by_class: None,
            ..demand(Nonconformity::Lac, Promise::WithProbability(0.9))
        };
        let of_five = SetDemand {
            by_class: Some(5),
            ..alone
        };
        let of_one = SetDemand {
            promise: Promise::WithProbability(0.98),
            ..alone
        };
        assert_eq!(of_five.rank(500), of_one.rank(500));
        assert!(of_five.rank(500) > alone.rank(500));
    }

    #[test]
    fn each_class_is_covered_by_itself_and_a_class_of_few_rows_is_always_a_member() {
        // Class 2 is rare, and mostly called class 0.
        let mut rows: Vec<_> = (0..90)
            .map(|i| LabelledProbabilities {
                probabilities: vec![0.9, 0.05, 0.05],
                label: usize::from(i % 30 == 29),
                uniform: 0.0,
            })
            .collect();
        rows.extend((0..20).map(|_| LabelledProbabilities {
            probabilities: vec![0.7, 0.1, 0.2],
            label: 2,
            uniform: 0.0,
        }));
        let all = demand(Nonconformity::Lac, Promise::InExpectation);
        let by_class = SetDemand {
            by_class: Some(3),
            ..all
        };
        let rule = by_class.rule(&rows).unwrap().rule().unwrap();
        let rounded = |q: &Option<f64>| q.map(|q| (q * 100.0).round());
        let quantiles: Vec<_> = rule.quantiles.iter().map(rounded).collect();
        assert_eq!(quantiles, [Some(10.0), None, Some(80.0)]);
        assert_eq!(rule.set(&[0.7, 0.1, 0.2], 0.0), [1, 2]);
        assert_eq!(rule.set(&[0.95, 0.03, 0.02], 0.0), [0, 1]);
    }
}

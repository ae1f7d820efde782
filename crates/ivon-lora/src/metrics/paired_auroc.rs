//! Two methods that tell the same sets apart with the same seeds → an interval of the difference of
//! their AUROC.

use super::{Bootstrap, quantile, resamples};
use crate::random::{Purpose, below, stream};

/// One method under one seed: the scores of negatives and of positives, which should be higher.
pub type ScoredRows<'a> = [&'a [f64]; 2];

/// The interval of mean over seeds of AUROC(a) − AUROC(b), with negatives, positives and seeds drawn
/// with replacement, the same for both.
///
/// `a` and `b` hold the scores under one seed after the other, of the same rows in the same order;
/// what one has more than the other is not used. None if there is no seed or no row, or the numbers
/// of rows differ.
pub fn paired_auroc_over_seeds(
    a: &[ScoredRows<'_>],
    b: &[ScoredRows<'_>],
    bootstrap: &Bootstrap,
) -> Option<[f64; 2]> {
    let counts = a.first()?.map(<[f64]>::len);
    let mut members = a.iter().chain(b);
    if counts.contains(&0) || members.any(|member| member.map(<[f64]>::len) != counts) {
        return None;
    }
    let pairs: Vec<[Ranked; 2]> = a
        .iter()
        .zip(b)
        .map(|(a, b)| [a, b].map(Ranked::new))
        .collect();
    // Resamples of the positives are others than those of the negatives.
    let of_positives = Bootstrap {
        seed: bootstrap.seed.wrapping_add(1),
        ..*bootstrap
    };
    let mut positives: Vec<Vec<usize>> = Vec::with_capacity(bootstrap.resamples);
    resamples(counts[1], &of_positives, |rows| {
        positives.push(rows.to_vec())
    });
    let mut found = Vec::with_capacity(bootstrap.resamples);
    resamples(counts[0], bootstrap, |negatives| {
        let (draw, seed) = (found.len(), bootstrap.seed);
        let mut numbers = stream(seed, Purpose::Bootstrap, 1, draw as u64, "seeds");
        let difference = |_| {
            let [a, b] = &pairs[below(&mut numbers, pairs.len() as u64) as usize];
            let rows = [negatives, &positives[draw]];
            a.auroc(rows) - b.auroc(rows)
        };
        found.push((0..pairs.len()).map(difference).sum::<f64>() / pairs.len() as f64);
    });
    found.sort_by(f64::total_cmp);
    let tail = (1.0 - bootstrap.level) / 2.0;
    Some([tail, 1.0 - tail].map(|share| quantile(&found, share)))
}

/// The rank of each row among the scores that differ, the lowest first.
struct Ranked {
    ranks: [Vec<usize>; 2],
    count: usize,
}

impl Ranked {
    fn new(rows: &ScoredRows<'_>) -> Self {
        let mut scores: Vec<f64> = rows.iter().flat_map(|rows| *rows).copied().collect();
        scores.sort_by(f64::total_cmp);
        scores.dedup();
        let rank = |score: &f64| scores.partition_point(|one| one.total_cmp(score).is_lt());
        Self {
            ranks: rows.map(|rows| rows.iter().map(rank).collect()),
            count: scores.len(),
        }
    }

    /// The AUROC of these rows: the share of pairs in which the positive is above the negative, ties
    /// count ½.
    fn auroc(&self, rows: [&[usize]; 2]) -> f64 {
        let mut counts = vec![[0.0; 2]; self.count];
        for (side, rows) in rows.iter().enumerate() {
            for &row in *rows {
                counts[self.ranks[side][row]][side] += 1.0;
            }
        }
        let (mut below, mut wins) = (0.0, 0.0);
        for [negatives, positives] in counts {
            wins += positives * (below + negatives / 2.0);
            below += negatives;
        }
        wins / (rows[0].len() * rows[1].len()) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::super::auroc;
    use super::*;

    #[test]
    fn the_auroc_of_ranks_is_that_of_scores() {
        let (negatives, positives) = ([0.1, 0.5, 0.5, 0.2], [0.5, 0.9, 0.05]);
        let found = Ranked::new(&[&negatives, &positives]).auroc([&[0, 1, 2, 3], &[0, 1, 2]]);
        let scores = [&negatives[..], &positives].concat();
        let is_positive: Vec<bool> = (0..7).map(|row| row >= 4).collect();
        assert!((found - auroc(&scores, &is_positive).unwrap()).abs() < 1e-12);
    }

    #[test]
    fn a_method_that_tells_apart_is_above_one_that_does_not() {
        let own: Vec<f64> = (0..100).map(f64::from).collect();
        let other: Vec<f64> = own.iter().map(|score| score + 60.0).collect();
        let (good, bad): (ScoredRows<'_>, ScoredRows<'_>) = ([&own, &other], [&own, &own]);
        let interval = |a, b| paired_auroc_over_seeds(&[a, a], &[b, b], &Bootstrap::default());
        let [low, high] = interval(good, bad).unwrap();
        // 1 − ½ · 0.4² − ½: 0.42 by the pairs that overlap.
        assert!(
            low > 0.3 && low < 0.42 && 0.42 < high && high < 0.55,
            "{low} {high}"
        );
        assert_eq!(interval(good, good), Some([0.0, 0.0]));
        assert_eq!(interval(good, [&own, &[]]), None);
        assert_eq!(
            paired_auroc_over_seeds(&[], &[], &Bootstrap::default()),
            None
        );
    }
}

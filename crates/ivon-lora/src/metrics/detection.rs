//! A score and a yes or no for each example → how well the score separates them (to detect errors, or
//! an unseen domain).

/// Area under the receiver operating characteristic: the probability that a positive scores above a
/// negative, where a tie counts ½. None if there is no positive or no negative.
pub fn auroc(scores: &[f64], positive: &[bool]) -> Option<f64> {
    let groups = groups(scores, positive);
    let (positives, negatives) = groups
        .iter()
        .fold((0.0, 0.0), |sum, group| (sum.0 + group.0, sum.1 + group.1));
    if positives == 0.0 || negatives == 0.0 {
        return None;
    }
    // From the highest score down: each negative loses to all positives before it, and to half of
    // those in its group.
    let (mut above, mut wins) = (0.0, 0.0);
    for (positive, negative) in groups {
        wins += negative * (above + positive / 2.0);
        above += positive;
    }
    Some(wins / (positives * negatives))
}

/// The 95 % interval of an AUROC from this many positives and negatives, within [0, 1]: A ± 1.96 SE
/// with SE² = (A(1−A) + (n₊−1)(A/(2−A) − A²) + (n₋−1)(2A²/(1+A) − A²)) / (n₊ n₋) (Hanley and McNeil
/// 1982, equation 2).
pub fn auroc_interval(auroc: f64, positives: usize, negatives: usize) -> [f64; 2] {
    let (positives, negatives, square) = (positives as f64, negatives as f64, auroc * auroc);
    let two_positives = (positives - 1.0) * (auroc / (2.0 - auroc) - square);
    let two_negatives = (negatives - 1.0) * (2.0 * square / (1.0 + auroc) - square);
    let variance =
        (auroc * (1.0 - auroc) + two_positives + two_negatives) / (positives * negatives);
    let half = 1.96 * variance.max(0.0).sqrt();
    [(auroc - half).max(0.0), (auroc + half).min(1.0)]
}

/// Average precision, the step-wise area under precision against recall: Σ (gain in recall) ·
/// precision at each distinct score, from the highest down. None if there is no positive.
pub fn aupr(scores: &[f64], positive: &[bool]) -> Option<f64> {
    let groups = groups(scores, positive);
    let positives: f64 = groups.iter().map(|group| group.0).sum();
    if positives == 0.0 {
        return None;
    }
    let (mut found, mut taken, mut area) = (0.0, 0.0, 0.0);
    for (positive, negative) in groups {
        found += positive;
        taken += positive + negative;
        area += positive / positives * (found / taken);
    }
    Some(area)
}

/// Numbers of positives and negatives at each distinct score, from the highest down.
fn groups(scores: &[f64], positive: &[bool]) -> Vec<(f64, f64)> {
    let mut rows: Vec<(f64, bool)> = scores
        .iter()
        .copied()
        .zip(positive.iter().copied())
        .collect();
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));
    let count = |group: &[(f64, bool)]| {
        let positives = group.iter().filter(|row| row.1).count();
        (positives as f64, (group.len() - positives) as f64)
    };
    rows.chunk_by(|a, b| a.0 == b.0).map(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, below, stream};

    /// Every positive against every negative.
    fn brute_force(scores: &[f64], positive: &[bool]) -> f64 {
        let of = |wanted: bool| {
            scores
                .iter()
                .zip(positive)
                .filter(move |row| *row.1 == wanted)
                .map(|row| *row.0)
        };
        let points = of(true).flat_map(|p| {
            of(false).map(move |n| {
                if p > n {
                    1.0
                } else if p == n {
                    0.5
                } else {
                    0.0
                }
            })
        });
        points.sum::<f64>() / (of(true).count() * of(false).count()) as f64
    }

    #[test]
    fn auroc_is_the_count_of_all_pairs() {
        for case in 0..20 {
            let mut numbers = stream(case, Purpose::Generation, 0, 0, "auroc");
            let scores: Vec<f64> = (0..40).map(|_| below(&mut numbers, 7) as f64).collect();
            let positive: Vec<bool> = (0..40)
                .map(|row| row < 3 || below(&mut numbers, 2) == 0 && row > 5)
                .collect();
            assert!(
                (auroc(&scores, &positive).unwrap() - brute_force(&scores, &positive)).abs()
                    < 1e-12
            );
        }
        assert_eq!(auroc(&[1.0, 2.0], &[true, true]), None);
    }

    #[test]
    fn the_interval_of_an_auroc_is_that_of_the_paper_s_example() {
        // Hanley and McNeil's 51 abnormal and 58 normal images: an area of 0.893 with a standard
        // error of 0.032.
        let [low, high] = auroc_interval(0.893, 51, 58);
        assert!(
            ((high - low) / 2.0 / 1.96 - 0.0325).abs() < 5e-4,
            "{low} {high}"
        );
        assert_eq!(auroc_interval(1.0, 3, 4), [1.0, 1.0]);
        assert_eq!(auroc_interval(0.5, 1, 1), [0.0, 1.0]);
    }

    #[test]
    fn average_precision_by_hand() {
        // Precision 1 at the first hit, 2/3 at the second.
        let found = aupr(&[0.9, 0.8, 0.7, 0.6], &[true, false, true, false]).unwrap();
        assert!((found - (0.5 + 0.5 * 2.0 / 3.0)).abs() < 1e-15);
        assert_eq!(aupr(&[0.5; 4], &[true, false, false, false]), Some(0.25));
        assert_eq!(aupr(&[0.5], &[false]), None);
    }
}

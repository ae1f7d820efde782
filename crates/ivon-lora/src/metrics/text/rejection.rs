//! Prediction rejection ratio: how well an uncertainty orders answers by their quality, as lm-polygraph
//! defines it (`PredictionRejectionArea` and `normalize_metric`; Vashurin et al., arXiv 2406.15627,
//! section 4; the ratio is from Malinin et al., 2017).

/// (A − A_random) / (A_oracle − A_random), where A is the mean, over rejecting the 0, 1, … most
/// uncertain of N answers, fewer than `most` · N (rounded down, at least one), of the mean quality of the
/// others. The oracle rejects the worst answers first; at random the mean quality stays. So 1 is a
/// perfect order, 0 none, and below 0 a wrong one. `most` is 1 or, as often reported, 0.5.
///
/// Within a group of answers of equal uncertainty each counts as the group's mean, so that the order
/// of rows does not matter; lm-polygraph takes them as they come, and averages 1,000 random orders. None
/// if all answers are equally good.
pub fn prediction_rejection_ratio(
    uncertainties: &[f64],
    qualities: &[f64],
    most: f64,
) -> Option<f64> {
    let mean = qualities.iter().sum::<f64>() / qualities.len() as f64;
    let rejections = ((most * qualities.len() as f64) as usize).clamp(1, qualities.len().max(1));
    let badness: Vec<f64> = qualities.iter().map(|quality| -quality).collect();
    let oracle = area(&badness, qualities, rejections) - mean;
    let found = area(uncertainties, qualities, rejections) - mean;
    (oracle > 1e-12 * mean.abs()).then(|| found / oracle)
}

/// The mean quality of the answers that stay, averaged over rejecting the 0 … `rejections` − 1 most
/// uncertain.
fn area(uncertainties: &[f64], qualities: &[f64], rejections: usize) -> f64 {
    let mut rows: Vec<(f64, f64)> = uncertainties
        .iter()
        .copied()
        .zip(qualities.iter().copied())
        .collect();
    rows.sort_by(|one, other| one.0.total_cmp(&other.0));
    let (mut means, mut before) = (Vec::with_capacity(rows.len()), 0.0);
    for group in rows.chunk_by(|one, other| one.0 == other.0) {
        let share = group.iter().map(|row| row.1).sum::<f64>() / group.len() as f64;
        for _ in group {
            before += share;
            means.push(before / (means.len() + 1) as f64);
        }
    }
    let last = &means[means.len().saturating_sub(rejections)..];
    last.iter().sum::<f64>() / rejections as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// lm-polygraph's area, step by step.
    fn by_rejecting(uncertainties: &[f64], qualities: &[f64], rejections: usize) -> f64 {
        let mut left: Vec<usize> = (0..qualities.len()).collect();
        let mut sum = 0.0;
        for _ in 0..rejections {
            let total: f64 = left.iter().map(|&row| qualities[row]).sum();
            sum += total / left.len() as f64;
            let worst = left
                .iter()
                .copied()
                .max_by(|&a, &b| uncertainties[a].total_cmp(&uncertainties[b]));
            left.retain(|&row| Some(row) != worst);
        }
        sum / rejections as f64
    }

    #[test]
    fn it_is_the_area_between_the_random_order_and_the_oracle() {
        let uncertainties: Vec<f64> = (0..9).map(|row| f64::from(row * 5 % 9)).collect();
        let qualities: Vec<f64> = (0..9).map(|row| f64::from(row * row % 7) / 7.0).collect();
        // Of equal qualities it does not matter which is rejected first.
        let badness: Vec<f64> = qualities.iter().map(|quality| -quality).collect();
        let mean = qualities.iter().sum::<f64>() / 9.0;
        for (most, rejections) in [(1.0, 9), (0.5, 4)] {
            let found = by_rejecting(&uncertainties, &qualities, rejections) - mean;
            let oracle = by_rejecting(&badness, &qualities, rejections) - mean;
            let ratio = prediction_rejection_ratio(&uncertainties, &qualities, most).unwrap();
            assert!((ratio - found / oracle).abs() < 1e-12, "{most}: {ratio}");
        }
    }

    #[test]
    fn a_perfect_order_has_1_none_0_and_equal_answers_no_ratio() {
        let qualities = [1.0, 0.0, 0.5, 1.0];
        let ratio =
            |uncertainties: &[f64]| prediction_rejection_ratio(uncertainties, &qualities, 1.0);
        assert_eq!(ratio(&[0.1, 0.9, 0.5, 0.2]), Some(1.0));
        assert!(ratio(&[0.3; 4]).unwrap().abs() < 1e-12);
        assert!(ratio(&[0.9, 0.1, 0.5, 0.8]).unwrap() < 0.0);
        assert_eq!(
            prediction_rejection_ratio(&[0.1, 0.2], &[0.7, 0.7], 0.5),
            None
        );
        assert_eq!(prediction_rejection_ratio(&[], &[], 0.5), None);
    }
}

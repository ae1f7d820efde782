//! How far draws of one distribution lie apart: the expected pairwise KL divergence (Malinin and Gales,
//! arXiv 2002.07650, section 2).

/// The mean of KL(pᵢ ‖ pⱼ) = Σ pᵢ (ln pᵢ − ln pⱼ) over all S² ordered pairs, nats, from log-probabilities
/// `[S][C]`; S of them are a draw with itself and 0. 0 without draws; infinite if a draw gives
/// probability 0 to what another may give.
///
/// It takes S · C steps: Σᵢⱼ KL(pᵢ ‖ pⱼ) = Σ_c [S Σᵢ pᵢ ln pᵢ − (Σᵢ pᵢ) (Σⱼ ln pⱼ)].
pub fn pairwise_divergence(draws: &[Vec<f64>]) -> f64 {
    let count = draws.len() as f64;
    let classes = draws.iter().map(Vec::len).min().unwrap_or(0);
    let of_class = |class: usize| {
        let [mut weights, mut logs, mut both] = [0.0; 3];
        for log in draws.iter().map(|draw| draw[class]) {
            let weight = log.exp();
            weights += weight;
            if weight > 0.0 {
                both += weight * log;
            }
            logs += log;
        }
        match weights > 0.0 {
            true => count * both - weights * logs,
            false => 0.0,
        }
    };
    let sum: f64 = (0..classes).map(of_class).sum();
    // Neither a rounding error below 0 nor 0/0.
    (sum / (count * count)).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::super::super::log_softmax;
    use super::*;

    #[test]
    fn it_is_the_mean_over_all_pairs() {
        let draws: Vec<Vec<f64>> = (0..5)
            .map(|draw| {
                let logits =
                    (0..4).map(|class| f64::from(draw * class * 3 % 7) - 0.3 * f64::from(draw));
                log_softmax(&logits.collect::<Vec<_>>(), 1.0)
            })
            .collect();
        let divergence = |one: &[f64], other: &[f64]| -> f64 {
            one.iter().zip(other).map(|(a, b)| a.exp() * (a - b)).sum()
        };
        let mut sum = 0.0;
        for one in &draws {
            sum += draws
                .iter()
                .map(|other| divergence(one, other))
                .sum::<f64>();
        }
        let found = pairwise_divergence(&draws);
        assert!((found - sum / 25.0).abs() < 1e-12, "{found} {}", sum / 25.0);
    }

    #[test]
    fn equal_draws_have_none_and_two_coins_theirs() {
        let coin = |p: f64| vec![p.ln(), (1.0 - p).ln()];
        assert_eq!(pairwise_divergence(&[]), 0.0);
        assert!(pairwise_divergence(&[coin(0.3)]) < 1e-15);
        assert!(pairwise_divergence(&[coin(0.3), coin(0.3)]) < 1e-15);
        // Both directions of (¾, ¼) and (¼, ¾) are ½ ln 3, and two of four pairs are 0.
        let found = pairwise_divergence(&[coin(0.75), coin(0.25)]);
        assert!((found - 0.25 * 3f64.ln()).abs() < 1e-15, "{found}");
        let certain = vec![0.0, f64::NEG_INFINITY];
        assert_eq!(
            pairwise_divergence(&[coin(0.5), certain.clone()]),
            f64::INFINITY
        );
        assert_eq!(pairwise_divergence(&[certain.clone(), certain]), 0.0);
    }
}

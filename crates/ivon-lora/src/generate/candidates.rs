//! The tokens that may come next: logits, and what is left of them after the usual restrictions.
//! Each restriction is that of the logits processor of the same name in transformers, and they
//! follow each other in the order of its `generate`.

use crate::kernel::log_sum_exp;

/// A token and its logit.
pub type Candidate = (u32, f32);

/// Divides the positive logits of tokens that were seen by `penalty`, and multiplies the negative
/// ones by it (arXiv 1909.05858, section 4.1).
pub fn penalise(logits: &mut [f32], seen: &[u32], penalty: f32) {
    let mut seen = seen.to_vec();
    seen.sort_unstable();
    seen.dedup();
    for token in seen {
        if let Some(logit) = logits.get_mut(token as usize) {
            *logit = match *logit < 0.0 {
                true => *logit * penalty,
                false => *logit / penalty,
            };
        }
    }
}

/// The token with the largest logit, the first of those that share it.
pub fn largest(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (token, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = token;
        }
    }
    best as u32
}

/// All tokens, with their logits divided by the temperature.
pub fn warmed(logits: &[f32], temperature: f32) -> Vec<Candidate> {
    let all = logits.iter().enumerate();
    all.map(|(token, logit)| (token as u32, logit / temperature))
        .collect()
}

/// The `count` tokens with the largest logits, and those that share the smallest of these.
pub fn top_k(candidates: &mut Vec<Candidate>, count: usize) {
    if count >= candidates.len() {
        return;
    }
    let last = count.max(1) - 1;
    let (_, &mut (_, least), _) = candidates.select_nth_unstable_by(last, larger_first);
    candidates.retain(|(_, logit)| *logit >= least);
}

/// The most probable tokens that together have a probability of `mass`: each one before which less
/// than `mass` lies.
pub fn top_p(candidates: &mut Vec<Candidate>, mass: f64) {
    let total = weights(candidates).sum::<f64>();
    let most = largest_logit(candidates);
    let (mut sorted, mut before, mut kept) = (0, 0.0, 0);
    while kept == sorted && sorted < candidates.len() {
        // The mass usually lies in few of many tokens: only as many as it takes are sorted.
        let end = (4 * sorted).max(256).min(candidates.len());
        let rest = &mut candidates[sorted..];
        let part = end - sorted;
        if part < rest.len() {
            rest.select_nth_unstable_by(part, larger_first);
        }
        rest[..part].sort_unstable_by(larger_first);
        for (_, logit) in &rest[..part] {
            if before >= mass * total {
                break;
            }
            before += weight(*logit, most);
            kept += 1;
        }
        sorted = end;
    }
    candidates.truncate(kept.max(1));
}

/// The tokens that have at least `share` of the probability of the most probable one
/// (arXiv 2407.01082).
pub fn min_p(candidates: &mut Vec<Candidate>, share: f64) {
    let most = largest_logit(candidates);
    candidates.retain(|(_, logit)| *logit == most || weight(*logit, most) >= share);
}

/// A token with the probabilities of the candidates, by a uniform number in [0, 1). The candidates are
/// put in the order of tokens: the same number gives the same token however they were found.
pub fn draw(candidates: &mut [Candidate], uniform: f64) -> Option<u32> {
    candidates.sort_unstable_by_key(|(token, _)| *token);
    let total = weights(candidates).sum::<f64>();
    let mut rest = uniform * total;
    let mut last = None;
    for ((token, _), weight) in candidates.iter().zip(weights(candidates)) {
        if weight > 0.0 {
            last = Some(*token);
            if rest < weight {
                break;
            }
        }
        rest -= weight;
    }
    last
}

/// ln p of one token under the softmax of all logits, nats.
pub fn log_probability(logits: &[f32], token: u32) -> f64 {
    f64::from(logits[token as usize]) - log_sum_exp(logits)
}

/// The `count` most probable tokens with their ln p under the softmax of all logits, nats, the most
/// probable first.
pub fn most_probable(logits: &[f32], count: usize) -> Vec<(u32, f64)> {
    if count == 0 {
        return Vec::new();
    }
    let mut candidates = warmed(logits, 1.0);
    let count = count.min(candidates.len());
    if count < candidates.len() {
        candidates.select_nth_unstable_by(count, larger_first);
        candidates.truncate(count);
    }
    candidates.sort_unstable_by(larger_first);
    let total = log_sum_exp(logits);
    let log_probability = |(token, logit): Candidate| (token, f64::from(logit) - total);
    candidates.into_iter().map(log_probability).collect()
}

fn larger_first(one: &Candidate, other: &Candidate) -> std::cmp::Ordering {
    other.1.total_cmp(&one.1).then(one.0.cmp(&other.0))
}

fn largest_logit(candidates: &[Candidate]) -> f32 {
    let logits = candidates.iter().map(|(_, logit)| *logit);
    logits.fold(f32::NEG_INFINITY, f32::max)
}

/// e^(logit − most): a probability but for its factor.
fn weight(logit: f32, most: f32) -> f64 {
    f64::from(logit - most).exp()
}

fn weights(candidates: &[Candidate]) -> impl Iterator<Item = f64> {
    let most = largest_logit(candidates);
    candidates
        .iter()
        .map(move |(_, logit)| weight(*logit, most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_probable_token_always_stays() {
        let all = warmed(&[1.0, 3.0, 2.0], 1.0);
        for restrict in [
            |all: &mut Vec<Candidate>| top_k(all, 0),
            |all: &mut Vec<Candidate>| top_p(all, 0.0),
            |all: &mut Vec<Candidate>| min_p(all, 2.0),
        ] {
            let mut kept = all.clone();
            restrict(&mut kept);
            assert_eq!(kept, [(1, 3.0)]);
        }
    }

    #[test]
    fn few_of_many_tokens_are_found_without_sorting_all() {
        // 2,000 tokens of equal probability, and 300 of the double.
        let logits = (0..2300).map(|token| if token % 8 == 3 { 2f32.ln() } else { 0.0 });
        let mut kept = warmed(&logits.collect::<Vec<_>>(), 1.0);
        let heavy = kept.iter().filter(|(_, logit)| *logit > 0.0).count() as f64;
        let mass = 2.0 * heavy / (2300.0 + heavy);
        top_p(&mut kept, mass - 1e-9);
        assert_eq!(kept.len() as f64, heavy);
        let mut kept = warmed(&vec![0.0; 2300], 1.0);
        top_p(&mut kept, 0.5);
        assert_eq!(kept.len(), 1150);
    }

    #[test]
    fn tokens_are_drawn_as_often_as_they_are_probable_in_whatever_order_they_come() {
        let logits = [0.0, 3f32.ln(), f32::NEG_INFINITY, 2f32.ln()];
        let mut counts = [0; 4];
        for step in 0..6000 {
            let uniform = (f64::from(step) + 0.5) / 6000.0;
            let mut candidates = warmed(&logits, 1.0);
            let token = draw(&mut candidates, uniform).unwrap();
            candidates.reverse();
            assert_eq!(draw(&mut candidates, uniform), Some(token));
            counts[token as usize] += 1;
        }
        assert_eq!(counts, [1000, 3000, 0, 2000]);
    }

    #[test]
    fn the_most_probable_tokens_come_with_their_log_probabilities_largest_first() {
        let logits = [0.5, 2.0, -1.0, 2.0, 1.0];
        let found = most_probable(&logits, 3);
        let expected = [1, 3, 4].map(|token| (token, log_probability(&logits, token)));
        assert_eq!(found, expected);
        assert_eq!(most_probable(&logits, 9).len(), 5);
        assert!(most_probable(&logits, 0).is_empty());
    }

    #[test]
    fn a_log_probability_is_that_of_the_softmax() {
        let logits = [1.0, 2.0, -1.0];
        let total = logits
            .map(|logit| f64::from(logit).exp())
            .iter()
            .sum::<f64>();
        let found = log_probability(&logits, 0);
        assert!((found - (1f64.exp() / total).ln()).abs() < 1e-6);
    }
}

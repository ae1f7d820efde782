//! What a posterior says about an answer that has been written: each of its tokens once more, at the
//! mean and under every draw.
//!
//! With p_s the distribution of the next token under draw s, p̄ their mean and H the entropy:
//!
//! ```text
//! entropy = H(p̄)   aleatoric = mean H(p_s)   mutual information = H(p̄) − mean H(p_s)
//! pairwise KL = mean over all pairs of KL(p_s ‖ p_t)
//! ```
//! A point estimate has no draws: its entropy is all aleatoric. Sums over an answer are those of the
//! chain rule for log-probabilities; for entropies they are the sums along this answer, not the
//! entropy over all answers (docs/methods.md).

use serde::{Deserialize, Serialize};

use crate::data::Batch;
use crate::forward::{Network, NextToken};
use crate::lora::Draw;

/// Scores of one token, or of all tokens of an answer, nats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WrittenScores {
    /// ln p at the mean of the posterior, by which the answer was written.
    pub log_probability: f64,
    /// ln of the mean over draws of p, token by token.
    pub log_probability_mean: f64,
    /// Total uncertainty about the next token, H(p̄).
    pub entropy: f64,
    /// What draws agree is uncertain, mean H(p_s).
    pub aleatoric: f64,
    /// What draws disagree on: the difference of the two.
    pub mutual_information: f64,
    /// Mean KL divergence over pairs of draws.
    pub pairwise_kl: f64,
    /// The share of draws whose most probable token is not that of their mean.
    pub disagreement: f64,
}

/// Scores of an answer: sums at the top level, means per token, and those of each token.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct WrittenAnswer {
    /// Sums over its tokens.
    #[serde(flatten)]
    pub sum: WrittenScores,
    /// Means over its tokens; zeros for an empty answer.
    pub per_token: WrittenScores,
    /// Of each token.
    pub token_scores: Vec<WrittenScores>,
}

impl WrittenScores {
    /// From the token at the mean and under the mean of the draws' distributions.
    fn of(at_mean: &NextToken, under_draws: &NextToken) -> Self {
        let [entropy, aleatoric] = [under_draws.entropy, under_draws.mean_entropy].map(f64::from);
        Self {
            log_probability: at_mean.log_probability.into(),
            log_probability_mean: under_draws.log_probability.into(),
            entropy,
            aleatoric,
            mutual_information: (entropy - aleatoric).max(0.0),
            pairwise_kl: under_draws.pairwise_kl.into(),
            disagreement: under_draws.disagreement.into(),
        }
    }

    /// `combine` of each pair of scores.
    fn zip(self, other: &Self, combine: impl Fn(f64, f64) -> f64) -> Self {
        Self {
            log_probability: combine(self.log_probability, other.log_probability),
            log_probability_mean: combine(self.log_probability_mean, other.log_probability_mean),
            entropy: combine(self.entropy, other.entropy),
            aleatoric: combine(self.aleatoric, other.aleatoric),
            mutual_information: combine(self.mutual_information, other.mutual_information),
            pairwise_kl: combine(self.pairwise_kl, other.pairwise_kl),
            disagreement: combine(self.disagreement, other.disagreement),
        }
    }
}

impl WrittenAnswer {
    fn of(token_scores: Vec<WrittenScores>) -> Self {
        let nothing = WrittenScores::default();
        let add = |sum: WrittenScores, token| sum.zip(token, |sum, token| sum + token);
        let sum = token_scores.iter().fold(nothing, add);
        let share = 1.0 / token_scores.len().max(1) as f64;
        Self {
            sum,
            per_token: sum.zip(&nothing, |sum, _| sum * share),
            token_scores,
        }
    }
}

/// Scores an answer at `mean` and under `draws`, or at `mean` alone if there are none. The prompt is
/// not empty, unless the answer is.
pub fn written_answer(
    network: &Network,
    mean: &Draw,
    draws: &[Draw],
    prompt: &[u32],
    answer: &[u32],
) -> WrittenAnswer {
    if answer.is_empty() || prompt.is_empty() {
        return WrittenAnswer::default();
    }
    let mut batch = Batch::default();
    let tokens = [prompt, &answer[..answer.len() - 1]].concat();
    batch.push(&tokens, None, 0);
    batch.asked = (prompt.len() - 1..tokens.len()).collect();
    let hidden = |draw: &Draw| network.hidden(&batch, draw);
    let at_mean = network.next_tokens(&[hidden(mean)], answer);
    let under_draws = match draws.is_empty() {
        true => at_mean.clone(),
        false => network.next_tokens(&draws.iter().map(hidden).collect::<Vec<_>>(), answer),
    };
    let tokens = at_mean.iter().zip(&under_draws);
    WrittenAnswer::of(
        tokens
            .map(|(mean, draws)| WrittenScores::of(mean, draws))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::lora::{Adapter, read_peft};
    use crate::metrics::log_softmax;
    use crate::model::{BasePrecision, Checkpoint, Decoder};
    use crate::testing::golden;

    fn network() -> Network {
        let checkpoint = Checkpoint::open(golden().join("tiny/llama").to_str().unwrap()).unwrap();
        let decoder = Decoder::load(&checkpoint, BasePrecision::F32).unwrap();
        Network::new(decoder, &Device::flex(), false)
    }

    fn draws(network: &Network) -> [Draw; 3] {
        let folder = golden().join("tiny/llama/adapter");
        let adapter = read_peft(&folder, network.config(), network.device())
            .unwrap()
            .adapter;
        let half: Adapter = adapter.clone_with(|_, tensor| tensor * 0.7);
        [Draw::base(), Draw::of(adapter), Draw::of(half)]
    }

    /// ln p of every token after `tokens`, which are run alone.
    fn next(network: &Network, draw: &Draw, tokens: &[u32]) -> Vec<f64> {
        let mut batch = Batch::default();
        let segment = batch.push(tokens, None, 0);
        batch.ask_last(segment);
        let all: Vec<u32> = (0..network.config().vocab_size as u32).collect();
        let logits = network.logits_of(&network.hidden(&batch, draw), &all);
        let logits: Vec<f32> = logits.into_data().try_to_vec().unwrap();
        let logits: Vec<f64> = logits.into_iter().map(f64::from).collect();
        log_softmax(&logits, 1.0)
    }

    fn entropy(p: &[f64]) -> f64 {
        -p.iter().map(|log| log * log.exp()).sum::<f64>()
    }

    #[test]
    fn scores_are_those_of_each_token_after_the_text_before_it_under_each_draw() {
        let network = network();
        let draws = draws(&network);
        let (prompt, answer) = ([5, 6, 7], [8, 9, 10, 4]);
        let found = written_answer(&network, &draws[1], &draws, &prompt, &answer);
        let mut sums = [0.0; 4];
        for (index, &token) in answer.iter().enumerate() {
            let text = [&prompt[..], &answer[..index]].concat();
            let all = draws.each_ref().map(|draw| next(&network, draw, &text));
            let mean: Vec<f64> = (0..all[0].len())
                .map(|v| (all.iter().map(|p| p[v].exp()).sum::<f64>() / 3.0).ln())
                .collect();
            let kl = |p: &Vec<f64>, q: &Vec<f64>| -> f64 {
                p.iter().zip(q).map(|(p, q)| p.exp() * (p - q)).sum()
            };
            let pairs = all.iter().flat_map(|p| all.iter().map(move |q| kl(p, q)));
            let pairs = pairs.sum::<f64>() / 9.0;
            let aleatoric = all.iter().map(|p| entropy(p)).sum::<f64>() / 3.0;
            let expected = [
                all[1][token as usize],
                mean[token as usize],
                entropy(&mean),
                pairs,
            ];
            let scores = found.token_scores[index];
            let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-4, "{index}: {a} {b}");
            close(scores.log_probability, expected[0]);
            close(scores.log_probability_mean, expected[1]);
            close(scores.entropy, expected[2]);
            close(scores.pairwise_kl, expected[3]);
            close(scores.aleatoric, aleatoric);
            close(scores.mutual_information, expected[2] - aleatoric);
            sums.iter_mut().zip(expected).for_each(|(sum, x)| *sum += x);
        }
        assert!((found.sum.log_probability - sums[0]).abs() < 1e-3);
        assert!((found.per_token.log_probability_mean - sums[1] / 4.0).abs() < 1e-3);
        assert!(found.sum.mutual_information > 1e-3);
    }

    #[test]
    fn a_point_estimate_is_uncertain_only_of_what_comes_next() {
        let network = network();
        let draws = draws(&network);
        let found = written_answer(&network, &draws[1], &[], &[5, 6], &[7, 8]);
        assert_eq!(found.sum.mutual_information, 0.0);
        assert_eq!(found.sum.log_probability, found.sum.log_probability_mean);
        assert_eq!(found.sum.entropy, found.sum.aleatoric);
        let empty = written_answer(&network, &draws[1], &[], &[5, 6], &[]);
        assert_eq!(empty, WrittenAnswer::default());
    }
}

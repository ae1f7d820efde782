//! Text: the log-probability of every token, the loss over marked tokens with its gradients, and
//! greedy continuations.

use super::*;
use crate::testing::FAMILIES;

/// The log-probability of every token after the first of each sequence, one sequence after another.
fn log_probabilities(network: &Network, adapter: &Adapter, sequences: &[Vec<u32>]) -> Tensor<1> {
    let (mut batch, mut next) = (Batch::default(), Vec::new());
    for (key, tokens) in sequences.iter().enumerate() {
        let start = batch.tokens.len();
        batch.push(tokens, None, key as u64);
        batch.asked.extend(start..start + tokens.len() - 1);
        next.extend_from_slice(&tokens[1..]);
    }
    let hidden = network.hidden(&batch, &Draw::of(adapter.clone()));
    network.log_probabilities_of(&hidden, &next)
}

/// Cross-entropy per marked token: −Σ log p / n over them.
fn marked_loss(log_probabilities: Tensor<1>, marks: &[Vec<bool>]) -> Tensor<1> {
    let marks = marks.iter().flat_map(|marks| &marks[1..]);
    let weights: Vec<f32> = marks.map(|&mark| f32::from(u8::from(mark))).collect();
    let count: f32 = weights.iter().sum();
    let weights = Tensor::<1>::from_data(weights.as_slice(), &log_probabilities.device());
    (log_probabilities * weights).sum() / -count
}

#[test]
fn log_probabilities_loss_and_gradients_of_text_agree_with_transformers_in_every_family() {
    for family in FAMILIES {
        let expected = stated(family, "text");
        let sequences: Vec<Vec<u32>> =
            serde_json::from_value(expected["sequences"].clone()).unwrap();
        let marks: Vec<Vec<bool>> = serde_json::from_value(expected["trained"].clone()).unwrap();
        for network in networks(family) {
            let base = values(log_probabilities(&network, &Adapter::empty(), &sequences));
            let stated = numbers(&expected["base_log_probabilities"]);
            agree(&base, &stated, 1e-4, family);
            let adapter = adapter(family, &network).train();
            let adapted = log_probabilities(&network, &adapter, &sequences);
            let stated = numbers(&expected["adapted_log_probabilities"]);
            agree(&values(adapted.clone()), &stated, 1e-4, family);
            let loss = marked_loss(adapted, &marks);
            let stated = numbers(&expected["loss"]);
            agree(&values(loss.clone()), &stated, 1e-4, family);
            gradients_agree(&adapter, loss, &expected, 1e-4, family);
        }
    }
}

#[test]
fn a_sequence_beyond_every_window_chunk_and_original_context_agrees_with_transformers() {
    for family in FAMILIES {
        let expected = stated(family, "long");
        let sequence = [tokens(&expected["sequence"])];
        // The golden gradients of the delta nets, in f32, are themselves up to 0.98e-4 off those
        // of transformers in f64.
        let tolerance = if family == "qwen3_5" { 2e-4 } else { 1e-4 };
        for network in networks(family) {
            let adapter = adapter(family, &network).train();
            let found = log_probabilities(&network, &adapter, &sequence);
            let stated = numbers(&expected["adapted_log_probabilities"]);
            agree(&values(found.clone()), &stated, 1e-4, family);
            let loss = found.mean().neg();
            gradients_agree(&adapter, loss, &expected, tolerance, family);
        }
    }
}

/// Each sequence with its `count` most probable next tokens, one after another, nothing kept from
/// one to the next.
fn continued(
    network: &Network,
    adapter: &Adapter,
    sequences: &[Vec<u32>],
    count: usize,
) -> Vec<Vec<u32>> {
    let mut sequences = sequences.to_vec();
    for _ in 0..count {
        let mut batch = Batch::default();
        for tokens in &sequences {
            let segment = batch.push(tokens, None, 0);
            batch.ask_last(segment);
        }
        let logits = logits(network, &batch, adapter);
        let rows = logits.chunks_exact(network.config().vocab_size);
        for (sequence, row) in sequences.iter_mut().zip(rows) {
            let best = (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]));
            sequence.push(best.unwrap() as u32);
        }
    }
    sequences
}

#[test]
fn greedy_continuations_of_every_family_are_those_of_transformers() {
    for family in FAMILIES {
        let expected = stated(family, "text");
        let of =
            |key: &str| -> Vec<Vec<u32>> { serde_json::from_value(expected[key].clone()).unwrap() };
        let sequences = of("sequences");
        for network in networks(family) {
            for (adapter, key) in [
                (Adapter::empty(), "base_greedy"),
                (adapter(family, &network), "adapted_greedy"),
            ] {
                let greedy = of(key);
                let stated = sequences.iter().zip(&greedy);
                let stated: Vec<_> = stated
                    .map(|(one, more)| [&one[..], more].concat())
                    .collect();
                let found = continued(&network, &adapter, &sequences, greedy[0].len());
                assert_eq!(found, stated, "{family} {key}");
            }
        }
    }
}

#[test]
fn the_next_token_under_draws_is_the_same_on_every_device_and_with_a_changed_output_layer() {
    for family in ["llama", "gemma2"] {
        let [network, _, plain] = networks(family);
        let adapted = adapter(family, &network);
        let mut batch = Batch::default();
        let segment = batch.push(&[5, 6, 7, 8], None, 0);
        batch.asked = (0..3).collect();
        let targets = [6, 7, 8];
        assert_eq!(segment, 0);
        let draws = [Draw::base(), Draw::of(adapted)];
        let of = |network: &Network| {
            let hidden = draws.each_ref().map(|draw| network.hidden(&batch, draw));
            network.next_tokens(&hidden, &targets)
        };
        for (a, b) in of(&network).into_iter().zip(of(&plain)) {
            let scores = |token: crate::forward::NextToken| {
                [
                    token.log_probability,
                    token.top_log_probability,
                    token.squares,
                    token.entropy,
                    token.mean_entropy,
                    token.pairwise_kl,
                    token.disagreement,
                ]
            };
            assert_eq!(a.top, b.top, "{family}");
            agree(&scores(a), &scores(b), 1e-4, family);
            assert!(
                a.pairwise_kl > 0.0 && a.entropy > a.mean_entropy,
                "{family}: {a:?}"
            );
        }
    }
}

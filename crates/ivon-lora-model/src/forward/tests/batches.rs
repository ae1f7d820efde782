//! What else is in a batch, and what its sequences share, does not change what is computed.

use burn::tensor::{Tensor, TensorData};

use super::*;
use crate::testing::FAMILIES;

#[test]
fn sequences_that_share_a_beginning_give_the_logits_and_gradients_of_each_written_out() {
    for family in FAMILIES {
        let [network, _, plain] = networks(family);
        let (mut shared, mut apart) = (Batch::default(), Batch::default());
        let start: Vec<u32> = (5..75).collect();
        // A beginning longer than a chunk of the delta rule, and one shorter than a convolution.
        for beginning in [&start[..], &start[..1]] {
            let root = shared.push(beginning, None, 0);
            let middle = shared.push(&[9, 4], Some(root), 0);
            // With a dynamic base, sequences of different lengths have different rotations.
            let answers = match family {
                "llama-dynamic" => [[10, 11].as_slice(), &[12, 4], &[13, 14]],
                _ => [[10, 11].as_slice(), &[12], &[13, 14, 15]],
            };
            for answer in answers {
                let segment = shared.push(answer, Some(middle), 0);
                shared.ask_last(segment);
                let written = [beginning, &[9, 4], answer].concat();
                let segment = apart.push(&written, None, 0);
                apart.ask_last(segment);
            }
        }
        let run = |network: &Network, batch: &Batch| {
            let adapter = everywhere(network).train();
            let hidden = network.hidden(batch, &Draw::of(adapter.clone()));
            let logits = network.logits_of(&hidden, &[3, 7]);
            let weights: Vec<f32> = (0..12).map(|i| (i as f32 * 0.7).sin()).collect();
            let weights = TensorData::new(weights, [6, 2]);
            let weights = Tensor::from_data(weights, &logits.device());
            let values: Vec<f32> = logits.clone().into_data().try_to_vec().unwrap();
            let all = gradients(&adapter, (logits * weights).sum());
            (values, all)
        };
        let (logits, truth) = run(&network, &apart);
        for network in [&network, &plain] {
            let (found, gradients) = run(network, &shared);
            agree(&found, &logits, 1e-4, family);
            for ((path, found), (_, truth)) in gradients.iter().zip(&truth) {
                agree(found, truth, 2e-4, &format!("{family} {path}"));
            }
        }
    }
}

#[test]
fn a_prompt_shared_by_its_answers_gives_the_logits_of_each_written_out() {
    let [network, ..] = networks("llama");
    let adapter = everywhere(&network);
    let (mut shared, mut apart) = (Batch::default(), Batch::default());
    let prompt = shared.push(&[5, 6, 7, 8], None, 0);
    for answer in [[10, 11].as_slice(), &[12], &[13, 14, 15]] {
        let segment = shared.push(answer, Some(prompt), 0);
        shared.ask_last(segment);
        let segment = apart.push(&[&[5, 6, 7, 8], answer].concat(), None, 0);
        apart.ask_last(segment);
    }
    agree(
        &logits(&network, &shared, &adapter),
        &logits(&network, &apart, &adapter),
        1e-5,
        "shared",
    );
}

#[test]
fn what_else_is_in_the_batch_moves_logits_by_less_than_1e_5() {
    FAMILIES.iter().for_each(|family| alone_or_together(family));
}

fn alone_or_together(family: &str) {
    let [network, ..] = networks(family);
    let expected = stated(family, "expected");
    let (all, none) = (batch(&expected), Adapter::empty());
    let together = logits(&network, &all, &none);
    let width = network.config().vocab_size;
    for (index, segment) in all.segments.iter().enumerate() {
        let mut alone = Batch::default();
        let only = alone.push(
            &all.tokens[segment.start..segment.start + segment.len],
            None,
            0,
        );
        alone.ask_last(only);
        agree(
            &logits(&network, &alone, &none),
            &together[index * width..(index + 1) * width],
            1e-5,
            "alone",
        );
    }
}

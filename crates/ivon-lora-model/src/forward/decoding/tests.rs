use burn::tensor::{Device, Tensor};
use serde_json::Value;

use super::*;
use crate::lora::{Adapter, Dropout, read_peft};
use crate::model::{BasePrecision, Checkpoint, Decoder};
use crate::testing::{FAMILIES, golden, golden_json};

fn decoder(family: &str) -> Decoder {
    let folder = golden().join("tiny").join(family);
    let checkpoint = Checkpoint::open(folder.to_str().unwrap()).unwrap();
    Decoder::load(&checkpoint, BasePrecision::F32).unwrap()
}

fn network(family: &str) -> Network {
    Network::new(decoder(family), &Device::flex(), false)
}

fn adapter(family: &str, network: &Network) -> Adapter {
    let folder = golden().join("tiny").join(family).join("adapter");
    let read = read_peft(&folder, network.config(), network.device());
    read.unwrap().adapter
}

/// The golden adapter, and the same with every number multiplied.
fn draws(family: &str, network: &Network, factors: &[f32]) -> Vec<Draw> {
    let adapter = adapter(family, network);
    let scaled = |factor: &f32| {
        let change = |path: &str, tensor: Tensor<2>| match path.contains("lora_B") {
            true => tensor * *factor,
            false => tensor,
        };
        Draw::of(adapter.clone_with(change))
    };
    factors.iter().map(scaled).collect()
}

fn tokens(value: &Value) -> Vec<u32> {
    let tokens = value.as_array().unwrap().iter();
    tokens.map(|token| token.as_u64().unwrap() as u32).collect()
}

fn sequences(value: &Value) -> Vec<Vec<u32>> {
    value.as_array().unwrap().iter().map(tokens).collect()
}

/// |a − b| ≤ 1e-5 · max|expected|; five times that for delta nets, whose state is carried through a
/// hundred roundings token by token, but in chunks by a pass over the whole text.
#[track_caller]
fn agree(found: &[f32], expected: &[f32], what: &str) {
    let tolerance = if what == "qwen3_5" { 5e-5 } else { 1e-5 };
    let largest = expected.iter().fold(0f32, |most, x| most.max(x.abs()));
    let pairs = found.iter().zip(expected);
    let worst = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(
        found.len() == expected.len() && worst <= tolerance * largest,
        "{what}: off by {worst} of {largest}, {} of {}",
        found.len(),
        expected.len()
    );
}

/// The logits after each of the last tokens of a sequence, from one pass for every length.
fn passes(network: &Network, draw: &Draw, tokens: &[u32], from: usize) -> Vec<f32> {
    let mut batch = Batch::default();
    for length in from..=tokens.len() {
        let segment = batch.push(&tokens[..length], None, 0);
        batch.ask_last(segment);
    }
    network.all_logits(&network.hidden(&batch, draw))
}

#[test]
fn a_prompt_and_steps_are_the_pass_over_the_whole_text_in_every_family() {
    for family in FAMILIES {
        let network = network(family);
        let draw = Draw::of(adapter(family, &network));
        let all = tokens(&golden_json(&format!("tiny/{family}/long.json"))["sequence"]);
        let expected = passes(&network, &draw, &all, 10);
        let decoding = Decoding::new(network, vec![draw]);
        let (mut read, mut found) = decoding.read(&[Prompt {
            draw: 0,
            tokens: &all[..10],
        }]);
        for token in &all[10..] {
            found.extend(decoding.extend(vec![(&mut read[0], std::slice::from_ref(token))]));
        }
        assert_eq!(read[0].tokens(), all);
        agree(&found, &expected, family);
    }
}

#[test]
fn several_tokens_may_be_added_at_once() {
    for family in FAMILIES {
        let network = network(family);
        let draw = Draw::of(adapter(family, &network));
        let all = tokens(&golden_json(&format!("tiny/{family}/long.json"))["sequence"]);
        let expected = passes(&network, &draw, &all, all.len());
        let decoding = Decoding::new(network, vec![draw]);
        let prompt = Prompt {
            draw: 0,
            tokens: &all[..3],
        };
        let (mut read, _) = decoding.read(&[prompt]);
        decoding.extend(vec![(&mut read[0], &all[3..90])]);
        let found = decoding.extend(vec![(&mut read[0], &all[90..])]);
        agree(&found, &expected, family);
    }
}

#[test]
fn draws_prompts_and_copies_in_one_pass_are_each_alone() {
    for family in FAMILIES {
        let network = network(family);
        let draws = draws(family, &network, &[1.0, 0.5, 2.0]);
        let all = tokens(&golden_json(&format!("tiny/{family}/long.json"))["sequence"]);
        let decoding = Decoding::new(network.clone(), draws.clone());
        // Under the first draw two prompts that begin alike.
        let texts = [&all[..30], &all[..12], &all[20..40], &all[..25]];
        let owners = [0, 1, 2, 0];
        let prompts = texts.iter().zip(owners);
        let prompts = prompts.map(|(&tokens, draw)| Prompt { draw, tokens });
        let (mut read, logits) = decoding.read(&prompts.collect::<Vec<_>>());
        let width = decoding.config().vocab_size;
        for (index, logits) in logits.chunks_exact(width).enumerate() {
            let draw = &draws[owners[index]];
            let expected = passes(&network, draw, texts[index], texts[index].len());
            agree(logits, &expected, family);
        }
        let copy = read[0].fork();
        read.push(copy);
        let mut found = Vec::new();
        for step in 0..3 {
            let added: Vec<u32> = (0..5).map(|row| all[50 + 5 * step + row]).collect();
            let additions = read.iter_mut().zip(added.chunks_exact(1));
            found = decoding.extend(additions.collect());
        }
        for (sequence, logits) in read.iter().zip(found.chunks_exact(width)) {
            let (tokens, draw) = (sequence.tokens(), &draws[sequence.draw()]);
            let expected = passes(&network, draw, tokens, tokens.len());
            agree(logits, &expected, family);
        }
    }
}

/// The tokens with the largest logits, one after another.
fn greedy(decoding: &Decoding, prompt: &[u32], count: usize) -> Vec<u32> {
    let best = |logits: &[f32]| {
        let all = logits.iter().enumerate();
        let best = all.max_by(|one, other| one.1.total_cmp(other.1));
        best.map_or(0, |(token, _)| token as u32)
    };
    let (mut read, mut logits) = decoding.read(&[Prompt {
        draw: 0,
        tokens: prompt,
    }]);
    let mut written = vec![best(&logits)];
    while written.len() < count {
        let last = [written[written.len() - 1]];
        logits = decoding.extend(vec![(&mut read[0], &last)]);
        written.push(best(&logits));
    }
    written
}

#[test]
fn greedy_continuations_are_those_of_transformers() {
    for family in FAMILIES {
        let expected = golden_json(&format!("tiny/{family}/text.json"));
        let prompts = sequences(&expected["sequences"]);
        let network = network(family);
        let adapted = Draw::of(adapter(family, &network));
        for (draw, key) in [(Draw::base(), "base_greedy"), (adapted, "adapted_greedy")] {
            let decoding = Decoding::new(network.clone(), vec![draw]);
            for (prompt, stated) in prompts.iter().zip(sequences(&expected[key])) {
                let found = greedy(&decoding, prompt, stated.len());
                assert_eq!(found, stated, "{family}, {key}");
            }
        }
    }
}

#[test]
fn without_memory_of_the_layers_the_result_is_the_same() {
    let family = "qwen2";
    let prompt: Vec<u32> = (3..20).collect();
    let host = network(family);
    let draw = Draw::of(adapter(family, &host));
    let plain = Network::plain(decoder(family), &Device::flex());
    let decodings = [host, plain].map(|network| Decoding::new(network, vec![draw.clone()]));
    let [host, plain] = decodings.map(|decoding| greedy(&decoding, &prompt, 10));
    assert_eq!(host, plain);
}

#[test]
fn dropout_masks_of_a_sequence_stay_as_it_grows() {
    let network = network("qwen2");
    let dropout = Dropout {
        rate: 0.3,
        seed: 1,
        step: 0,
        draw: 4,
    };
    let draw = Draw {
        adapter: adapter("qwen2", &network),
        dropout: Some(dropout),
    };
    let decoding = Decoding::new(network.clone(), vec![draw.clone()]);
    let (mut read, _) = decoding.read(&[Prompt {
        draw: 0,
        tokens: &[5, 6, 7],
    }]);
    decoding.extend(vec![(&mut read[0], &[8])]);
    let found = decoding.extend(vec![(&mut read[0], &[9])]);
    let mut batch = Batch::default();
    let segment = batch.push(&[5, 6, 7, 8, 9], None, read[0].key);
    batch.ask_last(segment);
    let expected = network.all_logits(&network.hidden(&batch, &draw));
    agree(&found, &expected, "masks");
    let without = passes(&network, &Draw::of(draw.adapter), &[5, 6, 7, 8, 9], 5);
    let moved = found
        .iter()
        .zip(&without)
        .any(|(a, b)| (a - b).abs() > 1e-3);
    assert!(moved);
}

#[test]
fn adapters_with_magnitudes_and_on_the_tables_over_the_vocabulary_are_read_step_by_step() {
    let folder = crate::testing::workspace().join("testdata/golden/adapters");
    let mut count = 0;
    for case in std::fs::read_dir(folder).unwrap() {
        let case = case.unwrap().path();
        let Ok(text) = std::fs::read(case.join("expected.json")) else {
            continue;
        };
        let expected: Value = serde_json::from_slice(&text).unwrap();
        let network = network(expected["family"].as_str().unwrap());
        let Ok(read) = read_peft(&case, network.config(), network.device()) else {
            continue;
        };
        let draw = Draw::of(read.adapter);
        let all: Vec<u32> = (5..17).collect();
        let stated = passes(&network, &draw, &all, 8);
        let decoding = Decoding::new(network, vec![draw]);
        let prompt = Prompt {
            draw: 0,
            tokens: &all[..8],
        };
        let (mut read, mut found) = decoding.read(&[prompt]);
        for token in &all[8..] {
            found.extend(decoding.extend(vec![(&mut read[0], std::slice::from_ref(token))]));
        }
        agree(&found, &stated, &case.display().to_string());
        count += 1;
    }
    assert!(count >= 4);
}

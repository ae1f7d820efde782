//! The forms of the pass against each other: dropout, windows, threads, and a base in blocks.

use super::*;
use crate::model::{Compute, FrozenMatrix, Projection};
use crate::testing::golden;

/// Layers of two kinds: the middle one has a window and another rotary base.
fn mixed() -> Decoder {
    let mut decoder = decoder("qwen3");
    let attention = decoder.config.layers[1].attention_mut().unwrap();
    attention.window = Some(3);
    attention.rope.as_mut().unwrap().theta = 50.0;
    decoder
}

#[test]
fn the_cpu_operation_agrees_with_plain_operations_on_every_layer_with_dropout_and_shared_prompts() {
    let expected = stated("qwen3", "expected");
    let mut forest = Batch::default();
    let root = forest.push(&[7, 8, 9], None, 1);
    for (key, answer) in [[11, 12].as_slice(), &[13], &[14, 15, 16], &[17]]
        .into_iter()
        .enumerate()
    {
        let segment = forest.push(answer, Some(root), key as u64 + 2);
        forest.ask_last(segment);
    }
    let dropout = Some(Dropout {
        rate: 0.2,
        seed: 1,
        step: 2,
        draw: 0,
    });
    for decoder in [decoder("qwen3"), decoder("qwen2"), mixed()] {
        let [host, recompute, plain] = networks_of(decoder).map(|network| {
            let adapter = everywhere(&network).train();
            gradients(
                &adapter,
                loss(&network, &forest, &adapter, dropout, &expected),
            )
        });
        assert_eq!(host.len(), 2 * 7 * 3);
        for ((host, recompute), plain) in host.iter().zip(&recompute).zip(&plain) {
            agree(&host.1, &plain.1, 1e-4, &plain.0);
            assert_eq!(host, recompute);
        }
    }
}

#[test]
fn a_row_of_zeros_stays_zero_at_any_magnitude() {
    let mut decoder = decoder("llama");
    let linear = decoder.layers[1].linear_mut(Projection::Q);
    let [rows, columns] = [linear.weight.rows(), linear.weight.columns()];
    let mut numbers = vec![0.0; rows * columns];
    for (row, out) in numbers.chunks_exact_mut(columns).enumerate().skip(1) {
        linear.weight.row(row, out);
    }
    linear.weight = FrozenMatrix::new(rows, columns, numbers);
    let expected = stated("llama", "expected");
    let batch = batch(&expected);
    let config = LoraConfig {
        use_dora: true,
        ..LoraConfig::default()
    };
    let [host, recompute, plain] = networks_of(decoder).map(|network| {
        let base = logits(&network, &batch, &Adapter::empty());
        // B is 0, so that the row of the adapted weight is 0 as well.
        let adapter = Adapter::new(&config, network.config(), 5, network.device()).unwrap();
        let adapter = adapter.with_magnitudes(|path| network.row_lengths(path), network.device());
        agree(&logits(&network, &batch, &adapter), &base, 1e-5, "zeros");
        let adapter = adapter.train();
        gradients(&adapter, loss(&network, &batch, &adapter, None, &expected))
    });
    for ((host, recompute), plain) in host.iter().zip(&recompute).zip(&plain) {
        agree(&host.1, &plain.1, 1e-4, &plain.0);
        assert_eq!(host, recompute);
    }
}

#[test]
fn a_sliding_window_hides_what_lies_behind_it() {
    let mut narrow = decoder("mistral");
    for layer in &mut narrow.config.layers {
        layer.attention_mut().unwrap().window = Some(4);
    }
    let expected = stated("mistral", "expected");
    let batch = batch(&expected);
    let [host, plain] = [
        Network::new(narrow.clone(), &Device::flex(), false),
        Network::plain(narrow, &Device::flex()),
    ];
    let none = Adapter::empty();
    let found = logits(&host, &batch, &none);
    agree(&found, &logits(&plain, &batch, &none), 1e-4, "mistral");
    // The longest sequence has 17 tokens: with three layers of window 4 its last token sees
    // only the last ten.
    let wide = numbers(&expected["base_logits"]);
    assert!(found.iter().zip(&wide).any(|(a, b)| (a - b).abs() > 1e-3));
}

#[test]
fn logits_do_not_depend_on_the_number_of_threads() {
    let [network, ..] = networks("llama");
    let expected = stated("llama", "expected");
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let adapter = everywhere(&network).train();
            gradients(
                &adapter,
                loss(&network, &batch(&expected), &adapter, None, &expected),
            )
        })
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn logits_of_a_base_rounded_to_blocks_are_near_those_of_f32() {
    let folder = golden().join("tiny/llama");
    let checkpoint = Checkpoint::open(folder.to_str().unwrap()).unwrap();
    // Its gated layer has 48 inputs.
    let refused = Decoder::load(&checkpoint, BasePrecision::Q8_0).unwrap_err();
    let message = refused.to_string();
    assert!(
        message.starts_with("tensor `model.layers.0.mlp.down_proj.weight` has rows of 48 "),
        "{message}"
    );
    let (wide, mut rounded, mut count) = (decoder("llama"), decoder("llama"), 0);
    let mut unpacked = decoder("llama");
    let layers = rounded.layers.iter_mut().zip(&mut unpacked.layers);
    for (index, (layer, unpacked)) in layers.enumerate() {
        for shape in wide.config.layers[index].linears(wide.config.hidden_size) {
            let projection = shape.projection;
            let linear = layer.linear_mut(projection);
            let unpacked = unpacked.linear_mut(projection);
            let path = wide.config.linear_path(Some(index), projection);
            let name = path.tensor("weight");
            let shape = [linear.weight.rows(), linear.weight.columns()];
            let stored = checkpoint.tensor_of(&name, &shape).unwrap();
            if let Some(blocks) = FrozenMatrix::in_blocks(&stored) {
                let mut numbers = vec![0.0; shape[0] * shape[1]];
                for (row, out) in numbers.chunks_exact_mut(shape[1]).enumerate() {
                    blocks.row(row, out);
                }
                unpacked.weight = FrozenMatrix::new(shape[0], shape[1], numbers);
                linear.weight = blocks;
                count += 1;
            }
        }
    }
    assert_eq!(count, 18);
    let expected = stated("llama", "expected");
    let batch = batch(&expected);
    let of = |decoder: Decoder| {
        let network = Network::new(decoder, &Device::flex(), false);
        logits(&network, &batch, &Adapter::empty())
    };
    let found = of(rounded);
    agree(
        &found,
        &of(unpacked),
        1e-4,
        "the numbers of the blocks in f32",
    );
    // Half a 127th of the largest of 32 weights is 0.5 % of a weight; 18 layers add up.
    agree(&found, &of(wide), 0.1, "rounded to blocks");
}

#[test]
fn logits_and_gradients_in_integers_are_near_those_in_f32() {
    let expected = stated("llama", "expected");
    let (batch, exact) = (batch(&expected), decoder("llama"));
    let folder = golden().join("tiny/llama");
    let checkpoint = Checkpoint::open(folder.to_str().unwrap()).unwrap();
    let rounded = Decoder::load_for(&checkpoint, BasePrecision::F32, Compute::Int8).unwrap();
    let of = |decoder: Decoder| {
        let network = Network::new(decoder, &Device::flex(), false);
        let adapter = everywhere(&network).train();
        let found = loss(&network, &batch, &adapter, None, &expected);
        let logits = logits(&network, &batch, &Adapter::empty());
        (logits, gradients(&adapter, found))
    };
    let ((exact, exact_gradients), (rounded, rounded_gradients)) = (of(exact), of(rounded));
    assert!(exact != rounded);
    agree(&rounded, &exact, 0.3, "logits");
    for ((path, exact), (_, rounded)) in exact_gradients.iter().zip(&rounded_gradients) {
        let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f32>();
        let cosine = dot(exact, rounded) / (dot(exact, exact) * dot(rounded, rounded)).sqrt();
        assert!(cosine > 0.9, "{path}: {cosine}");
    }
}

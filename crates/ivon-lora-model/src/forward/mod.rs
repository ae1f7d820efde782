//! Frozen decoder + adapter + packed batch → hidden states at the requested tokens, and logits from
//! them.
//!
//! On the CPU the decoder runs as one operation on slices with a hand-written backward pass
//! (`cpu`); on other devices, and as the reference for tests, as plain Burn operations
//! (`plain`).

mod hidden;
mod observe;
mod rotary;
mod plain;
mod cpu;
mod network;

pub use hidden::Hidden;
pub use network::Network;
pub use observe::{Observation, Observer};
use rotary::RotaryTable;

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use burn::module::Module;
    use burn::optim::GradientsParams;
    use burn::tensor::activation::log_softmax;
    use burn::tensor::{Device, Int, Tensor, TensorData};
    use serde_json::Value;

    use super::*;
    use crate::data::Batch;
    use crate::lora::{Adapter, Draw, Dropout, LoraConfig, TargetModules, read_peft};
    use crate::model::{BasePrecision, Checkpoint, Decoder, FrozenMatrix};
    use crate::testing::{FAMILIES, golden, golden_json, workspace};

    fn decoder(family: &str) -> Decoder {
        let folder = golden().join("tiny").join(family);
        let checkpoint = Checkpoint::open(folder.to_str().unwrap()).unwrap();
        Decoder::load(&checkpoint, BasePrecision::F32).unwrap()
    }

    fn networks(family: &str) -> [Network; 3] {
        networks_of(decoder(family))
    }

    fn networks_of(decoder: Decoder) -> [Network; 3] {
        let device = Device::flex();
        [
            Network::new(decoder.clone(), &device, false),
            Network::new(decoder.clone(), &device, true),
            Network::plain(decoder, &device),
        ]
    }

    /// Layers of two kinds: the middle one has a window and another rotary base.
    fn mixed() -> Decoder {
        let mut decoder = decoder("qwen3");
        let attention = decoder.config.layers[1].attention_mut().unwrap();
        attention.window = Some(3);
        attention.rope.as_mut().unwrap().theta = 50.0;
        decoder
    }

    fn numbers(value: &Value) -> Vec<f32> {
        match value {
            Value::Array(items) => items.iter().flat_map(numbers).collect(),
            other => vec![other.as_f64().unwrap() as f32],
        }
    }

    fn batch(expected: &Value) -> Batch {
        let mut batch = Batch::default();
        for (key, sequence) in expected["sequences"].as_array().unwrap().iter().enumerate() {
            let tokens: Vec<u32> = sequence
                .as_array()
                .unwrap()
                .iter()
                .map(|token| token.as_u64().unwrap() as u32)
                .collect();
            let segment = batch.push(&tokens, None, key as u64);
            batch.ask_last(segment);
        }
        batch
    }

    /// |a − b| ≤ tolerance · max|expected|.
    #[track_caller]
    fn agree(found: &[f32], expected: &[f32], tolerance: f32, what: &str) {
        let largest = expected
            .iter()
            .fold(0.0f32, |largest, x| largest.max(x.abs()));
        let worst = found
            .iter()
            .zip(expected)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        assert!(
            found.len() == expected.len() && worst <= tolerance * largest,
            "{what}: off by {worst} of {largest}"
        );
    }

    fn vocabulary(network: &Network) -> Vec<u32> {
        (0..network.config().vocab_size as u32).collect()
    }

    fn logits(network: &Network, batch: &Batch, adapter: &Adapter) -> Vec<f32> {
        let hidden = network.hidden(batch, &Draw::of(adapter.clone()));
        network
            .logits_of(hidden.states, &vocabulary(network))
            .into_data()
            .try_to_vec()
            .unwrap()
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
        let expected = golden_json("tiny/llama/expected.json");
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
    fn logits_of_every_family_agree_with_transformers_and_peft() {
        for family in FAMILIES {
            let expected = golden_json(&format!("tiny/{family}/expected.json"));
            let batch = batch(&expected);
            for network in networks(family) {
                let none = Adapter::empty();
                agree(
                    &logits(&network, &batch, &none),
                    &numbers(&expected["base_logits"]),
                    1e-4,
                    family,
                );
                let folder = golden().join("tiny").join(family).join("adapter");
                let peft = read_peft(&folder, network.config(), network.device()).unwrap();
                let adapted = logits(&network, &batch, &peft.adapter);
                agree(
                    &adapted,
                    &numbers(&expected["adapted_logits"]),
                    1e-4,
                    family,
                );
            }
        }
    }

    /// Mean cross-entropy over the choice logits of the golden file.
    fn loss(
        network: &Network,
        batch: &Batch,
        adapter: &Adapter,
        dropout: Option<Dropout>,
        expected: &Value,
    ) -> Tensor<1> {
        let choices: Vec<u32> = numbers(&expected["choice_ids"])
            .iter()
            .map(|&id| id as u32)
            .collect();
        let labels: Vec<i64> = numbers(&expected["labels"])
            .iter()
            .map(|&label| label as i64)
            .collect();
        let draw = Draw {
            adapter: adapter.clone(),
            dropout,
        };
        let logits = network.logits_of(network.hidden(batch, &draw).states, &choices);
        let labels = Tensor::<2, Int>::from_data(
            TensorData::new(labels.clone(), [labels.len(), 1]),
            &logits.device(),
        );
        log_softmax(logits, 1).gather(1, labels).mean().neg()
    }

    fn gradients(adapter: &Adapter, loss: Tensor<1>) -> Vec<(String, Vec<f32>)> {
        let mut gradients = GradientsParams::from_grads(loss.backward(), adapter);
        let of = |(path, parameter): (String, &burn::module::Param<Tensor<2>>)| {
            let gradient = gradients
                .remove::<2>(parameter.id)
                .unwrap_or_else(|| panic!("{path} has no gradient"));
            (path, gradient.into_data().try_to_vec().unwrap())
        };
        adapter.parameters().map(of).collect()
    }

    #[test]
    fn gradients_of_every_family_agree_with_pytorch() {
        for family in FAMILIES {
            let expected = golden_json(&format!("tiny/{family}/expected.json"));
            for network in networks(family) {
                let folder = golden().join("tiny").join(family).join("adapter");
                let peft = read_peft(&folder, network.config(), network.device()).unwrap();
                let adapter = peft.adapter.train();
                let loss = loss(&network, &batch(&expected), &adapter, None, &expected);
                agree(
                    &loss.clone().into_data().try_to_vec::<f32>().unwrap(),
                    &numbers(&expected["loss"]),
                    1e-4,
                    family,
                );
                for (path, gradient) in gradients(&adapter, loss) {
                    let name = format!("base_model.model.model.{path}.default.weight");
                    agree(
                        &gradient,
                        &numbers(&expected["gradients"][&name]),
                        1e-4,
                        &name,
                    );
                }
            }
        }
    }

    /// The log-probability of every token after the first of one sequence, `[T − 1]`.
    fn log_probabilities(network: &Network, adapter: &Adapter, tokens: &[u32]) -> Tensor<1> {
        let mut batch = Batch::default();
        batch.push(tokens, None, 0);
        batch.asked = (0..tokens.len() - 1).collect();
        let hidden = network.hidden(&batch, &Draw::of(adapter.clone()));
        let logits = network.logits_of(hidden.states, &vocabulary(network));
        let next = tokens[1..].iter().map(|&token| i64::from(token));
        let next = TensorData::new(next.collect::<Vec<_>>(), [tokens.len() - 1, 1]);
        let next = Tensor::<2, Int>::from_data(next, &logits.device());
        log_softmax(logits, 1).gather(1, next).squeeze_dim::<1>(1)
    }

    /// Logits, loss and gradients with the adapter of testdata/golden/adapters.
    fn agrees_with_peft(case: &str) {
        let folder = workspace().join("testdata/golden");
        let json = |path: PathBuf| -> Value {
            serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
        };
        let expected = json(folder.join("adapters").join(case).join("expected.json"));
        let family = expected["family"].as_str().unwrap();
        let base = folder.join("tiny").join(family);
        let of_family = json(base.join("expected.json"));
        let decoder = || {
            let checkpoint = Checkpoint::open(base.to_str().unwrap()).unwrap();
            Decoder::load(&checkpoint, BasePrecision::F32).unwrap()
        };
        for network in networks_of(decoder()) {
            let folder = folder.join("adapters").join(case);
            let peft = read_peft(&folder, network.config(), network.device()).unwrap();
            let adapter = peft.adapter.train();
            let batch = batch(&of_family);
            let adapted = logits(&network, &batch, &adapter.valid());
            agree(&adapted, &numbers(&expected["adapted_logits"]), 1e-4, case);
            let loss = loss(&network, &batch, &adapter, None, &of_family);
            let value: Vec<f32> = loss.clone().into_data().try_to_vec().unwrap();
            agree(&value, &numbers(&expected["loss"]), 1e-4, case);
            for (path, gradient) in gradients(&adapter, loss) {
                let name = format!("base_model.model.model.{path}.default.weight");
                let truth = numbers(&expected["gradients"][&name]);
                agree(&gradient, &truth, 1e-4, &name);
            }
        }
    }

    #[test]
    fn ranks_and_alphas_by_layer_are_those_of_peft() {
        agrees_with_peft("patterns");
        agrees_with_peft("patterns-rslora");
    }

    #[test]
    fn a_sequence_beyond_every_window_chunk_and_original_context_agrees_with_transformers() {
        for family in FAMILIES {
            let expected = golden_json(&format!("tiny/{family}/long.json"));
            // The golden gradients of the delta nets, in f32, are themselves up to 0.98e-4 off those
            // of transformers in f64.
            let tolerance = if family == "qwen3_5" { 2e-4 } else { 1e-4 };
            let tokens = numbers(&expected["sequence"]);
            let tokens: Vec<u32> = tokens.into_iter().map(|token| token as u32).collect();
            for (form, network) in networks(family).into_iter().enumerate() {
                let folder = golden().join("tiny").join(family).join("adapter");
                let peft = read_peft(&folder, network.config(), network.device()).unwrap();
                let adapter = peft.adapter.train();
                let found = log_probabilities(&network, &adapter, &tokens);
                let values = found.clone().into_data().try_to_vec::<f32>().unwrap();
                let stated = numbers(&expected["adapted_log_probabilities"]);
                agree(&values, &stated, 1e-4, family);
                for (path, gradient) in gradients(&adapter, found.mean().neg()) {
                    let name = format!("base_model.model.model.{path}.default.weight");
                    let stated = numbers(&expected["gradients"][&name]);
                    agree(
                        &gradient,
                        &stated,
                        tolerance,
                        &format!("{form} {family} {name}"),
                    );
                }
            }
        }
    }

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
                let logits = network.logits_of(hidden.states, &[3, 7]);
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

    /// An adapter on every linear layer with nonzero B.
    fn everywhere(network: &Network) -> Adapter {
        let config = LoraConfig {
            target_modules: TargetModules::Pattern("all-linear".into()),
            rank: 3,
            ..LoraConfig::default()
        };
        let adapter = Adapter::new(&config, network.config(), 5, network.device()).unwrap();
        adapter.clone_with(|path, tensor| {
            let [rows, columns] = tensor.dims();
            let count = rows * columns;
            let wave = (0..count)
                .map(|i| ((i as f32 + path.len() as f32) * 0.37).sin() * 0.1)
                .collect::<Vec<_>>();
            Tensor::from_data(TensorData::new(wave, [rows, columns]), &tensor.device())
        })
    }

    #[test]
    fn the_cpu_operation_agrees_with_plain_operations_on_every_layer_with_dropout_and_shared_prompts()
     {
        let expected = golden_json("tiny/qwen3/expected.json");
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
    fn a_sliding_window_hides_what_lies_behind_it() {
        let mut narrow = decoder("mistral");
        for layer in &mut narrow.config.layers {
            layer.attention_mut().unwrap().window = Some(4);
        }
        let expected = golden_json("tiny/mistral/expected.json");
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
        let expected = golden_json(&format!("tiny/{family}/expected.json"));
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

    #[test]
    fn logits_do_not_depend_on_the_number_of_threads() {
        let [network, ..] = networks("llama");
        let expected = golden_json("tiny/llama/expected.json");
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
    fn both_schemas_of_config_json_describe_the_same_decoder() {
        for family in ["llama", "llama3-rope", "mistral", "qwen2", "qwen3"] {
            let folder = golden().join("tiny").join(family);
            let older = tempfile::tempdir().unwrap();
            std::fs::copy(
                folder.join("config.transformers4.json"),
                older.path().join("config.json"),
            )
            .unwrap();
            std::fs::copy(
                folder.join("model.safetensors"),
                older.path().join("model.safetensors"),
            )
            .unwrap();
            let open = |path: &Path| {
                Checkpoint::open(path.to_str().unwrap())
                    .unwrap()
                    .config()
                    .clone()
            };
            assert_eq!(open(&folder), open(older.path()));
        }
    }
}

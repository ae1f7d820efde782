//! The real model against transformers, PEFT and ivon-opt: `testdata/golden/smollm2_*.json`.

use std::collections::HashMap;
use std::sync::OnceLock;

use burn::module::{Module, Param};
use burn::optim::GradientsParams;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use ivon::{Ivon, IvonConfig, IvonError};
use ivon_lora::data::{Batch, Encoded, Target, TextTarget};
use ivon_lora::forward::Network;
use ivon_lora::lora::{Adapter, Draw, LoraConfig};
use ivon_lora::method::{AdamwConfig, Method, Setup};
use ivon_lora::model::{BasePrecision, Checkpoint, Decoder};
use ivon_lora::predict::Texts;
use ivon_lora::testing::{golden_json, golden_normals, real_model};
use ivon_lora::train::{Evidence, Objective, TrainError};
use serde_json::Value;

const SCALING: f64 = 2.0;

/// The model, loaded once for all tests of this file; `None` where it is not on this machine.
fn network() -> Option<&'static Network> {
    static NETWORK: OnceLock<Option<Network>> = OnceLock::new();
    let load = || {
        let path = real_model("smollm2")?;
        let checkpoint = Checkpoint::open(path.to_str().unwrap()).unwrap();
        Some(Network::new(
            Decoder::load(&checkpoint, BasePrecision::F32).unwrap(),
            &Device::flex(),
            false,
        ))
    };
    NETWORK.get_or_init(load).as_ref()
}

fn numbers(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|number| number.as_f64().unwrap())
        .collect()
}

fn tokens(value: &Value) -> Vec<u32> {
    numbers(value)
        .into_iter()
        .map(|number| number as u32)
        .collect()
}

/// |a − b| ≤ 1e-3 · max|expected| + 1e-6.
#[track_caller]
fn agree(found: &[f64], expected: &[f64], what: &str) {
    let largest = expected
        .iter()
        .fold(0.0f64, |largest, x| largest.max(x.abs()));
    let worst = found
        .iter()
        .zip(expected)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f64::max);
    assert!(
        found.len() == expected.len() && worst <= 1e-3 * largest + 1e-6,
        "{what}: off by {worst} of {largest}"
    );
}

fn pack(sequences: &[Vec<u32>]) -> Batch {
    let mut batch = Batch::default();
    for (key, tokens) in sequences.iter().enumerate() {
        let segment = batch.push(tokens, None, key as u64);
        batch.ask_last(segment);
    }
    batch
}

fn read<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor
        .into_data()
        .try_to_vec::<f32>()
        .unwrap()
        .into_iter()
        .map(f64::from)
        .collect()
}

#[test]
fn last_logits_of_the_real_model_agree_with_transformers() {
    let Some(network) = network() else { return };
    for case in golden_json("smollm2_logits.json")["cases"]
        .as_array()
        .unwrap()
    {
        let batch = pack(&[tokens(&case["ids"])]);
        let hidden = network.hidden(&batch, &Draw::base());
        let logits = read(network.logits_of(
            &hidden,
            &(0..network.config().vocab_size as u32).collect::<Vec<_>>(),
        ));
        let largest = logits.iter().copied().fold(f64::MIN, f64::max);
        let logsumexp = largest
            + logits
                .iter()
                .map(|logit| (logit - largest).exp())
                .sum::<f64>()
                .ln();
        agree(
            &[logsumexp],
            &[case["logsumexp"].as_f64().unwrap()],
            "logsumexp",
        );
        let at = |ids: &Value| {
            tokens(ids)
                .into_iter()
                .map(|id| logits[id as usize])
                .collect::<Vec<f64>>()
        };
        agree(
            &at(&case["top_ids"]),
            &numbers(&case["top_logits"]),
            "top logits",
        );
        agree(
            &at(&case["choice_ids"]),
            &numbers(&case["choice_logits"]),
            "choice logits",
        );
    }
}

#[test]
fn log_probabilities_of_chats_agree_with_transformers() {
    let Some(network) = network() else { return };
    let golden = golden_json("smollm2_text.json");
    for case in golden["cases"].as_array().unwrap() {
        let text = Encoded {
            id: "chat".into(),
            key: 1,
            tokens: tokens(&case["ids"]),
            target: Target::Text(TextTarget {
                weights: vec![1.0; tokens(&case["ids"]).len()],
                bytes: 1,
                document: 1,
            }),
        };
        let texts = Texts::pack([&text]);
        let hidden = network.hidden(&texts.batch, &Draw::base());
        let found = read(texts.log_probabilities(network, &hidden));
        agree(&found, &numbers(&case["log_probabilities"]), "a chat");
        let next = network.next_tokens(&[hidden], &texts.targets);
        let next: Vec<f64> = next
            .iter()
            .map(|token| f64::from(token.log_probability))
            .collect();
        agree(&next, &found, "the distribution of the next token");
    }
}

#[test]
fn a_base_kept_in_its_blocks_gives_the_logits_of_the_widened_one() {
    let (Some(network), Some(path)) = (network(), real_model("smollm2")) else {
        return;
    };
    let checkpoint = Checkpoint::open(path.to_str().unwrap()).unwrap();
    let kept = Network::new(
        Decoder::load(&checkpoint, BasePrecision::AsIs).unwrap(),
        &Device::flex(),
        false,
    );
    let case = &golden_json("smollm2_logits.json")["cases"][0];
    let batch = pack(&[tokens(&case["ids"])]);
    let all: Vec<u32> = (0..network.config().vocab_size as u32).collect();
    let [wide, kept] = [network, &kept].map(|network| {
        let hidden = network.hidden(&batch, &Draw::base());
        read(network.logits_of(&hidden, &all))
    });
    agree(&kept, &wide, "kept blocks");
}

/// The name of a parameter in the golden file.
fn golden_name(path: &str) -> String {
    format!("base_model.model.model.{path}.default.weight")
}

/// The golden fine-tuning run: its examples, choices and start.
struct Golden {
    file: Value,
    network: &'static Network,
}

impl Golden {
    fn start(&self) -> Adapter {
        let config = LoraConfig::default();
        let adapter = Adapter::new(
            &config,
            self.network.config(),
            0,
            &Device::flex().autodiff(),
        )
        .unwrap()
        .with_scaling(SCALING);
        let seed = self.file["init_seed"].as_u64().unwrap();
        let order: Vec<&str> = self.file["parameter_order"]
            .as_array()
            .unwrap()
            .iter()
            .map(|name| name.as_str().unwrap())
            .collect();
        adapter.clone_with(|path, tensor| {
            if path.ends_with("lora_B") {
                return tensor;
            }
            let place = order
                .iter()
                .position(|name| *name == golden_name(path))
                .unwrap();
            let shape = tensor.dims();
            let values: Vec<f32> = golden_normals(seed + place as u64, shape[0] * shape[1])
                .iter()
                .map(|z| (z * 0.02) as f32)
                .collect();
            Tensor::from_data(TensorData::new(values, shape), &Device::flex())
        })
    }

    fn sequences(&self) -> Vec<Vec<u32>> {
        self.file["examples"]
            .as_array()
            .unwrap()
            .iter()
            .map(|example| tokens(&example["ids"]))
            .collect()
    }

    fn choice_logits(&self, adapter: &Adapter, examples: &[usize]) -> Tensor<2> {
        let all = self.sequences();
        let batch = pack(
            &examples
                .iter()
                .map(|&index| all[index].clone())
                .collect::<Vec<_>>(),
        );
        let hidden = self.network.hidden(&batch, &Draw::of(adapter.clone()));
        self.network
            .logits_of(&hidden, &tokens(&self.file["choice_ids"]))
    }

    fn loss(&self, adapter: &Adapter, step: usize) -> Tensor<1> {
        let examples: Vec<usize> = (0..4).map(|j| (step * 4 + j) % 8).collect();
        let labels: Vec<i64> = examples
            .iter()
            .map(|&index| self.file["examples"][index]["label"].as_i64().unwrap())
            .collect();
        let labels = Tensor::<2, Int>::from_data(TensorData::new(labels, [4, 1]), &Device::flex());
        log_softmax(self.choice_logits(adapter, &examples), 1)
            .gather(1, labels)
            .mean()
            .neg()
    }

    fn check_first_gradients(&self, run: &Value, adapter: &Adapter, gradients: &GradientsParams) {
        for (path, parameter) in adapter.parameters() {
            let gradient = read(gradients.get::<2>(parameter.id).unwrap());
            let norm = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
            let expected = run["first_step_gradient_norms"][golden_name(&path)]
                .as_f64()
                .unwrap();
            agree(&[norm], &[expected], &path);
        }
    }

    fn check_end(&self, run: &Value, adapter: &Adapter, losses: &[f64]) {
        agree(losses, &numbers(&run["losses"]), "losses");
        let found = read(self.choice_logits(&adapter.valid(), &(0..8).collect::<Vec<_>>()));
        let expected: Vec<f64> = run["final_choice_logits"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(numbers)
            .collect();
        agree(&found, &expected, "final choice logits");
    }
}

fn golden() -> Option<Golden> {
    network().map(|network| Golden {
        file: golden_json("smollm2_finetune.json"),
        network,
    })
}

/// The objective of one golden step.
struct Step<'a> {
    golden: &'a Golden,
    step: usize,
}

impl Objective for Step<'_> {
    fn micro_batches(&self) -> usize {
        1
    }

    fn share(&self, _: usize) -> f64 {
        1.0
    }

    fn tokens(&self) -> usize {
        0
    }

    fn evaluate(&mut self, adapter: &Adapter, _: usize, _: u64) -> Result<Evidence, TrainError> {
        let loss = self.golden.loss(adapter, self.step);
        let value = read(loss.clone())[0];
        let gradients = GradientsParams::from_grads(loss.backward(), adapter);
        if self.step == 0 {
            self.golden
                .check_first_gradients(&self.golden.file["runs"][0], adapter, &gradients);
        }
        Ok(Evidence {
            loss: value,
            gradients,
        })
    }
}

#[test]
fn twelve_steps_of_adamw_agree_with_pytorch() {
    let Some(golden) = golden() else { return };
    let run = &golden.file["runs"][0];
    let rate = run["hyperparameters"]["lr"].as_f64().unwrap();
    let method = Method::Adamw(AdamwConfig {
        learning_rate: rate,
        weight_decay: 0.0,
        ..AdamwConfig::default()
    });
    let setup = Setup {
        seed: 0,
        steps: 12,
        steps_per_epoch: 12,
        batch_size: 4,
        accumulation: 1,
        examples: 1,
        dropout: 0.0,
        weight_of_squares: 1.0,
    };
    let mut optimizer = method.settings().start(golden.start(), &setup).unwrap();
    let losses: Vec<f64> = (0..12)
        .map(|step| {
            optimizer
                .step(
                    rate * (1.0 - step as f64 / 12.0),
                    &mut Step {
                        golden: &golden,
                        step,
                    },
                )
                .unwrap()
                .loss
        })
        .collect();
    golden.check_end(run, optimizer.adapter(), &losses);
}

#[test]
fn twelve_steps_of_ivon_agree_with_ivon_opt() {
    let Some(golden) = golden() else { return };
    let run = &golden.file["runs"][1];
    let number = |key: &str| run["hyperparameters"][key].as_f64().unwrap();
    let config = IvonConfig {
        hessian_init: number("hess_init"),
        weight_decay: number("weight_decay"),
        beta2: number("beta2"),
        clip_radius: Some(number("clip_radius")),
        rescale_learning_rate: false,
        ..IvonConfig::new(number("ess"))
    };
    let mut optimizer = Ivon::new(config, golden.start().train()).unwrap();
    let seed = golden.file["noise_seed"].as_u64().unwrap();
    let lengths: HashMap<String, usize> = golden
        .start()
        .parameters()
        .map(|(path, p): (_, &Param<Tensor<2>>)| {
            (golden_name(&path), p.lazy_shape().num_elements())
        })
        .collect();
    // The noise of a step is laid over the parameters in the golden file's order.
    let mut starts = HashMap::new();
    let mut total = 0;
    for name in golden.file["parameter_order"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap())
    {
        starts.insert(name.to_string(), total);
        total += lengths[name];
    }
    let mut losses = Vec::new();
    for step in 0..12 {
        let noise = golden_normals(seed + step as u64, total);
        let supply = |path: &str, shape: &[usize]| {
            noise[starts[&golden_name(path)]..][..shape.iter().product()].to_vec()
        };
        let draw = optimizer.draw_from(supply).unwrap();
        let loss = golden.loss(draw.module(), step);
        losses.push(read(loss.clone())[0]);
        let gradients = GradientsParams::from_grads(loss.clone().backward(), draw.module());
        optimizer.observe(draw, loss, gradients).unwrap();
        optimizer
            .apply(number("lr") * (1.0 - step as f64 / 12.0))
            .map_err(|error: IvonError| error.to_string())
            .unwrap();
    }
    golden.check_end(run, optimizer.mean(), &losses);
}

#[test]
fn the_tokenizer_of_a_gguf_file_survives_as_files_of_a_folder() {
    let Some(path) = real_model("smollm2") else {
        return;
    };
    let tokenizer = Checkpoint::open(path.to_str().unwrap())
        .unwrap()
        .tokenizer()
        .unwrap();
    let files = tokenizer.to_files().unwrap();
    assert_eq!(
        files
            .iter()
            .map(|(name, _)| name.as_str())
            .collect::<Vec<_>>(),
        ["tokenizer.json", "tokenizer_config.json"]
    );
    let again =
        ivon_lora::data::Tokenizer::new(tokenizers::Tokenizer::from_bytes(&files[0].1).unwrap());
    for case in golden_json("smollm2_tokens.json")["cases"]
        .as_array()
        .unwrap()
    {
        let text = case["text"].as_str().unwrap();
        assert_eq!(
            again.encode(text, true).unwrap(),
            tokenizer.encode(text, true).unwrap(),
            "{text}"
        );
    }
    assert!(tokenizer.special_ids().contains_key("eos_token_id"));
}

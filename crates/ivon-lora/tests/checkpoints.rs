//! Checkpoints whose files disagree, and settings that stand twice, against transformers:
//! `testdata/checkpoints/expected.json`.
//!
//! Each case is a golden tiny model with changes; testdata/checkpoints/generate.py makes the same
//! changes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use ivon_lora::data::Batch;
use ivon_lora::forward::Network;
use ivon_lora::lora::Draw;
use ivon_lora::model::{BasePrecision, Checkpoint, Decoder, DecoderConfig};
use serde_json::{Map, Value, json};

const HEAD: &str = "lm_head.weight";

/// The project's own test data: the answers belong to these weights and no others.
fn testdata() -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata")).to_path_buf()
}

fn expected() -> Value {
    serde_json::from_slice(&std::fs::read(testdata().join("checkpoints/expected.json")).unwrap())
        .unwrap()
}

/// A golden tiny model.
fn tiny(case: &Value) -> PathBuf {
    testdata()
        .join("golden/tiny")
        .join(case["family"].as_str().unwrap())
}

/// Shape, dtype and bytes by name.
type Tensors = BTreeMap<String, (Value, String, Vec<u8>)>;

fn read(path: &Path) -> Tensors {
    let bytes = std::fs::read(path).unwrap();
    let start = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Map<String, Value> = serde_json::from_slice(&bytes[8..start]).unwrap();
    let tensor = |(name, entry): (String, Value)| {
        let at = |index: usize| start + entry["data_offsets"][index].as_u64().unwrap() as usize;
        let data = bytes[at(0)..at(1)].to_vec();
        (
            name,
            (
                entry["shape"].clone(),
                entry["dtype"].as_str().unwrap().to_string(),
                data,
            ),
        )
    };
    header
        .into_iter()
        .filter(|(name, _)| name != "__metadata__")
        .map(tensor)
        .collect()
}

fn write(path: &Path, tensors: &Tensors) {
    let (mut header, mut data) = (Map::new(), Vec::new());
    for (name, (shape, dtype, bytes)) in tensors {
        let offsets = [data.len(), data.len() + bytes.len()];
        header.insert(
            name.clone(),
            json!({ "dtype": dtype, "shape": shape, "data_offsets": offsets }),
        );
        data.extend(bytes);
    }
    let header = Value::Object(header).to_string();
    std::fs::write(
        path,
        [
            &(header.len() as u64).to_le_bytes()[..],
            header.as_bytes(),
            &data,
        ]
        .concat(),
    )
    .unwrap();
}

/// The same numbers with the other sign.
fn negated(bytes: &[u8]) -> Vec<u8> {
    bytes
        .chunks_exact(4)
        .flat_map(|number| (-f32::from_le_bytes(number.try_into().unwrap())).to_le_bytes())
        .collect()
}

/// The `config.json` of a family with keys set and removed.
fn config(case: &Value) -> Value {
    let mut config: Value =
        serde_json::from_slice(&std::fs::read(tiny(case).join("config.json")).unwrap()).unwrap();
    let keys = config.as_object_mut().unwrap();
    keys.extend(case["set"].as_object().unwrap().clone());
    for key in case["removed"].as_array().unwrap() {
        keys.remove(key.as_str().unwrap());
    }
    config
}

/// The folder of a case.
fn folder(case: &Value) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("config.json"), config(case).to_string()).unwrap();
    let mut tensors = read(&tiny(case).join("model.safetensors"));
    let (mut file, mut index, mut old) = ("model.safetensors".to_string(), None, None);
    for step in case["steps"].as_array().unwrap() {
        let word = |index: usize| step[index].as_str().unwrap_or_default().to_string();
        match word(0).as_str() {
            "drop" => drop(tensors.remove(&word(1))),
            "copy" => drop(tensors.insert(word(2), tensors[&word(1)].clone())),
            "negate" => {
                let (shape, dtype, bytes) = tensors[&word(1)].clone();
                tensors.insert(word(2), (shape, dtype, negated(&bytes)));
            }
            "prefix" => {
                let renamed = |name: String| {
                    format!(
                        "{}{}",
                        word(2),
                        name.strip_prefix(&word(1)).unwrap_or(&name)
                    )
                };
                tensors = std::mem::take(&mut tensors)
                    .into_iter()
                    .map(|(name, tensor)| (renamed(name), tensor))
                    .collect();
            }
            "integers" => {
                let count = step[2].as_u64().unwrap();
                tensors.insert(
                    word(1),
                    (
                        json!([count]),
                        "I64".into(),
                        (0..count).flat_map(u64::to_le_bytes).collect(),
                    ),
                );
            }
            "file" => file = word(1),
            "index" => index = Some(word(1)),
            "old" => old = Some(word(1)),
            other => panic!("{other}"),
        }
    }
    write(&path(&file), &tensors);
    if let Some(old) = old {
        let of_old = |(name, (shape, dtype, bytes)): (&String, &(Value, String, Vec<u8>))| {
            (name.clone(), (shape.clone(), dtype.clone(), negated(bytes)))
        };
        write(&path(&old), &tensors.iter().map(of_old).collect());
    }
    if let Some(index) = index {
        let map: Map<String, Value> = tensors
            .keys()
            .map(|name| (name.clone(), json!(index)))
            .collect();
        std::fs::write(
            path("model.safetensors.index.json"),
            json!({ "metadata": {}, "weight_map": map }).to_string(),
        )
        .unwrap();
    }
    folder
}

fn numbers(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|number| number.as_f64().unwrap())
        .collect()
}

/// The logits at the last token, each so-many-th.
fn logits(checkpoint: &Checkpoint, expected: &Value) -> Vec<f64> {
    let network = Network::new(
        Decoder::load(checkpoint, BasePrecision::F32).unwrap(),
        &Device::flex(),
        false,
    );
    let tokens: Vec<u32> = numbers(&expected["tokens"])
        .into_iter()
        .map(|token| token as u32)
        .collect();
    let mut batch = Batch::default();
    let segment = batch.push(&tokens, None, 0);
    batch.ask_last(segment);
    let hidden = network.hidden(&batch, &Draw::base());
    let vocabulary: Vec<u32> = (0..network.config().vocab_size as u32)
        .step_by(expected["every"].as_u64().unwrap() as usize)
        .collect();
    network
        .logits_of(&hidden, &vocabulary)
        .into_data()
        .try_to_vec::<f32>()
        .unwrap()
        .into_iter()
        .map(f64::from)
        .collect()
}

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
        found.len() == expected.len() && worst <= 1e-4 * largest,
        "{what}: off by {worst} of {largest}"
    );
}

fn open(folder: &Path) -> Checkpoint {
    Checkpoint::open(folder.to_str().unwrap()).unwrap()
}

/// What is said of each case, in the order of its notes; a case that is not here is passed over in
/// silence.
const SAID: [(&str, &[&str]); 14] = [
    (
        "tied, another head",
        &["another `lm_head.weight`: that one is used"],
    ),
    (
        "tied qwen2, another head",
        &["another `lm_head.weight`: that one is used"],
    ),
    (
        "a buffer of integers",
        &["`model.position_ids` (I64, shape [16])"],
    ),
    (
        "biases that a llama does not have",
        &["`model.layers.0.self_attn.q_proj.bias`"],
    ),
    (
        "more layers than the configuration says",
        &["has layers 2 to 2, which are not used: its configuration says 2 layers"],
    ),
    ("a classifier with tied tables", &["`score.weight`"]),
    (
        "an index beside one file",
        &["the weights are those of `model.safetensors`"],
    ),
    (
        "an index with its old files beside one file",
        &["the weights are those of `model.safetensors`"],
    ),
    (
        "both rotary settings",
        &["both `rope_scaling` and `rope_parameters`, which differ"],
    ),
    (
        "rotary base twice",
        &[
            "rope_theta in its rotary settings is 500000, rope_theta beside them is 1000000: the former is used",
        ],
    ),
    (
        "rotary kind twice",
        &["rope_type is default, type is linear: the former is used"],
    ),
    (
        "original length twice",
        &["original_max_position_embeddings is 64"],
    ),
    (
        "an unknown key",
        &["`final_logit_softcapping` of `config.json`"],
    ),
    ("plain", &[]),
];

#[test]
fn logits_of_files_that_disagree_are_those_of_transformers_and_notes_say_so() {
    let expected = expected();
    for case in expected["checkpoints"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let folder = folder(case);
        let checkpoint = open(folder.path());
        agree(
            &logits(&checkpoint, &expected),
            &numbers(&case["logits"]),
            name,
        );
        let said = SAID
            .iter()
            .find(|(known, _)| *known == name)
            .map_or(&[][..], |(_, said)| said);
        let notes = checkpoint.notes();
        assert_eq!(notes.len(), said.len(), "{name}: {notes:?}");
        for (note, part) in notes.iter().zip(said) {
            assert!(note.contains(part), "{name}: {note}");
        }
    }
}

#[test]
fn settings_are_those_that_transformers_reads() {
    for case in expected()["configs"].as_array().unwrap() {
        let (found, resolved) = (
            DecoderConfig::from_json(&config(case).to_string(), "config.json"),
            &case["resolved"],
        );
        let key_heads = resolved["num_key_value_heads"].as_u64().unwrap();
        if key_heads > config(case)["num_attention_heads"].as_u64().unwrap() {
            // The class of transformers takes its default and fails later; here the same number is
            // refused at once.
            let message = found.unwrap_err().to_string();
            assert!(
                message.starts_with(&format!(
                    "`num_key_value_heads` in `config.json` is `{key_heads}`, expected "
                )),
                "{message}"
            );
            continue;
        }
        let found =
            serde_json::to_value(found.unwrap_or_else(|error| panic!("{case}: {error}"))).unwrap();
        for (key, value) in resolved.as_object().unwrap() {
            let same = match (key.as_str(), found[key].as_f64(), value.as_f64()) {
                (_, Some(found), Some(value)) => found == value,
                ("rope_scaling", ..) => value.as_object().unwrap().iter().all(|(key, value)| {
                    let found = &found["rope_scaling"][key];
                    found == value || found.as_f64() == value.as_f64()
                }),
                _ => found[key] == *value,
            };
            assert!(
                same,
                "{key} is {} for {value} of {} {} without {}",
                found[key], case["family"], case["set"], case["removed"]
            );
        }
    }
}

#[test]
fn keys_without_effect_change_nothing_and_are_not_spoken_of() {
    let expected = expected();
    let case = |set: Value| json!({ "family": "llama", "set": set, "removed": [], "steps": [] });
    let plain = open(folder(&case(json!({}))).path()).config().clone();
    for (key, value) in expected["without_effect"].as_object().unwrap() {
        let folder = folder(&case(json!({ key: value })));
        let checkpoint = open(folder.path());
        assert_eq!(
            (checkpoint.config(), checkpoint.notes()),
            (&plain, &[][..]),
            "{key}"
        );
    }
}

#[test]
fn names_and_numbers_are_of_what_the_decoder_uses() {
    let expected = expected();
    let of = |name: &str| {
        expected["checkpoints"]
            .as_array()
            .unwrap()
            .iter()
            .find(|case| case["name"] == name)
            .unwrap()
    };
    let count = |name: &str| {
        let folder = folder(of(name));
        let checkpoint = open(folder.path());
        let names = checkpoint.names();
        (
            names.len(),
            names.iter().any(|name| name == HEAD),
            checkpoint.parameters(),
        )
    };
    let table = 96 * 32;
    let (tensors, _, parameters) = count("plain");
    assert_eq!(
        (tensors, parameters),
        (3 * 9 + 3, count("tied, another head").2)
    );
    assert_eq!(
        count("tied, the same head"),
        (tensors - 1, false, parameters - table)
    );
    assert_eq!(
        count("tied, the head alone"),
        (tensors - 1, false, parameters - table)
    );
    assert_eq!(count("a buffer of integers"), (tensors, true, parameters));
    assert_eq!(
        count("more layers than the configuration says").0,
        tensors - 9
    );
}

//! Files that are not what their names say, and files that disagree: an error with advice, or a
//! visible note.

use std::fs;

use serde_json::{Value, json};

use crate::helpers::Place;

const POINTER: &str =
    "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 269060552\n";
const CANNOT_FETCH: &str =
    "is a Git LFS pointer, expected the file of 269060552 bytes that it stands for";

/// Changes a JSON file.
fn change(place: &Place, name: &str, change: impl FnOnce(&mut Value)) {
    let mut value = place.json(name);
    change(&mut value);
    place.write(name, &value.to_string());
}

/// Replaces the header of a safetensors file and keeps the numbers.
fn change_header(place: &Place, name: &str, change: impl FnOnce(&mut Value)) {
    let bytes = fs::read(place.path(name)).unwrap();
    let start = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[8..start]).unwrap();
    change(&mut header);
    let header = header.to_string();
    let content = [
        &(header.len() as u64).to_le_bytes()[..],
        header.as_bytes(),
        &bytes[start..],
    ]
    .concat();
    fs::write(place.path(name), content).unwrap();
}

#[test]
fn a_git_lfs_pointer_is_named_wherever_it_lies() {
    let place = Place::new();
    place.train("").ok();
    let evaluate = "evaluate --model model --adapter run/adapter --data data";
    for file in [
        "model/model.safetensors",
        "model/tokenizer.json",
        "model/config.json",
        "run/adapter/adapter_model.safetensors",
        "run/adapter/adapter_config.json",
        "run/adapter/posterior.safetensors",
    ] {
        let content = fs::read(place.path(file)).unwrap();
        place.write(file, POINTER);
        place.run(evaluate).fails_with(
            4,
            &[
                file.rsplit('/').next().unwrap(),
                CANNOT_FETCH,
                "hint: fetch it with `git lfs pull`",
            ],
        );
        fs::write(place.path(file), content).unwrap();
    }
    place.write("model.gguf", POINTER);
    place
        .run("inspect model model.gguf")
        .fails_with(4, &["`model.gguf`", CANNOT_FETCH]);
    place.run(evaluate).ok();
}

#[test]
fn another_head_than_the_tied_one_is_used_and_said_and_stays_in_a_merged_model() {
    let place = Place::new();
    place.train("").ok();
    let answers = |model: &str, adapter: &str| {
        let ran = place.run(&format!("evaluate --model {model} --adapter {adapter} --data data --samples 0 --out out-{model} --threads 1"));
        let said = ran.stderr.clone();
        ran.ok();
        (
            place.json(&format!("out-{model}/evaluation.json"))["mean"]["nll"]
                .as_f64()
                .unwrap(),
            said,
        )
    };
    let (untied, said) = answers("model", "run/adapter");
    assert!(!said.contains("lm_head"), "{said}");
    place.add_model("tied", "llama");
    change(&place, "tied/config.json", |config| {
        config["tie_word_embeddings"] = json!(true)
    });
    let note = "another `lm_head.weight`: that one is used, as transformers does";
    let (tied, said) = answers("tied", "run/adapter");
    assert!(said.contains(note), "{said}");
    assert_eq!(tied, untied);
    assert!(place.run("inspect model tied").stderr.contains(note));
    let merged = place.run("merge --model tied --adapter run/adapter --out merged --precision f32");
    assert!(merged.stderr.contains(note), "{}", merged.stderr);
    merged.ok();
    assert_eq!(
        place.json("merged/config.json")["tie_word_embeddings"],
        false
    );
    let seen = place.run("inspect model merged --json").ok();
    assert_eq!(
        serde_json::from_str::<Value>(&seen).unwrap()["config"]["tie_word_embeddings"],
        false
    );
}

#[test]
fn the_folder_of_a_run_stands_for_its_adapter_and_other_folders_say_where_one_is() {
    let place = Place::new();
    place.train("").ok();
    let evaluate = |adapter: &str| {
        place.run(&format!(
            "evaluate --model model --adapter {adapter} --data data --samples 0"
        ))
    };
    let ran = evaluate("run");
    assert!(
        ran.stderr
            .contains("`run` is the folder of a run: its adapter, `run/adapter`, is used"),
        "{}",
        ran.stderr
    );
    assert_eq!(ran.ok(), evaluate("run/adapter").ok());
    fs::create_dir(place.path("above")).unwrap();
    fs::rename(place.path("run/adapter"), place.path("above/mine")).unwrap();
    let found = "error: `above` holds no adapter: found an adapter in a folder below it, expected `adapter_config.json`";
    for command in [
        "evaluate --model model --adapter above --data data",
        "merge --model model --adapter above --out merged",
        "train --model model --data data --task sst2 --out again --adapter above",
        "inspect adapter above",
    ] {
        place
            .run(command)
            .fails_with(4, &[found, "hint: name that folder: `above/mine`"]);
    }
    evaluate("above/mine/adapter_config.json").fails_with(
        4,
        &[
            "found a file",
            "hint: name the folder that it lies in: `above/mine`",
        ],
    );
    evaluate("model").fails_with(
        4,
        &["found a whole model", "hint: name a model with `--model`"],
    );
}

#[test]
fn adapters_of_other_programs_are_refused_as_what_they_are() {
    let place = Place::new();
    place.train("").ok();
    let evaluate = || place.run("evaluate --model model --adapter run/adapter --data data");
    let (weights, config) = (
        "run/adapter/adapter_model.safetensors",
        "run/adapter/adapter_config.json",
    );
    let (old_weights, old_config) = (fs::read(place.path(weights)).unwrap(), place.read(config));
    let a = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";

    change_header(&place, weights, |header| {
        let tensors = header.as_object_mut().unwrap();
        let entry = tensors.remove(a).unwrap();
        tensors.insert("base_model.model.score.weight".into(), entry);
    });
    evaluate().fails_with(
        4,
        &[
            "holds whole layers of the model beside A and B, which are not read: `score` [8, 32]",
            "hint: merge it into",
        ],
    );
    let seen = place.run("inspect adapter run/adapter").ok();
    assert!(
        seen.contains("the whole layer score (8 × 32: 256 weights)"),
        "{seen}"
    );
    fs::write(place.path(weights), &old_weights).unwrap();

    change_header(&place, weights, |header| {
        let tensors = header.as_object_mut().unwrap();
        let entry = tensors.remove(a).unwrap();
        tensors.insert("base_model.model.visual.proj.lora_A.weight".into(), entry);
    });
    evaluate().fails_with(
        4,
        &[
            "adapts `visual.proj`, expected linear layers of the decoder and its tables over the vocabulary",
            "hint: merge it into",
        ],
    );
    fs::write(place.path(weights), &old_weights).unwrap();

    place.write(
        config,
        r#"{"fine_tune_type": "lora", "lora_parameters": {"rank": 4, "scale": 20.0}}"#,
    );
    evaluate().fails_with(
        4,
        &[
            "is of an adapter of mlx-lm",
            "hint: beside it `adapters.safetensors`",
        ],
    );
    place.write(config, &old_config);

    change_header(&place, weights, |header| {
        for (name, entry) in header.as_object_mut().unwrap() {
            if name != "__metadata__" {
                *entry = json!({ "dtype": "F32", "shape": [0], "data_offsets": [0, 0] });
            }
        }
    });
    let bytes = fs::read(place.path(weights)).unwrap();
    let start = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    fs::write(place.path(weights), &bytes[..start]).unwrap();
    evaluate().fails_with(
        4,
        &[
            "is empty (shape [0]), expected the numbers of A or B",
            "hint: DeepSpeed's ZeRO-3",
        ],
    );
}

#[test]
fn an_old_index_is_passed_over_and_said() {
    let place = Place::new();
    let index = json!({ "weight_map": { "lm_head.weight": "model-00001-of-00002.safetensors" } });
    place.write("model/model.safetensors.index.json", &index.to_string());
    let ran = place.train("");
    assert!(
        ran.stderr
            .contains("the weights are those of `model.safetensors`"),
        "{}",
        ran.stderr
    );
    ran.ok();
    fs::rename(
        place.path("model/model.safetensors"),
        place.path("model/other.safetensors"),
    )
    .unwrap();
    place
        .run("inspect model model")
        .fails_with(4, &["`model.safetensors.index.json` names `model-00001-of-00002.safetensors`, which is not beside it"]);
}

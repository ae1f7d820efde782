//! Everything other than flags that can be wrong: each gives a message and an exit code, never a
//! panic.

use std::fs;
use std::os::unix::process::CommandExt;

use crate::helpers::{Place, ProgramOutput, exists};

#[test]
fn a_model_that_is_not_there() {
    Place::new().run("train --model nowhere --data data --task sst2").fails(
        4,
        "error: there is no model `nowhere`, expected a folder, a `.gguf` file or a hub name such as `org/name`\n\nhint: check the \
         spelling; a relative path starts where the command is run",
    );
}

#[test]
fn a_model_of_another_architecture() {
    let place = Place::new();
    let config = place
        .read("model/config.json")
        .replace("\"model_type\": \"llama\"", "\"model_type\": \"gpt2\"");
    place.write("model/config.json", &config);
    place.train("").fails_with(
        4,
        &[
            "model type `gpt2` of `config.json` is not supported, supported are llama, ",
            "hint: choose a model",
        ],
    );
}

#[test]
fn a_safetensors_file_that_is_cut_short() {
    let place = Place::new();
    let bytes = fs::read(place.path("model/model.safetensors")).unwrap();
    for length in [0, 7, 100, bytes.len() - 5] {
        fs::write(place.path("model/model.safetensors"), &bytes[..length]).unwrap();
        place
            .train("")
            .fails_with(4, &["model.safetensors", "hint: "]);
    }
}

#[test]
fn a_gguf_file_that_is_cut_short_or_is_none() {
    let place = Place::new();
    place.write("model.gguf", "GGUF\u{3}\0\0\0\u{9}\0\0\0");
    place
        .run("inspect model model.gguf")
        .fails_with(4, &["`model.gguf`"]);
    place.write("model.gguf", "something else entirely, and long enough");
    place
        .run("inspect model model.gguf")
        .fails_with(4, &["`model.gguf` is malformed"]);
}

#[test]
fn a_tokenizer_that_is_missing_or_malformed() {
    let place = Place::new();
    place.write("model/tokenizer.json", "{\"model\": 3}");
    place.train("").fails_with(
        4,
        &["the tokenizer of `model` cannot be used: `tokenizer.json` is malformed"],
    );
    fs::remove_file(place.path("model/tokenizer.json")).unwrap();
    place.train("").fails_with(
        4,
        &["there is no `tokenizer.json` beside the weights", "hint: "],
    );
}

#[test]
fn data_that_are_not_there() {
    Place::new()
        .run("train --model model --data nowhere")
        .fails(3, "error: could not read `nowhere`: No such file or directory (os error 2)\n\nhint: check the spelling of the path");
}

#[test]
fn a_label_that_is_out_of_range() {
    let place = Place::new();
    place.write(
        "data/train.jsonl",
        "{\"text\": \"a\", \"label\": 0}\n{\"text\": \"b\", \"label\": 2}\n",
    );
    place.train("").fails(
        3,
        "error: `data/train.jsonl` line 2: label `2` in field `label` is out of range, expected an index from 0 to 1 or one of \
         `Negative`, `Positive`\n\nhint: correct the row, or the answers and the label field",
    );
}

#[test]
fn a_set_that_is_empty() {
    let place = Place::new();
    place.write("data/train.jsonl", "");
    place.write("data/test.jsonl", "");
    place.train("").fails_with(3, &["has no rows"]);
}

#[test]
fn a_malformed_line() {
    let place = Place::new();
    place.write("data/test.jsonl", "{\"text\": \"a\"\n");
    place.train("").fails_with(
        3,
        &[
            "`data/test.jsonl` line 1 is malformed",
            "hint: a JSONL file has one JSON object on each line",
        ],
    );
}

#[test]
fn neither_model_nor_data_but_one_of_them() {
    let place = Place::new();
    place
        .run("train --data data")
        .fails_with(2, &["error: no model is named", "`--model`"]);
    place
        .run("train --model model")
        .fails_with(2, &["error: no data is named", "`--data`"]);
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_device_that_is_not_in_this_build() {
    Place::new().train("--device cuda").fails(
        2,
        "error: this build has no device `cuda`, it has `cpu`\n\nhint: build it in: `cargo install --path crates/ivon-lora-cli --features cuda`",
    );
}

#[test]
fn a_folder_that_holds_a_run_or_is_in_use() {
    let place = Place::new();
    place.train("").ok();
    place.train("").fails_with(
        6,
        &["`run` already holds a run", "hint: go on with `--resume`"],
    );
    place.train("--resume --learning-rate 9").fails_with(
        2,
        &["`run` was started with other settings: `optimizer.learning_rate` is 9.0, it was 2.0"],
    );
    let lock = fs::File::options()
        .write(true)
        .open(place.path("run/.lock"))
        .unwrap();
    lock.lock().unwrap();
    place.train("--resume").fails_with(
        6,
        &["`run` is in use by another run", "hint: wait for it to end"],
    );
}

#[test]
fn nothing_to_resume() {
    Place::new().train("--resume").fails_with(
        6,
        &[
            "holds no complete checkpoint",
            "hint: start the run without `--resume`",
        ],
    );
}

#[test]
fn a_file_where_a_folder_is_expected() {
    let place = Place::new();
    place.write("run", "");
    place.train("").fails_with(6, &["`run`"]);
}

#[test]
fn a_full_disk() {
    let place = Place::new();
    let mut command = place
        .command("train --model model --data data --task sst2 --out run --steps 6 --threads 1");
    // SAFETY: between fork and exec there are only two calls, both safe there. Files beyond 4 kB
    // fail as on a full disk.
    unsafe {
        command.pre_exec(|| {
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            let limit = libc::rlimit {
                rlim_cur: 4096,
                rlim_max: 4096,
            };
            if libc::setrlimit(libc::RLIMIT_FSIZE, &limit) == 0 {
                Ok(())
            } else {
                Err(std::io::Error::last_os_error())
            }
        });
    }
    ProgramOutput::of(command.output().unwrap())
        .fails_with(6, &["could not write `run/", "File too large"]);
    assert!(!exists(place.path("run/adapter")));
    // Once there is room, the same run finishes, resumed or from the start.
    place
        .run("train --model model --data data --task sst2 --out again --steps 6 --threads 1")
        .ok();
}

#[test]
fn a_loss_that_is_not_finite_stops_the_run_and_names_the_checkpoint() {
    let place = Place::new();
    let flags = "--optimizer adamw --learning-rate 1e38 --schedule constant --warmup 10 --eval-interval 20 --checkpoint-interval 1 --steps 20";
    let ran = place.run(&format!(
        "train --model model --data data --task sst2 --out run --threads 1 {flags}"
    ));
    ran.fails_with(
        5,
        &[
            "the loss of step ",
            "; the last good checkpoint is step ",
            "hint: start anew with a lower `--learning-rate`",
        ],
    );
}

#[test]
fn an_adapter_of_another_base() {
    let place = Place::new();
    place.train("").ok();
    place.add_model("other", "qwen3");
    place
        .run("evaluate --model other --adapter run/adapter --data data")
        .fails_with(4, &["model_type llama, but this one has qwen3", "hint: "]);
    place
        .run("merge --model other --adapter run/adapter --out merged")
        .fails_with(4, &["model_type"]);
    assert!(!exists(place.path("merged")));
}

#[test]
fn an_adapter_that_is_damaged() {
    let place = Place::new();
    place.train("").ok();
    let bytes = fs::read(place.path("run/adapter/adapter_model.safetensors")).unwrap();
    fs::write(
        place.path("run/adapter/adapter_model.safetensors"),
        &bytes[..bytes.len() - 4],
    )
    .unwrap();
    place
        .run("evaluate --model model --adapter run/adapter --data data")
        .fails_with(4, &["adapter_model.safetensors"]);
    place
        .run("inspect adapter run/adapter")
        .fails_with(4, &["adapter_model.safetensors"]);
    place
        .run("inspect adapter nowhere")
        .fails_with(4, &["nowhere"]);
    place.run("inspect run nowhere").fails_with(6, &["nowhere"]);
}

#[test]
fn a_base_that_nothing_names() {
    let place = Place::new();
    place.train("").ok();
    // The run's adapter names its base model, which is here under that name.
    place
        .run("evaluate --adapter run/adapter --data data --threads 1")
        .ok();
    fs::remove_file(place.path("run/adapter/ivon_lora.json")).unwrap();
    let mut config = place.json("run/adapter/adapter_config.json");
    config["base_model_name_or_path"] = serde_json::Value::Null;
    place.write("run/adapter/adapter_config.json", &config.to_string());
    place
        .run("merge --adapter run/adapter --out merged")
        .fails_with(
            2,
            &[
                "`--model` is absent, and `run/adapter` names no base",
                "hint: name the model that the adapter was trained on",
            ],
        );
    assert!(!exists(place.path("merged")));
}

#[test]
fn a_model_and_an_adapter_of_which_the_cache_has_a_part() {
    let place = Place::new();
    place.write("hub/hub/models--org--name/refs/main", "abc123");
    place.write(
        "hub/hub/models--org--name/snapshots/abc123/config.json",
        &place.read("model/config.json"),
    );
    let missing = |file: &str| {
        format!(
            "`{file}` of revision `main` is not in the cache, and HF_HUB_OFFLINE forbids the download"
        )
    };
    let fails = |arguments: &str, file: &str| {
        place
            .run(arguments)
            .fails_with(4, &[missing(file).as_str(), "hint: "])
    };
    fails(
        "train --model org/name --data data --task sst2",
        "tokenizer.json",
    );
    fails(
        "inspect model https://huggingface.co/org/name/tree/main",
        "model.safetensors",
    );
    fails("inspect adapter org/name", "adapter_config.json");
    place
        .run("evaluate --model model --adapter org/other --data data")
        .fails_with(4, &["revision `main` is not in the cache", "hint: "]);
}

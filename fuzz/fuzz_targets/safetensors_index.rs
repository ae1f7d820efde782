//! The index of sharded weights.
#![no_main]

use std::path::Path;

use ivon_lora_fuzz::{check, fixed, lay, look_at_weights, write};

fn prepare(folder: &Path) {
    lay(folder, "model", &["config.json"]);
    write(
        folder,
        "model-00001-of-00001.safetensors",
        fixed("model/model.safetensors"),
    );
}

fn parse(folder: &Path, data: &[u8]) {
    write(folder, "model.safetensors.index.json", data);
    look_at_weights(folder);
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| check(data, prepare, parse));

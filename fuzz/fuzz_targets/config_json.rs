//! A model's config.json, next to matching weights.
#![no_main]

use std::path::Path;

use ivon_lora_fuzz::{check, lay, look_at_weights, write};

fn prepare(folder: &Path) {
    lay(folder, "model", &["model.safetensors"]);
}

fn parse(folder: &Path, data: &[u8]) {
    write(folder, "config.json", data);
    look_at_weights(folder);
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| check(data, prepare, parse));

//! The index of weights in several files.
#![no_main]

use std::path::Path;

use ivon_lora::model::{Checkpoint, ModelError};
use ivon_lora_fuzz::{check, fixed, said, write};

fn prepare(folder: &Path) {
    write(folder, "config.json", &fixed("model/config.json"));
    write(
        folder,
        "model-00001-of-00001.safetensors",
        &fixed("model/model.safetensors"),
    );
}

fn parse(folder: &Path, data: &[u8]) {
    write(folder, "model.safetensors.index.json", data);
    let Some(checkpoint) = said(
        Checkpoint::open(&folder.to_string_lossy()),
        ModelError::hint,
    ) else {
        return;
    };
    let _ = said(checkpoint.fingerprint(), ModelError::hint);
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| check(data, prepare, parse));

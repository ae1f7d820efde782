//! The weights of a Hugging Face folder.
#![no_main]

use std::path::Path;

use ivon_lora::model::{Checkpoint, ModelError};
use ivon_lora_fuzz::{check, fixed, said, write};

fn prepare(folder: &Path) {
    write(folder, "config.json", &fixed("model/config.json"));
}

fn parse(folder: &Path, data: &[u8]) {
    write(folder, "model.safetensors", data);
    let Some(checkpoint) = said(
        Checkpoint::open(&folder.to_string_lossy()),
        ModelError::hint,
    ) else {
        return;
    };
    let _ = said(checkpoint.fingerprint(), ModelError::hint);
    for name in checkpoint.names() {
        let _ = said(checkpoint.tensor(&name), ModelError::hint);
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| check(data, prepare, parse));

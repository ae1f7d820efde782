//! GGUF: header, metadata, tensor table, tokenizer, and a look at each tensor.
#![no_main]

use std::path::Path;

use ivon_lora::model::{Checkpoint, ModelError};
use ivon_lora_fuzz::{check, said, write};

fn parse(folder: &Path, data: &[u8]) {
    let path = write(folder, "model.gguf", data);
    let Some(checkpoint) = said(Checkpoint::open(&path.to_string_lossy()), ModelError::hint) else {
        return;
    };
    let _ = said(checkpoint.fingerprint(), ModelError::hint);
    for name in checkpoint.names() {
        let _ = said(checkpoint.tensor(&name), ModelError::hint);
    }
    if let Some(tokenizer) = said(checkpoint.tokenizer(), ModelError::hint) {
        let _ = tokenizer.encode("The colour of 12 apples?\n", true);
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| check(data, |_| {}, parse));

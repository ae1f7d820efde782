//! The tokenizer's files: the first byte selects the file that the input is.
#![no_main]

use std::path::Path;

use ivon_lora::data::ChatTemplate;
use ivon_lora::model::{Checkpoint, ModelError};
use ivon_lora_fuzz::{check, choose, lay, said, write};

const NAMES: [&str; 4] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
];

fn prepare(folder: &Path) {
    lay(folder, "model", &["config.json", "model.safetensors"]);
    lay(folder, "model", &NAMES);
}

fn parse(folder: &Path, data: &[u8]) {
    let Some((name, rest)) = choose(&NAMES, data) else {
        return;
    };
    write(folder, name, rest);
    if let Some(checkpoint) = said(
        Checkpoint::open(&folder.to_string_lossy()),
        ModelError::hint,
    ) && let Some(tokenizer) = said(checkpoint.tokenizer(), ModelError::hint)
    {
        let tokens = tokenizer.encode("The colour of 12 apples?\n", true);
        let _ = tokens.map(|tokens| tokenizer.decode(&tokens));
        let _ = ChatTemplate::of(&tokenizer).map(|template| template.render("hi"));
    }
    lay(folder, "model", &[name]);
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| check(data, prepare, parse));

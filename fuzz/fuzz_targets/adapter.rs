//! An adapter's folder: the first byte says which of its files the input is.
#![no_main]

use std::cell::RefCell;
use std::path::Path;

use burn::tensor::Device;
use ivon_lora::lora::{self, LoraError, read_peft, read_peft_config};
use ivon_lora::model::{Checkpoint, DecoderConfig};
use ivon_lora::posterior::{PosteriorError, Sidecar};
use ivon_lora_fuzz::{check, fixed, fixed_path, said, write};

const NAMES: [&str; 3] = [lora::CONFIG_FILE, lora::ADAPTER_FILE, "ivon_lora.json"];

thread_local! {
    static DECODER: RefCell<Option<DecoderConfig>> = const { RefCell::new(None) };
}

fn prepare(folder: &Path) {
    for name in &NAMES[..2] {
        write(folder, name, &fixed(&format!("adapter/{name}")));
    }
    let checkpoint =
        Checkpoint::open(&fixed_path("model").to_string_lossy()).expect("the fixed model opens");
    DECODER.with_borrow_mut(|decoder| *decoder = Some(checkpoint.config().clone()));
}

fn parse(folder: &Path, data: &[u8]) {
    let Some((first, rest)) = data.split_first() else {
        return;
    };
    let name = NAMES[usize::from(*first) % NAMES.len()];
    write(folder, name, rest);
    match name {
        "ivon_lora.json" => drop(said(Sidecar::read(folder), PosteriorError::hint)),
        _ => DECODER.with_borrow(|decoder| {
            let decoder = decoder.as_ref().expect("prepared");
            let _ = said(read_peft_config(folder), LoraError::hint);
            let _ = said(read_peft(folder, decoder, &Device::flex()), LoraError::hint);
            write(folder, name, &fixed(&format!("adapter/{name}")));
        }),
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| check(data, prepare, parse));

//! An adapter's folder: the first byte selects the file that the input is.
#![no_main]

use std::path::Path;

use burn::tensor::Device;
use ivon_lora::bundle::{BundleError, Sidecar};
use ivon_lora::lora::{self, LoraError, read_peft, read_peft_config};
use ivon_lora_fuzz::{check, choose, fixed_decoder, lay, said, write};

const NAMES: [&str; 3] = [lora::CONFIG_FILE, lora::ADAPTER_FILE, "ivon_lora.json"];

fn prepare(folder: &Path) {
    lay(folder, "adapter", &NAMES[..2]);
}

fn parse(folder: &Path, data: &[u8]) {
    let Some((name, rest)) = choose(&NAMES, data) else {
        return;
    };
    write(folder, name, rest);
    match name {
        "ivon_lora.json" => drop(said(Sidecar::read(folder), BundleError::hint)),
        _ => {
            let _ = said(read_peft_config(folder), LoraError::hint);
            let _ = said(
                read_peft(folder, fixed_decoder(), &Device::flex()),
                LoraError::hint,
            );
            lay(folder, "adapter", &[name]);
        }
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| check(data, prepare, parse));

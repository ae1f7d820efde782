//! The file of a comparison.
#![no_main]

use std::path::Path;

use ivon_lora_fuzz::{check, said, write};
use ivon_lora_lab::compare::{CompareConfig, CompareError};

fn parse(folder: &Path, data: &[u8]) {
    let path = write(folder, "comparison.toml", data);
    let _ = said(CompareConfig::read(&path), CompareError::hint);
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| check(data, |_| {}, parse));

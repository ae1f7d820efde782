//! Predictions of another program, for a comparison.
#![no_main]

use std::path::Path;
use std::sync::Arc;

use ivon_lora::data::Example;
use ivon_lora_fuzz::{check, said, write};
use ivon_lora_lab::compare::{CompareError, read_external};

fn parse(folder: &Path, data: &[u8]) {
    let path = write(folder, "predictions.jsonl", data);
    let answers: Arc<[String]> = ["Negative".to_string(), "Positive".into()].into();
    let row = |id: &str| Example {
        label: Some(1),
        ..Example::from_prompt(id, "?", Arc::clone(&answers))
    };
    let (first, second) = (row("r0"), row("r1"));
    let _ = said(read_external(&path, &[&first, &second]), CompareError::hint);
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| check(data, |_| {}, parse));

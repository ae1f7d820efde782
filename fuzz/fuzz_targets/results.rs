//! The unpacked results of a comparison, and the table made from them.
#![no_main]

use std::path::Path;

use ivon_lora_fuzz::check;
use ivon_lora_lab::compare::read_results;

fn parse(_: &Path, data: &[u8]) {
    if let Ok(results) = read_results(data) {
        let _ = results.comparison().map(|made| made.table.to_csv());
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| check(data, |_| {}, parse));

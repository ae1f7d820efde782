//! The hub's answer about a model.
#![no_main]

use std::path::Path;

use ivon_lora::model::HubListing;
use ivon_lora_fuzz::check;

fn parse(_: &Path, data: &[u8]) {
    if let Err(reason) = HubListing::parse(data) {
        assert!(!reason.is_empty());
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| check(data, |_| {}, parse));

//! The folder of a run, as read by `inspect run`, `report` and `--resume`: the first byte selects
//! the file that the input is.
#![no_main]

use std::path::Path;

use ivon_lora::run::RunError;
use ivon_lora_fuzz::{check, choose, lay, said, write};
use ivon_lora_lab::report::RunRecord;

const NAMES: [&str; 8] = [
    "run.toml",
    "metrics.jsonl",
    "evaluation.json",
    "predictions.jsonl",
    "splits.json",
    "scale.json",
    "prune.json",
    "shift.json",
];

fn prepare(folder: &Path) {
    lay(folder, "run", &NAMES);
}

fn parse(folder: &Path, data: &[u8]) {
    let Some((name, rest)) = choose(&NAMES, data) else {
        return;
    };
    write(folder, name, rest);
    if let Some(record) = said(RunRecord::read(folder), RunError::hint) {
        let _ = said(record.page(), RunError::hint);
    }
    lay(folder, "run", &[name]);
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| check(data, prepare, parse));

//! The folder of a run, as `inspect run`, `report` and `--resume` read it: the first byte says which file the input is.
#![no_main]

use std::path::Path;

use ivon_lora::run::{RunError, RunRecord};
use ivon_lora_fuzz::{check, fixed, said, write};

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
    for name in NAMES {
        write(folder, name, &fixed(&format!("run/{name}")));
    }
}

fn parse(folder: &Path, data: &[u8]) {
    let Some((first, rest)) = data.split_first() else {
        return;
    };
    let name = NAMES[usize::from(*first) % NAMES.len()];
    write(folder, name, rest);
    if let Some(record) = said(RunRecord::read(folder), RunError::hint) {
        let _ = said(record.page(), RunError::hint);
    }
    write(folder, name, &fixed(&format!("run/{name}")));
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| check(data, prepare, parse));

//! A training checkpoint: the first byte selects the file that the input is.
#![no_main]

use std::path::Path;

use burn::tensor::Device;
use ivon_lora::lora::{self, read_peft};
use ivon_lora::method::{Method, Setup};
use ivon_lora::train::{Checkpoints, TrainConfig, TrainError};
use ivon_lora_fuzz::{check, choose, fixed_decoder, lay, said, write};

const STEP: &str = "step-3";
const NAMES: [&str; 3] = ["progress.json", "mean.safetensors", "optimizer.bin"];

fn prepare(folder: &Path) {
    std::fs::create_dir_all(folder.join(STEP)).expect("the folder in memory can be made");
    lay(&folder.join(STEP), "checkpoint", &NAMES);
    lay(folder, "adapter", &[lora::CONFIG_FILE, lora::ADAPTER_FILE]);
}

fn parse(folder: &Path, data: &[u8]) {
    let Some((name, rest)) = choose(&NAMES, data) else {
        return;
    };
    let step = folder.join(STEP);
    write(&step, name, rest);
    restore(folder, name);
    lay(&step, "checkpoint", &[name]);
}

fn restore(folder: &Path, name: &str) {
    let decoder = fixed_decoder();
    let checkpoints = Checkpoints::new(folder.into(), 2);
    let Some(saved) = said(
        checkpoints.load_newest(decoder, &Device::flex()),
        TrainError::hint,
    ) else {
        return;
    };
    if name == "optimizer.bin" {
        let device = Device::flex().autodiff();
        let start = read_peft(folder, decoder, &device)
            .expect("the fixed adapter opens")
            .adapter;
        let setup = Setup::new(&TrainConfig::default(), 40, 0.0, 1);
        let mut optimizer = Method::default()
            .settings()
            .start(start, &setup)
            .expect("the method starts");
        let _ = said(
            optimizer.restore(saved.adapter, &saved.state),
            TrainError::hint,
        );
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| check(data, prepare, parse));

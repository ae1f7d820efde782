//! A checkpoint of training: the first byte says which of its files the input is.
#![no_main]

use std::cell::RefCell;
use std::path::Path;

use burn::tensor::Device;
use ivon_lora::lora::{self, read_peft};
use ivon_lora::method::{Method, Setup};
use ivon_lora::model::{Checkpoint, DecoderConfig};
use ivon_lora::train::{Checkpoints, TrainConfig, TrainError};
use ivon_lora_fuzz::{check, fixed, fixed_path, said, write};

const STEP: &str = "step-3";
const NAMES: [&str; 3] = ["progress.json", "mean.safetensors", "optimizer.bin"];

thread_local! {
    static DECODER: RefCell<Option<DecoderConfig>> = const { RefCell::new(None) };
}

fn prepare(folder: &Path) {
    std::fs::create_dir_all(folder.join(STEP)).expect("the folder in memory can be made");
    for name in NAMES {
        write(
            &folder.join(STEP),
            name,
            &fixed(&format!("checkpoint/{name}")),
        );
    }
    for name in [lora::CONFIG_FILE, lora::ADAPTER_FILE] {
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
    let step = folder.join(STEP);
    write(&step, name, rest);
    DECODER.with_borrow(|decoder| {
        let decoder = decoder.as_ref().expect("prepared");
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
    });
    write(&step, name, &fixed(&format!("checkpoint/{name}")));
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| check(data, prepare, parse));

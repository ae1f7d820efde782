//! A posterior beside a mean that fits it, of any of the kinds.
#![no_main]

use std::cell::RefCell;
use std::path::Path;

use burn::tensor::Device;
use ivon_lora::lora::{self, Adapter, read_peft};
use ivon_lora::model::{Checkpoint, DecoderConfig};
use ivon_lora::posterior::{POSTERIOR_FILE, PosteriorError, load_posterior};
use ivon_lora_fuzz::{check, fixed, fixed_path, said, write};

thread_local! {
    static MEAN: RefCell<Option<(Adapter, DecoderConfig)>> = const { RefCell::new(None) };
}

fn prepare(folder: &Path) {
    for name in [lora::CONFIG_FILE, lora::ADAPTER_FILE] {
        write(folder, name, &fixed(&format!("adapter/{name}")));
    }
    let checkpoint =
        Checkpoint::open(&fixed_path("model").to_string_lossy()).expect("the fixed model opens");
    let decoder = checkpoint.config().clone();
    let mean = read_peft(folder, &decoder, &Device::flex())
        .expect("the fixed adapter opens")
        .adapter;
    MEAN.with_borrow_mut(|place| *place = Some((mean, decoder)));
}

fn parse(folder: &Path, data: &[u8]) {
    write(folder, POSTERIOR_FILE, data);
    MEAN.with_borrow(|place| {
        let (mean, decoder) = place.as_ref().expect("prepared");
        let posterior = load_posterior(folder, mean.clone(), decoder, &Device::flex());
        if let Some(posterior) = said(posterior, PosteriorError::hint) {
            let _ = said(posterior.draw(0, 1, 1.0), PosteriorError::hint);
        }
    });
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| check(data, prepare, parse));

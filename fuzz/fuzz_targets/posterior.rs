//! A posterior of any kind, next to a matching mean.
#![no_main]

use std::cell::RefCell;
use std::path::Path;

use burn::tensor::Device;
use ivon_lora::bundle::{BundleError, POSTERIOR_FILE, load_posterior};
use ivon_lora::lora::{self, Adapter, read_peft};
use ivon_lora::posterior::PosteriorError;
use ivon_lora_fuzz::{check, fixed_decoder, lay, said, write};

thread_local! {
    static MEAN: RefCell<Option<Adapter>> = const { RefCell::new(None) };
}

fn prepare(folder: &Path) {
    lay(folder, "adapter", &[lora::CONFIG_FILE, lora::ADAPTER_FILE]);
    let mean = read_peft(folder, fixed_decoder(), &Device::flex())
        .expect("the fixed adapter opens")
        .adapter;
    MEAN.with_borrow_mut(|place| *place = Some(mean));
}

fn parse(folder: &Path, data: &[u8]) {
    write(folder, POSTERIOR_FILE, data);
    MEAN.with_borrow(|place| {
        let mean = place.as_ref().expect("prepared");
        let posterior = load_posterior(folder, mean.clone(), fixed_decoder(), &Device::flex());
        if let Some(posterior) = said(posterior, BundleError::hint) {
            let _ = said(posterior.draw(0, 1, 1.0), PosteriorError::hint);
        }
    });
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| check(data, prepare, parse));

//! Rows as parquet.
#![no_main]

use std::path::Path;

use ivon_lora::data::{Continue, DataError, for_each_row};
use ivon_lora_fuzz::{check, said, write};

fn parse(folder: &Path, data: &[u8]) {
    let path = write(folder, "rows.parquet", data);
    let _ = said(
        for_each_row(&path, &mut |_| Ok(Continue::Yes)),
        DataError::hint,
    );
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| check(data, |_| {}, parse));

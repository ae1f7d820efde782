//! Rows as CSV or TSV: the first byte selects which.
#![no_main]

use std::path::Path;

use ivon_lora::data::{Continue, DataError, for_each_row};
use ivon_lora_fuzz::{check, said, write};

fn parse(folder: &Path, data: &[u8]) {
    let Some((first, rest)) = data.split_first() else {
        return;
    };
    let path = write(
        folder,
        ["rows.csv", "rows.tsv"][usize::from(first % 2)],
        rest,
    );
    let _ = said(
        for_each_row(&path, &mut |_| Ok(Continue::Yes)),
        DataError::hint,
    );
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| check(data, |_| {}, parse));

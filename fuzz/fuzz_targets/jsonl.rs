//! Rows as JSON lines, and the examples that a task makes of them.
#![no_main]

use std::path::Path;

use ivon_lora::data::{DataError, Task, load_file};
use ivon_lora_fuzz::{check, said, write};

fn parse(folder: &Path, data: &[u8]) {
    let Some((first, rest)) = data.split_first() else {
        return;
    };
    let path = write(folder, "rows.jsonl", rest);
    let task = match first % 6 {
        0 => Task::named("multiple_choice"),
        1 => Task::named("boolq"),
        2 => Task::named("chat"),
        3 => Task::named("completion"),
        4 => Task::named("text"),
        _ => Task::custom(
            "Review: {text} Sentiment:",
            vec!["Negative".into(), "Positive".into()],
            "label",
        ),
    };
    let Some(task) = said(task, DataError::hint) else {
        return;
    };
    let _ = said(load_file(&path, &task), DataError::hint);
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| check(data, |_| {}, parse));

//! The method of docs/adding-a-method.md, which lives outside of the library, and the page itself.

use burn::tensor::Device;
use ivon_lora::forward::Network;
use ivon_lora::method::{Settings, conformance};
use ivon_lora::model::{BasePrecision, Checkpoint, Decoder};
use ivon_lora::testing::golden;

#[allow(dead_code)]
#[path = "../examples/own_method.rs"]
mod own_method;

use own_method::Proportional;

fn network() -> Network {
    let checkpoint = Checkpoint::open(golden().join("tiny/qwen2").to_str().unwrap()).unwrap();
    Network::new(
        Decoder::load(&checkpoint, BasePrecision::F32).unwrap(),
        &Device::flex(),
        false,
    )
}

#[test]
fn a_method_outside_of_the_library_keeps_the_same_promises() {
    let folder = tempfile::tempdir().unwrap();
    conformance::check(
        &Proportional {
            learning_rate: 0.1,
            spread: 0.2,
        },
        &network(),
        folder.path(),
    )
    .unwrap();
    let wrong = Proportional {
        learning_rate: 0.1,
        spread: -1.0,
    }
    .validate()
    .unwrap_err();
    assert_eq!(
        wrong.to_string(),
        "`spread` is `-1`, expected from 0 to below 1e9"
    );
}

#[test]
fn the_page_shows_the_file_as_it_is() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let file =
        std::fs::read_to_string(format!("{root}/crates/ivon-lora/examples/own_method.rs")).unwrap();
    let page = std::fs::read_to_string(format!("{root}/docs/adding-a-method.md")).unwrap();
    let blocks: Vec<&str> = page
        .split("```rust\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert!(blocks.len() >= 4);
    let form = include_str!("../../ivon-lora-model/src/lora/side/form.rs");
    for block in blocks {
        // The example as it is, the traits of a side without their comments.
        let found = file.contains(block) || bare(form).contains(&bare(block));
        assert!(
            found,
            "docs/adding-a-method.md shows what neither the example nor form.rs has:\n{block}"
        );
    }
    // The method itself: neither what it imports nor the program that checks it.
    let method = file.split("\nfn main()").next().unwrap_or_default();
    let code = method
        .lines()
        .map(str::trim_start)
        .filter(|line| !line.is_empty() && !line.starts_with("//") && !line.starts_with("use "))
        .count();
    assert!(code <= 160, "{code} lines of at most 100 columns");
}

/// The lines of code that are no comment and not empty.
fn bare(text: &str) -> String {
    let code = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with("//");
    text.lines()
        .filter(code)
        .map(|line| format!("{line}\n"))
        .collect()
}

//! Checks the docs and every message of the workspace against the commands that exist.

mod docs;
mod hints;

use super::*;

#[test]
fn a_panic_names_the_library_that_it_is_in() {
    let file = "/root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f/ureq-3.5.2/src/run.rs";
    assert_eq!(library(file), Some("ureq-3.5.2"));
    assert_eq!(library("crates/ivon-lora/src/model/hub.rs"), None);
}

#![doc = include_str!("../README.md")]
//!
//! # Rooms
//!
//! The modules are in the order of the data's path; each uses only those above it.

#[doc(hidden)]
pub use ivon_lora_model::testing;
pub use ivon_lora_model::{
    data, files, forward, kernel, lora, model, random, sentence, settings, watch, words,
};

pub mod ranks;
pub mod metrics;
pub mod decide;
pub mod posterior;
pub mod bundle;
pub mod predict;
pub mod generate;
pub mod train;
pub mod answer;
pub mod method;
pub mod run;
